-- A list of records is written by one statement, which says of each record itself whether it fits and what its columns are. Rows of a storage
-- that say nothing of the kind (_schema_version 0, the default) pass the write rule one by one: records that do not fit or have nulls, and
-- all of an entity whose writes need more, and those that bring links. Nobody but the platform's functions can name that column, so nobody passes the rule by.
-- 1,000 records of 8 fields, CPU µs each: COPY into a table of id, data and created_at 5.8; this 7.9 without an index of a field (each
-- 3.5) and without the check, which is 3.2: types 0.8, date, address, amount and unknown names 0.4 each, reading 0.4.

create or replace function data.record_check(entity data.entities, value text) returns text
language sql stable set search_path = '' as $$
  select case
    when data.compile_rules(entity.schema, '_v0') = '' then c
    when data.computed_names(entity.schema) = '{}' then 'case when ' || c || ' then ' || data.rules_check(entity.schema, record_check.value)
      || ' else false end' end
  from data.fast_check(entity.schema, record_check.value) c
$$;
comment on function data.record_check(data.entities, text) is
  'SQL that is true for a record of an entity (jsonb expression value) that needs no further look, else false; null where there is none.';

create or replace function data.stored_columns(entity data.entities, source text)
  returns table (name text, expression text, is_indexed boolean)
language sql stable set search_path = '' as $$
  select f.name, data.column_value(f, stored_columns.source), f.is_indexed from data.fields f
  where f.entity_id = entity.id and (f.is_promoted or f.is_building) order by f.position
$$;
comment on function data.stored_columns(data.entities, text) is
  'The columns that an entity''s storage has for fields, with the SQL that reads each from the jsonb expression source.';

create or replace function data.default_values(entity_id uuid) returns jsonb
language sql stable set search_path = '' as $$
  select coalesce(jsonb_object_agg(f.name, f.schema->'default'), '{}')
  from data.fields f
  where f.entity_id = default_values.entity_id and f.schema ? 'default'
$$;
comment on function data.default_values(uuid) is 'The defaults of an entity''s properties.';

-- Reading a property costs 0.1 to 0.25 µs, and its tests read it two to six times.
create or replace function data.read_once(inout check_text text, properties jsonb, value text, out columns text)
language plpgsql immutable set search_path = '' as $$
declare
  _read text;
  _name text;
  _n int := 0;
begin
  columns := '';
  for _read in
    -- As data.fit writes them. A literal of the schema cannot hold one: its quotes are doubled.
    select format(f, read_once.value, p) from jsonb_object_keys(properties) p, unnest(array['(%s->%L)', '(%s->>%L)']) f order by 1
  loop
    if length(check_text) - length(replace(check_text, _read, '')) > length(_read) or _read ~ '->>' and strpos(check_text, _read) > 0 then
      _n := _n + 1;
      _name := 'v' || _n;
      check_text := replace(check_text, _read, 'v.' || _name);
      columns := columns || format(', %s as %s', _read, _name);
    end if;
  end loop;
end
$$;
comment on function data.read_once(text, jsonb, text) is
  'A check of a record with the properties that it reads more than once replaced by columns (v.v1 …), and a select list, beginning with a comma, that gives those.';

-- To compile it takes 2.5 ms for 8 properties: once for an entity's functions.
create or replace function data.list_check(entity data.entities) returns text
language sql stable set search_path = '' as $$
  select case
    when not entity.schema ? 'x-ttl' and data.computed_names(entity.schema) = '{}' and data.aliases(entity.schema) = '{}'
      and access.compile_new_check(entity, 'names') = ''
    then data.record_check(entity, 'v.data') end
$$;
comment on function data.list_check(data.entities) is
  'SQL that is true for a record of a list (v.data) that needs no further look, else false; null where the write rule is to see every one.';

create or replace function data.records_source(records text) returns text
language sql immutable set search_path = '' as $$
  select format($sql$(select case when r ? 'id' then coalesce((r->>'id')::uuid, uuidv7()) else uuidv7() end as id,
      case when r ? 'id' then r - 'id' else r end as data from jsonb_array_elements(%s) r) s$sql$, records_source.records)
