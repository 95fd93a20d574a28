-- Compound and partial indexes: "x-indexes": [{"fields": ["city", "-age"], "where": {"status": "open"}}].

create or replace function data.index_fields(definition jsonb) returns text[]
language sql immutable set search_path = '' as $$
  select array(select ltrim(f, '-') from jsonb_array_elements_text(definition->'fields') with ordinality o (f, n) order by n)
$$;
comment on function data.index_fields(jsonb) is 'The fields that an entry of x-indexes sorts by, without their directions.';

create or replace function data.filter_fields(filter jsonb) returns text[]
language sql immutable set search_path = '' as $$
  select array(
    select distinct k from jsonb_path_query(filter, '$.** ? (@.type() == "object")') o, jsonb_object_keys(o) k where k !~ '^\$' order by k)
$$;
comment on function data.filter_fields(jsonb) is 'The fields that a filter names, at any depth.';

create or replace function data.indexed_together(schema jsonb) returns text[]
language sql immutable set search_path = '' as $$
  select array(
    select distinct f from jsonb_array_elements(indexed_together.schema->'x-indexes') i,
      unnest(data.index_fields(i) || data.filter_fields(i->'where')) f order by f)
$$;
comment on function data.indexed_together(jsonb) is 'The fields that a schema''s x-indexes name: in jsonb storage they have columns.';

create or replace function data.index_violations(schema jsonb) returns jsonb
language plpgsql immutable set search_path = '' as $$
declare
  _indexes jsonb := schema->'x-indexes';
  _properties jsonb := schema->'properties';
  _errors jsonb := '[]';
  _index jsonb;
  _pointer text;
  _name text;
begin
  if _indexes is null then
    return '[]';
  elsif jsonb_typeof(_indexes) <> 'array' or jsonb_array_length(_indexes) > 16 then
    return data.violation('/x-indexes', 'is a list of at most 16 indexes: [{"fields": ["city", "-age"], "where": {"status": "open"}}]');
  end if;
  for _index, _pointer in select i, '/x-indexes/' || n - 1 from jsonb_array_elements(_indexes) with ordinality o (i, n) loop
    if jsonb_typeof(_index) <> 'object' or _index - 'fields' - 'where' <> '{}'
      or jsonb_typeof(_index->'fields') is distinct from 'array' then
      return data.violation(_pointer, 'has fields, a list, and where, a filter, and nothing else');
    elsif jsonb_array_length(_index->'fields') not between 1 and 8
      or jsonb_path_exists(_index, '$.fields[*] ? (@.type() != "string" || !(@ like_regex "^-?[a-z]"))')
      or (select count(distinct f) <> count(*) from unnest(data.index_fields(_index)) f)
    then
      return data.violation(_pointer || '/fields', 'is a list of 1 to 8 different fields, "-age" for descending');
    elsif _index ? 'where'
      and (jsonb_typeof(_index->'where') <> 'object' or _index->'where' = '{}' or length((_index->'where')::text) > 4000) then
      return data.violation(_pointer || '/where', 'is a filter of at most 4,000 characters');
    elsif jsonb_path_exists(_index->'where', '$.** ? (@ like_regex "^\\$[a-z_]+(\\.|$)")') then
      _errors := _errors || data.violation(_pointer || '/where',
        'holds for everybody and always: it compares with values, not with $account or the like');
    end if;
    foreach _name in array data.index_fields(_index) || data.filter_fields(_index->'where') loop
      if not _name = any (data.system_columns()) and (not _properties ? _name or _name = 'data'
        or coalesce(data.kind(_properties->_name) in ('array', 'object', 'any'), true) or data.is_virtual(_properties->_name))
      then
        _errors := _errors || data.violation(_pointer,
          format('%s is no property that can be indexed: it must be a scalar of the entity itself, and stored', left(_name, 60)));
      end if;
    end loop;
  end loop;
  if (select count(distinct i) <> count(*) from jsonb_array_elements(_indexes) i) then
    _errors := _errors || data.violation('/x-indexes', 'names an index twice');
  end if;
  return _errors;
end
$$;
comment on function data.index_violations(jsonb) is 'What is wrong with a schema''s x-indexes: a JSON array of {pointer, message}.';

-- A list is compared in a subquery, which an index cannot have.
create or replace function data.without_lists(filter jsonb) returns jsonb
language plpgsql immutable set search_path = '' as $$
declare
  _parts jsonb := '[]';
  _alternatives jsonb;
  _c record;
