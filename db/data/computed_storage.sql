-- Stored computed fields: made anew by every write, filled when they are added or their expression changes.

create or replace function data.build_computed(entity data.entities, schema_name text) returns void
language plpgsql set search_path = '' as $$
declare
  _function text := format('%I.%I', build_computed.schema_name, entity.name || '_computed');
  _names text[] := data.computed_names(entity.schema);
  _fields jsonb;
  _steps text;
begin
  if _names = '{}' then
    execute format('drop function if exists %s(jsonb)', _function);
    return;
  end if;
  _fields := data.all_fields(entity.schema, data.data_columns(entity.schema, '_data'));
  select string_agg(format('_data := _data || jsonb_strip_nulls(jsonb_build_object(%L, %s));', n,
    case _fields #>> array[n, 'kind'] when 'date-time' then format('data.utc_text(%s)', _fields #>> array[n, 'value'])
      else _fields #>> array[n, 'value'] end), E'\n      ' order by o)
  into _steps
  from unnest(data.computed_order(entity.schema)) with ordinality x (n, o) where not data.is_virtual(entity.schema->'properties'->n);
  -- What cannot be computed stays away here; _violations says why and refuses the write.
  perform rowhouse.create_function($sql$
    create or replace function %1$s(_data jsonb) returns jsonb language plpgsql stable set search_path = '' $sql$, $sql$
    begin
    _data := _data - %2$L::text[];
    begin
      %3$s
    exception when data_exception or program_limit_exceeded or sqlstate 'RH422' then
      null;
    end;
    return _data;
    end $sql$, _function, _names::text, coalesce(_steps, 'null;'));
  execute format('revoke all on function %s(jsonb) from public', _function);
  execute format('grant execute on function %s(jsonb) to rowhouse_data', _function);
  execute format('comment on function %s(jsonb) is %L', _function, E'@behavior -*\nA record''s data with its computed fields.');
end
$$;
comment on function data.build_computed(data.entities, text) is
  'Generates <entity>_computed, which takes what was sent for computed fields out of a record''s data and puts the stored ones in.';

create or replace function data.computed_call(entity data.entities, schema_name text, source text) returns text
language sql stable set search_path = '' as $$
  select case when data.computed_names(entity.schema) = '{}' then named
    else format('%I.%I(%s)', computed_call.schema_name, entity.name || '_computed', named) end
  from data.aliases(entity.schema) a,
    lateral (select case a when '{}' then computed_call.source
      else format('data.without_aliases(%s, %L)', computed_call.source, a) end) x (named)
$$;
comment on function data.computed_call(data.entities, text, text) is 'The SQL that gives the jsonb expression source its computed fields, and takes aliases away; source itself where there are none.';

-- A default takes the place of null before anything is computed from it.
create or replace function data.compile_computed(entity data.entities, schema_name text, defaults jsonb) returns text
language sql stable set search_path = '' as $$
  select case when data.computed_names(entity.schema) = '{}' then '' else format($sql$if jsonb_path_exists(new.data, '$.* ? (@ == null)') then
      new.data := case tg_op when 'INSERT' then %L::jsonb else '{}' end || data.without_nulls(new.data);
    end if;
    new.data := %s;$sql$, defaults, data.computed_call(entity, schema_name, 'new.data')) end
$$;
comment on function data.compile_computed(data.entities, text, jsonb) is 'PL/pgSQL that gives a record that is written its computed fields.';

create or replace function data.computed_statements(entity data.entities, schema_name text, old data.fields[], transforms jsonb)
  returns text[]
language plpgsql stable set search_path = '' as $$
declare
  _table text := data.storage_table(entity, computed_statements.schema_name);
  _stored data.fields[] := array(select f from data.fields f
    where f.entity_id = entity.id and f.schema ? 'x-computed' and not data.is_virtual(f.schema) order by f.name);
  _new text;
  _columns text;
  _unique text;
begin
  if not data.recomputes(entity, computed_statements.old, transforms)
    or data.fills_online(entity, computed_statements.old, transforms)
  then
    return '{}';
  end if;
  select string_agg(format('%I = %s', f.name, data.column_value(f, 'x.data')), ', ' order by f.name) filter (where f.is_promoted),
    string_agg(format('%I = null', f.name), ', '
      order by f.name) filter (where f.is_unique
      and exists (select from unnest(computed_statements.old) o where o.name = f.name and o.is_unique))
  into _columns, _unique
  from unnest(_stored) f;
  if entity.storage = 'flat' then
    _new := format('update %1$s t set %2$s from (select t.id, %3$s as data from %1$s t) x where x.id = t.id', _table, _columns,
      data.computed_call(entity, schema_name, data.record_source(entity, 't')));
  else
    _new := format('update %1$s t set data = x.data, _dropped = x.dropped, _schema_version = %2$s%3$s
      from (select t.id, %4$s as data, u.dropped from %1$s t, lateral %5$I.%6$I(t.data, t._dropped, t._schema_version) u) x
      where x.id = t.id and x.data is distinct from t.data', _table, entity.version, coalesce(', ' || _columns, ''),
      data.computed_call(entity, schema_name, 'u.data'), computed_statements.schema_name, entity.name || '_upgraded');
  end if;
  -- Two records may swap their unique values.
  return array_remove(array[case when _unique is not null then format('update %s t set %s', _table, _unique) end,
    case when entity.storage = 'jsonb' or _columns is not null then _new end], null);
end
$$;
comment on function data.computed_statements(data.entities, text, data.fields[], jsonb) is
  'The statements that compute the stored fields of existing records after a definition that changes them. They leave version and updated_at as they are: nobody changed the records.';
