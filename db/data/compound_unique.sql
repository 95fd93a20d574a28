-- "x-unique": [["first", "last"]] at the top of a schema: no two records have the same values in all of them. As in SQL, a
-- record in which one of them is null is like no other.

create or replace function data.unique_sets(schema jsonb) returns table (fields text[])
language sql immutable set search_path = '' as $$
  select array(select jsonb_array_elements_text(s))
  from jsonb_array_elements(case jsonb_typeof(unique_sets.schema->'x-unique') when 'array' then unique_sets.schema->'x-unique'
    else '[]' end) s
$$;
comment on function data.unique_sets(jsonb) is 'The lists of properties that an entity''s schema says are unique together.';

-- Two underscores, which no name of a property has, so that first + last is not the key of a property first_last.
create or replace function data.unique_name(entity data.entities, fields text[]) returns text
language sql immutable set search_path = '' as $$
  select data.index_name(entity, array_to_string(unique_name.fields, '__'), 'key')
$$;
comment on function data.unique_name(data.entities, text[]) is 'The name of the index of properties that are unique together: contacts_first__last_key.';

create or replace function data.unique_violations(schema jsonb) returns jsonb
language plpgsql immutable set search_path = '' as $$
declare
  _properties jsonb := unique_violations.schema->'properties';
  _errors jsonb := '[]';
  _set jsonb;
  _n int;
  _problem text;
begin
  if not unique_violations.schema ? 'x-unique' then
    return '[]';
  elsif jsonb_typeof(unique_violations.schema->'x-unique') <> 'array' or jsonb_array_length(unique_violations.schema->'x-unique') > 20 then
    return data.violation('/x-unique', 'must be a list of at most 20 lists of properties: [["first", "last"]]');
  end if;
  for _set, _n in select s, n - 1 from jsonb_array_elements(unique_violations.schema->'x-unique') with ordinality x (s, n) loop
    _problem := case
      when jsonb_typeof(_set) <> 'array' or jsonb_array_length(_set) not between 2 and 8 or _set @? '$[*] ? (@.type() != "string")'
        then 'must be a list of 2 to 8 names of properties; one alone has "x-unique": true'
      when (select count(distinct f) < count(*) from jsonb_array_elements_text(_set) f) then 'names a property twice'
      when exists (select from jsonb_array_elements(unique_violations.schema->'x-unique') with ordinality y (o, m)
        where m - 1 < _n and o @> _set and _set @> o)
        then 'is there already'
      else (
        select min(format('%s %s', left(f, 60), case when not _properties ? f then 'is not a property'
          when data.kind(_properties->f) in ('array', 'object') or f = 'data' then 'cannot be unique: it is no scalar, or named data'
          when data.is_virtual(_properties->f) then 'is computed when it is read: write {"expression": "…", "stored": true}' end))
        from jsonb_array_elements_text(_set) f
        where not _properties ? f or data.kind(_properties->f) in ('array', 'object') or f = 'data' or data.is_virtual(_properties->f)) end;
    if _problem is not null then
      _errors := _errors || data.violation('/x-unique/' || _n, _problem);
    end if;
  end loop;
  return _errors;
end
$$;
comment on function data.unique_violations(jsonb) is 'What is wrong with the top-level x-unique of a schema: a JSON array of {pointer, message}.';

create or replace function data.unique_set_statements(entity data.entities, schema_name text, old data.fields[], renames jsonb)
  returns text[]
language sql stable set search_path = '' as $$
  with wanted as (
    select data.unique_name(entity, s.fields) as name, s.fields from data.unique_sets(entity.schema) s
  ), found as (
    select c.relname::text as name, (
      select array_agg(a.attname::text)
      from pg_catalog.pg_attribute a
      where a.attrelid = i.indrelid and a.attnum = any (i.indkey)) as columns
    from pg_catalog.pg_index i join pg_catalog.pg_class c on c.oid = i.indexrelid
    where i.indrelid = to_regclass(data.storage_table(entity, unique_set_statements.schema_name)) and i.indisunique and i.indnkeyatts > 1
  ), kept as (
    select f.name from found f join wanted w on w.name = f.name and w.fields @> f.columns
    where not exists (select from data.field_changes(entity, unique_set_statements.old, renames) c
      where (c.old_field).name = any (f.columns) and (c.moved or (c.field).name is distinct from (c.old_field).name))
  )
  select array(select format('drop index if exists %I.%I', unique_set_statements.schema_name, f.name) from found f
      where not exists (select from kept k where k.name = f.name) order by f.name)
    || array(select format('create unique index if not exists %I on %s (%s)', w.name,
      data.storage_table(entity, unique_set_statements.schema_name),
        (select string_agg(quote_ident(f), ', ' order by n) from unnest(w.fields) with ordinality x (f, n)))
      from wanted w where not exists (select from kept k where k.name = w.name) order by w.name)
$$;
comment on function data.unique_set_statements(data.entities, text, data.fields[], jsonb) is
  'The statements that make the unique indexes over several columns those that an entity''s schema asks for.';

create or replace function data.unique_set_offenders(entity data.entities, records text, changes jsonb) returns jsonb
language plpgsql stable set search_path = '' as $$
declare
  _fields text[];
  _columns text[];
  _found jsonb;
  _out jsonb := '[]';
begin
  for _fields in
    select s.fields from data.unique_sets(entity.schema) s
    where exists (select from jsonb_array_elements(changes) c
      where c->>'option' = 'x-unique' and not coalesce(c->'from', '[]') @> jsonb_build_array(to_jsonb(s.fields)))
  loop
    _columns := array(select data.column_value(f, 'r.data') from unnest(_fields) with ordinality x (name, n)
      join data.fields f on f.entity_id = entity.id and f.name = x.name order by x.n);
    execute format('select jsonb_agg(jsonb_build_object(''pointer'', %L, ''message'', format(''are together the same in %%s records'', n), ''id'', id))
      from (select count(*) as n, min(r.id::text) as id from (%s) r where %s group by %s having count(*) > 1 limit 20) x',
      '/' || _fields[1], records, (select string_agg(format('(%s) is not null', c), ' and ') from unnest(_columns) c),
      array_to_string(_columns, ', ')) into _found;
    _out := _out || coalesce(_found, '[]');
  end loop;
  return _out;
end
$$;
comment on function data.unique_set_offenders(data.entities, text, jsonb) is
  'Records that break what changes say is unique together, as [{id, pointer, message}], up to 20 each; records is a query for id and data.';

create or replace function data.constraint_fields(entity data.entities, constraint_name text) returns text[]
language sql stable set search_path = '' as $$
  select coalesce(
    (select array[f.name] from data.fields f where f.entity_id = entity.id
      and constraint_fields.constraint_name in (data.index_name(entity, f.name, 'key'), data.index_name(entity, f.name, 'fkey'))),
    (select s.fields from data.unique_sets(entity.schema) s where constraint_fields.constraint_name = data.unique_name(entity, s.fields)
      limit 1), '{}')
$$;
comment on function data.constraint_fields(data.entities, text) is 'The properties that a unique or foreign key of an entity is about.';