begin
  for _c in
    select c.key as field, c.value, o.key as operator, o.value as operand
    from jsonb_each(case jsonb_typeof(filter) when 'object' then filter else '{}' end) c
    left join lateral jsonb_each(case when jsonb_typeof(c.value) = 'object' and c.key !~ '^\$' then c.value end) o on true
  loop
    _parts := _parts || jsonb_build_array(case
      when _c.field in ('$and', '$or') and jsonb_typeof(_c.value) = 'array' then
        jsonb_build_object(_c.field, (select coalesce(jsonb_agg(data.without_lists(v)), '[]') from jsonb_array_elements(_c.value) v))
      when _c.field = '$not' then jsonb_build_object('$not', data.without_lists(_c.value))
      when _c.operator is null then jsonb_build_object(_c.field, _c.value)
      when _c.operator = '$not' then jsonb_build_object('$not', data.without_lists(jsonb_build_object(_c.field, _c.operand)))
      when _c.operator in ('$in', '$nin') and jsonb_typeof(_c.operand) = 'array' then
        (select case _c.operator when '$in' then a else jsonb_build_object('$not', a) end
        from (select jsonb_build_object('$or', coalesce(jsonb_agg(jsonb_build_object(_c.field, v)), '[]'))
          from jsonb_array_elements(_c.operand) v) x (a))
      else jsonb_build_object(_c.field, jsonb_build_object(_c.operator, _c.operand))
    end);
  end loop;
  return jsonb_build_object('$and', _parts);
end
$$;
comment on function data.without_lists(jsonb) is 'A filter that means the same, with $or in place of $in and $nin.';

create or replace function data.index_predicate(entity data.entities, definition jsonb) returns text
language plpgsql stable set search_path = '' set timezone = 'UTC' as $$
declare
  _alias text := quote_ident(data.storage_name(entity));
  _p record := data.parameterize(data.without_lists(definition->'where'), '{}');
  _predicate text := data.compile_filter(entity.id, _p.shape, _alias, _p.parameters);
begin
  -- Parsing makes constants of the values, and so tells which of them a field cannot have.
  execute format('select from (select %s) %s where %s', (select string_agg(format('null::%s as %I', e.sql_type, f), ', ')
    from unnest(data.filter_fields(definition->'where')) f, data.field_expression(entity.id, f, 't') e), _alias, _predicate);
  return _predicate;
exception when data_exception then
  perform rowhouse.fail(400, format('The filter of an index of %s has a value that its field cannot have: %s', entity.name, sqlerrm),
    'Compare fields with values of their type.', 'invalid_schema', data.violation('/x-indexes', sqlerrm));
end
$$;
comment on function data.index_predicate(data.entities, jsonb) is 'The where of an entry of x-indexes as SQL over the storage table. RH400.';

create or replace function data.compound_index_name(entity data.entities, schema jsonb, definition jsonb) returns text
language sql stable set search_path = '' as $$
  select data.index_name(entity, 'ix', left(md5(definition::text || coalesce(string_agg(
      f || ' ' || coalesce(data.sql_type(compound_index_name.schema->'properties'->f), ''), ', ' order by f), '')), 8))
  from unnest(data.index_fields(definition) || data.filter_fields(definition->'where')) f
$$;
comment on function data.compound_index_name(data.entities, jsonb, jsonb) is
  'The name of the index that an entry of a schema''s x-indexes becomes. What is indexed otherwise, or of another type, has another name.';

-- The id comes last, in the direction of the last field, as in every sort (data.compile_find): a page is read off the index.
create or replace function data.compound_index_statement(entity data.entities, schema_name text, definition jsonb) returns text
language sql stable set search_path = '' as $$
  select format('create index if not exists %I on %s (%s)%s', data.compound_index_name(entity, entity.schema, definition),
    data.storage_table(entity, compound_index_statement.schema_name),
    string_agg(format(case when f ~ '^-' then '%I desc' else '%I' end, ltrim(f, '-')), ', ' order by n),
    case when definition ? 'where' then ' where ' || data.index_predicate(entity, definition) else '' end)
  from (
    select f, n from jsonb_array_elements_text(definition->'fields') with ordinality o (f, n)
    union all
    select case when definition->'fields'->>-1 ~ '^-' then '-id' else 'id' end, 100 where not 'id' = any (data.index_fields(definition))
  ) c (f, n)
