-- An upsert matches by what is unique, so that two at once meet in the unique index and not in a lock on the entity:
-- who inserts second waits for the first, finds nothing inserted, and updates.

create or replace function data.key_parts(entity data.entities) returns jsonb
language sql stable set search_path = '' as $$
  select jsonb_build_object('id', '{"name": "id", "column": "t.id", "value": "(r.value->>''id'')::uuid", "is_valid": "pg_input_is_valid(r.value->>''id'', ''uuid'')"}'::jsonb)
    || coalesce(jsonb_object_agg(f.name, jsonb_build_object('name', f.name,
      'column', case when f.is_filling and f.schema ? 'x-computed'
          then (select '(' || c.expression || ')' from data.view_columns(entity, 't') c where c.name = f.name)
        when f.is_promoted or entity.storage = 'flat' and not f.is_building then data.promoted_source(f, 't')
        else data.column_value(f, data.record_source(entity, 't')) end,
      'value', data.column_value(f, 'r.value'),
      'is_valid', format(case
        when f.kind in ('string', 'email') then 'jsonb_typeof(r.value->%1$L) = ''string'''
        when f.kind = 'integer'
          then 'jsonb_typeof(r.value->%1$L) = ''number'' and pg_input_is_valid(trunc((r.value->>%1$L)::numeric)::text, ''int8'')'
        when f.kind = 'number' then 'jsonb_typeof(r.value->%1$L) = ''number'' and pg_input_is_valid(r.value->>%1$L, ''float8'')'
        when f.kind = 'boolean' then 'jsonb_typeof(r.value->%1$L) = ''boolean'''
        else 'pg_input_is_valid(r.value->>%1$L, %2$L)' end, f.name, f.sql_type))), '{}')
  from data.fields f where f.entity_id = entity.id and f.kind not in ('array', 'object')
$$;
comment on function data.key_parts(data.entities) is
  'For each property that may be a part of an upsert''s key: its column, its value in a record r.value, and whether that is valid, as SQL.';

create or replace function data.unique_keys(entity data.entities) returns text[]
language sql stable set search_path = '' as $$
  select array['id'] || array(select f.name from data.fields f where f.entity_id = entity.id and f.is_unique order by f.name)
    || array(select (select string_agg(n, ',' order by n) from jsonb_array_elements_text(c) n)
      from jsonb_array_elements(case jsonb_typeof(entity.schema->'x-unique') when 'array' then entity.schema->'x-unique' else '[]' end) c
      where data.is_valid_index((select a.schema_name from tenancy.apps a where a.id = entity.app_id),
        data.unique_name(entity, array(select jsonb_array_elements_text(c)))))
$$;
comment on function data.unique_keys(data.entities) is
  'What an index keeps unique in an entity: id, properties, and compounds as their sorted properties with commas between.';

create or replace function data.errors_of(errors jsonb, records jsonb) returns jsonb
language sql immutable set search_path = '' as $$
  select case when jsonb_typeof(records) = 'array' then errors
    else (select jsonb_agg(jsonb_set(e, '{pointer}', to_jsonb(regexp_replace(e->>'pointer', '^/0(?=/)', ''))))
      from jsonb_array_elements(errors) e) end
$$;
comment on function data.errors_of(jsonb, jsonb) is 'Errors by JSON pointer into a list, as into what was sent: a list, or one record.';

create or replace function data.refuse_keys(name text, list jsonb, parts jsonb, records jsonb) returns void
language plpgsql set search_path = '' as $$
declare
  _errors jsonb;
  _is_id boolean := parts #>> '{0,name}' = 'id';
begin
  execute format('select jsonb_agg(to_jsonb(x)) from (%s limit 100) x', (select string_agg(format($sql$
    (select '/' || (r.n - 1) || %1$L as pointer, case when coalesce(r.value->%2$L, 'null') = 'null' then 'is required: it is the key' else 'is not a valid key' end as message
    from jsonb_array_elements($1) with ordinality r (value, n)
    where case when coalesce(r.value->%2$L, 'null') = 'null' then %3$L else not (%4$s) end order by r.n)$sql$,
    '/' || (p->>'name'), p->>'name', not _is_id, p->>'is_valid'), ' union all ') from jsonb_array_elements(parts) p))
  into _errors using list;
  if _errors is null then
    execute format($sql$
      select jsonb_agg(jsonb_build_object('pointer', '/' || (x.n - 1) || %2$L, 'message', 'is the same as in /' || (x.first - 1)) order by x.n)
      from (select r.n, min(r.n) over (partition by %1$s) as first from jsonb_array_elements($1) with ordinality r (value, n)
        where (%3$s) is not null) x
      where x.n > x.first$sql$,
      (select string_agg(p->>'value', ', ') from jsonb_array_elements(parts) p), '/' || (parts #>> '{0,name}'), parts #>> '{0,value}')
    into _errors using list;
  end if;
  if _errors is not null then
    perform data.refuse_batch('A record of ' || refuse_keys.name || ' is not valid: ', data.errors_of(_errors, records));
  end if;
end
$$;
comment on function data.refuse_keys(text, jsonb, jsonb, jsonb) is 'Raises RH422 for records of a list whose key is missing, not valid, or the same as that of one before.';