$$;
comment on function data.records_source(text) is
  'The from-item s with id and data of the records in the jsonb expression records, a list: their own ids, or new ones.';

drop function if exists data.insert_list_statement(data.entities, text, text, boolean);
create or replace function data.insert_list_statement(
  entity data.entities, schema_name text, source text, list_check text, is_sorted boolean default false
) returns text
language sql stable set search_path = '' as $$
  select case
    when list_check is null then format('insert into %s as t (id, data) select s.id, s.data from %s', table_name, source)
    else format($sql$insert into %1$s as t (id, data, created_by, _schema_version%2$s)
          select x.id, %3$s, (select auth.account_id()), case when x.fits then %4$s else 0 end%5$s
          from (
            select v.id, v.data, %6$s as fits from (
              select v.id, v.data%7$s from (
                select s.id, %8$ss.data as data from %9$s offset 0
              ) v offset 0
            ) v offset 0
          ) x%10$s$sql$,
      table_name,
      k.columns,
      case entity.storage when 'flat' then 'case when not x.fits then x.data end' else 'x.data' end,
      entity.version,
      k.expressions,
      '(' || o.check_text || ')' || case when links <> '{}' then format(' and not v.data ?| %L::text[]', links) else '' end,
      o.columns,
      case when defaults <> '{}' then format('%L::jsonb || ', defaults) else '' end,
      source,
      case when is_sorted then coalesce(' order by ' || k.sorted_by, '') else '' end) end
  from data.storage_table(entity, schema_name) table_name,
    data.default_values(entity.id) defaults,
    data.link_names(entity.schema) links,
    data.read_once(list_check, entity.schema->'properties', 'v.data') o,
    lateral (
      select coalesce(string_agg(', ' || quote_ident(k.name), ''), ''), coalesce(string_agg(', ' || e, ''), ''),
        (array_agg(e) filter (where k.is_indexed))[1]
      from data.stored_columns(entity, 'x.data') k, format('case when x.fits then %s end', k.expression) e
    ) k (columns, expressions, sorted_by)
$$;
comment on function data.insert_list_statement(data.entities, text, text, text, boolean) is
  'The statement, without returning, that inserts the rows of source, a from-item s with id and data (jsonb), into an entity''s storage (alias t); list_check is data.list_check, is_sorted: in the order of its first index.';

create or replace function data.list_violations(entity data.entities, schema_name text, defaults jsonb) returns text
language sql stable set search_path = '' as $$
  select format($sql$select jsonb_agg(e || jsonb_build_object('pointer', '/' || (r.n - 1) || (e->>'pointer')) order by r.n, i)
        from jsonb_array_elements(_records) with ordinality r (value, n), jsonb_array_elements(%I.%I(%s)) with ordinality x (e, i)$sql$,
    schema_name, entity.name || '_violations',
    data.computed_call(entity, schema_name, format('data.without_nulls(%L::jsonb || (r.value - ''id''))', defaults)))
$$;
comment on function data.list_violations(data.entities, text, jsonb) is
  'The query of what is wrong with the new records of a list, the variable _records, by JSON pointer into it; null where nothing is.';

-- Sorted, an index of 200,000 records takes 3.5 µs a record instead of 4.2; were ids given after sorting, 2.8, but they are in the
-- list's order, and so are records by created_at. Ids that the records bring have an order of their own, and errors a place in the
-- list: those <entity>_insert sees to. Ids given beforehand, instead of asked for by RETURNING and sorted, save 0.5 of 11 µs.
drop function if exists data.build_insert_ids(data.entities, text);
create or replace function data.build_insert_ids(entity data.entities, schema_name text, list_check text) returns void
language plpgsql set search_path = '' as $$
declare
  _guess_check text := access.guess_check(entity, '_records');
  _statement text := case
    when list_check is not null then
      '_ids := array(select uuidv7() from generate_series(1, jsonb_array_length(_records)));' || data.insert_list_statement(
        entity, schema_name, 'rows from (jsonb_array_elements(_records), unnest(_ids)) s (data, id)', list_check, true)
    else format(
      'with written as (%s returning t.id) select coalesce(array_agg(w.id order by w.id), ''{}'') into _ids from written w',
      data.insert_list_statement(entity, schema_name, data.records_source('_records'), null)) end;