$$;
comment on function data.compound_index_statement(data.entities, text, jsonb) is 'The statement that creates the index of an entry of x-indexes. RH400.';

create or replace function data.rename_in_index(definition jsonb, renames jsonb) returns jsonb
language sql immutable set search_path = '' as $$
  select jsonb_strip_nulls(jsonb_build_object('fields', (
      select jsonb_agg(case when f ~ '^-' then '-' else '' end || coalesce(r.key, ltrim(f, '-')) order by n)
      from jsonb_array_elements_text(definition->'fields') with ordinality o (f, n)
      left join jsonb_each_text(renames) r on r.value = ltrim(f, '-')),
    'where', data.rename_in_filter(definition->'where', renames)))
$$;
comment on function data.rename_in_index(jsonb, jsonb) is 'An entry of x-indexes with its fields'' new names; renames is {new: old}.';

create or replace function data.rename_in_filter(filter jsonb, renames jsonb) returns jsonb
language sql immutable set search_path = '' as $$
  select case jsonb_typeof(filter)
    when 'object' then (select coalesce(jsonb_object_agg(coalesce(r.key, k.key), data.rename_in_filter(k.value, renames)), '{}')
      from jsonb_each(filter) k left join jsonb_each_text(renames) r on r.value = k.key)
    when 'array' then (select coalesce(jsonb_agg(data.rename_in_filter(v, renames) order by n), '[]')
      from jsonb_array_elements(filter) with ordinality o (v, n))
    else filter end
$$;
comment on function data.rename_in_filter(jsonb, jsonb) is 'A filter with its fields'' new names; renames is {new: old}.';

create or replace function data.compound_index_statements(entity data.entities, schema_name text, renames jsonb) returns text[]
language sql stable set search_path = '' as $$
  with wanted as (
    select data.compound_index_name(entity, entity.schema, i) as name,
      data.compound_index_statement(entity, compound_index_statements.schema_name, i) as statement
    from jsonb_array_elements(entity.schema->'x-indexes') i
  ), found as (
    select c.relname::text as name
    from pg_catalog.pg_index x join pg_catalog.pg_class c on c.oid = x.indexrelid
    where x.indrelid = to_regclass(data.storage_table(entity, compound_index_statements.schema_name)) and c.relname ~ '_ix_[0-9a-f]{8}$'
      -- An index goes with a column that is made anew.
      and not exists (select from data.fields f join pg_catalog.pg_attribute a on a.attrelid = x.indrelid and a.attname = f.name
        where f.entity_id = entity.id and (f.is_filling or f.is_building) and not f.is_promoted and a.attnum = any (x.indkey))
  ), renamed as (
    select distinct on (w.name) f.name as old_name, w.name
    from data.entity_versions v cross join jsonb_array_elements(v.schema->'x-indexes') i cross join data.rename_in_index(i, renames) r
    join wanted w on w.name = data.compound_index_name(entity, entity.schema, r)
    join found f on f.name = data.compound_index_name(entity, v.schema, i)
    where v.entity_id = entity.id and v.version = entity.version - 1 and r <> i
      and data.index_types(v.schema, i) = data.index_types(entity.schema, r)
      and not exists (select from found o where o.name = w.name)
  )
  select array(select format('drop index if exists %I.%I', compound_index_statements.schema_name, f.name) from found f
      where f.name not in (select name from wanted) and f.name not in (select old_name from renamed) order by f.name)
    || array(select format('alter index %I.%I rename to %I', compound_index_statements.schema_name, r.old_name, r.name) from renamed r
      order by r.name)
    || array(select w.statement from wanted w where w.name not in (select name from found) and w.name not in (select name from renamed)
      order by w.name)
$$;
comment on function data.compound_index_statements(data.entities, text, jsonb) is
  'The statements that make the indexes of an entity''s storage those of its x-indexes; renames maps new names of fields to old ones.';

create or replace function data.index_types(schema jsonb, definition jsonb) returns text[]
language sql immutable set search_path = '' as $$
  select array(select coalesce(data.sql_type(index_types.schema->'properties'->f), '')
    from unnest(data.index_fields(definition)) with ordinality o (f, n) order by n)
    || array(select data.sql_type(p.value) from jsonb_each(index_types.schema->'properties') p
      where p.key = any (data.filter_fields(definition->'where')) order by data.sql_type(p.value))
$$;
comment on function data.index_types(jsonb, jsonb) is 'The types of the columns that an entry of x-indexes names.';