begin
  perform rowhouse.create_function($sql$
    create or replace function %1$s(_records jsonb) returns uuid[]
    language plpgsql security definer set search_path = '' $sql$, $sql$
    declare
      _ids uuid[];
      _written uuid[];
      _errors jsonb;
    begin
      if jsonb_typeof(_records) = 'array' and not jsonb_path_exists(_records, '$[*].id')
        and jsonb_array_length(_records) <= 10000 and %4$s
      then
        %6$s
        %5$s
        begin
          %2$s;
          return _ids;
        exception when sqlstate 'RH422' or invalid_parameter_value then
          null; -- what is no object cannot be read as one
        end;
      end if;
      return array(select r.id from %3$s(_records) r);
    end $sql$, format('%I.%I', schema_name, entity.name || '_insert_ids'), _statement,
    format('%I.%I', schema_name, entity.name || '_insert'), data.sees_function(entity, schema_name),
    -- For data.import_lines, which says which lines these are; not of values that somebody does not see.
    case when list_check is not null and _guess_check = '' then format($sql$if current_setting('rowhouse.skips_taken', true) = 'on' then
        begin
          _ids := array(select uuidv7() from generate_series(1, jsonb_array_length(_records)));
          with written as (%s on conflict do nothing returning t.id) select array_agg(w.id) into _written from written w;
          return array(select case when i = any (_written) then i end from unnest(_ids) with ordinality x (i, n) order by n);
        exception when sqlstate 'RH422' then
          _errors := (%s);
          if _errors is null then
            raise;
          end if;
          perform data.refuse_batch(%L, _errors);
        end;
      end if;$sql$,
      data.insert_list_statement(entity, schema_name, 'rows from (jsonb_array_elements(_records), unnest(_ids)) s (data, id)', list_check),
      data.list_violations(entity, schema_name, data.default_values(entity.id)), 'A record of ' || entity.name || ' is not valid: ')
    else '' end, _guess_check);
end
$$;
comment on function data.build_insert_ids(data.entities, text, text) is
  'Generates <entity>_insert_ids(records), which inserts a record or a list and returns the ids in order; null for a record with a unique value that is taken where rowhouse.skips_taken is on.';

-- An entity that was last defined before <entity>_insert_ids came has none.
create or replace function data.insert_ids_call(entity data.entities, schema_name text, records text) returns text
language sql stable set search_path = '' as $$
  select format(case when to_regprocedure(format('%I.%I(jsonb)', schema_name, entity.name || '_insert_ids')) is not null
    then '%1$I.%2$I(%4$s)'
    else 'array(select i.id from %1$I.%3$I(%4$s) i)' end, schema_name, entity.name || '_insert_ids', entity.name || '_insert',
      insert_ids_call.records)
$$;
comment on function data.insert_ids_call(data.entities, text, text) is 'The SQL that inserts the jsonb expression records and gives the ids, a uuid[].';

create or replace function data.compile_insert_list(entity data.entities, schema_name text, "return" text) returns jsonb
language plpgsql stable set search_path = '' as $$
begin
  if "return" not in ('records', 'ids', 'count') then
    perform rowhouse.fail(400, 'return is records, ids or count',
      'A list of new records is answered with the records, or with return=ids in half the time with their ids.', 'invalid_return');
  end if;
  return jsonb_build_object('params', 1, 'sql', case "return"
    when 'ids' then format($sql$select '{"meta":{"inserted":' || cardinality(i) || '},"ids":' || to_json(i) || '}' as body from (select %s offset 0) x (i)$sql$,
      data.insert_ids_call(entity, schema_name, '$1::jsonb'))
    when 'count' then format($sql$select '{"meta":{"inserted":' || cardinality(%s) || '}}' as body$sql$, data.insert_ids_call(entity, schema_name, '$1::jsonb'))
    else format('select coalesce(json_agg(' || data.written_json('r') || '), ''[]'')::text as body from %I.%I($1::jsonb) r', schema_name, entity.name || '_insert') end);
end
$$;
comment on function data.compile_insert_list(data.entities, text, text) is
  'Compiles insert_list into {"sql", "params"}: the answer is the records, or {"meta": {"inserted"}} with or without their ids. RH400.';
