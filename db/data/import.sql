-- Imports: batches of lines (NDJSON) or rows (CSV), written as the one who sends them, with errors by line.

create or replace function data.csv_value(value text, kind text) returns jsonb
language sql immutable parallel safe set search_path = '' as $$
  select case
    when value is null then null
    when kind in ('string', 'email') then to_jsonb(value)
    when value = '' then null
    when kind in ('integer', 'number', 'decimal') and length(value) <= 1000 and value ~ '^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?$' then value::jsonb
    when kind in ('integer', 'number', 'decimal') and length(value) <= 1000 and value ~ '^[+-]?[0-9]+(\.[0-9]*)?$' then to_jsonb(value::numeric)
    when kind = 'boolean' and lower(value) in ('true', 'false') then lower(value)::jsonb
    when kind not in ('integer', 'number', 'decimal', 'boolean', 'uuid', 'date', 'date-time') and pg_input_is_valid(value, 'jsonb') then value::jsonb
    else to_jsonb(value)
  end
$$;
comment on function data.csv_value(text, text) is
  'A cell of CSV as JSON of a field''s kind; null for what is absent. What does not fit stays text, for the validation to name.';

create or replace function data.import_records(entity_id uuid, lines jsonb, columns text[]) returns jsonb
language sql stable set search_path = '' as $$
  with named as materialized (
    select c.n::int - 1 as n, c.name, coalesce(f.kind, 'uuid') as kind
    from unnest(columns) with ordinality c (name, n)
    left join data.fields f on f.entity_id = import_records.entity_id and f.name = c.name
    where c.name = 'id' or c.name <> all (data.system_columns())
  )
  select coalesce(jsonb_agg(jsonb_build_array(l.value->0, case
      when columns is not null then (
        select coalesce(jsonb_object_agg(c.name, v.value) filter (where v.value is not null), '{}')
        from named c, lateral (select data.csv_value(l.value->1->>c.n, c.kind)) v (value))
      when jsonb_typeof(p.value) = 'object' then p.value - array_remove(data.system_columns(), 'id')
    end) order by l.n), '[]')
  from jsonb_array_elements(lines) with ordinality l (value, n),
    lateral (select case when columns is null and pg_input_is_valid(l.value->>1, 'jsonb') then (l.value->>1)::jsonb end offset 0) p (value)
$$;
comment on function data.import_records(uuid, jsonb, text[]) is
  'Lines [[number, text], …], or rows [[number, [cell, …]], …] when columns are given, as [[number, record], …] without stamps; null for what is no JSON object.';

create or replace function data.import_error(entity data.entities, state text, message text, detail text, constraint_name text) returns jsonb
language plpgsql stable set search_path = '' as $$
declare
  _errors jsonb;
  _fields text[];
  _message text;
begin
  if import_error.state like 'RH%' then
    _errors := case when pg_input_is_valid(import_error.detail, 'jsonb') then import_error.detail::jsonb->'errors' end;
    if jsonb_typeof(_errors) = 'array' then
      return (select jsonb_agg(jsonb_set(e, '{pointer}', to_jsonb(regexp_replace(coalesce(e->>'pointer', ''), '^/0(?=/|$)', '')))) from jsonb_array_elements(_errors) e);
    end if;
    return data.violation('', import_error.message);
  end if;
  _fields := data.constraint_fields(entity, import_error.constraint_name);
  _message := case import_error.state
    when '23505' then case when cardinality(_fields) > 1 then array_to_string(_fields, ' and ') || ' together are already taken by another record'
      else 'is already taken by another record' end
    when '23503' then 'refers to a record that does not exist'
    else import_error.message end;
  return case when _fields = '{}' then data.violation('', _message)
    else (select jsonb_agg(jsonb_build_object('pointer', '/' || f, 'message', _message) order by n) from unnest(_fields) with ordinality x (f, n)) end;
end
$$;
comment on function data.import_error(data.entities, text, text, text, text) is 'Why one record could not be written, as [{pointer, message}].';

create or replace function data.import_lines(entity text, lines jsonb, columns text[] default null, key text[] default null, on_error text default 'stop')
returns jsonb
language plpgsql set search_path = '' as $$
declare
  _r record := data.resolve_entity(regexp_replace(import_lines.entity, '/[^/]*$', ''), split_part(import_lines.entity, '/', 3));
  _entity data.entities := _r.entity_row;
  _records jsonb;
  _starts int[] := array[0];
  _ends int[];
  _from int;
  _to int;
  _batch jsonb;
  _counts jsonb := '{"inserted": 0, "updated": 0, "unchanged": 0}';
  _done jsonb;
  _errors jsonb := '[]';
  _skipped int := 0;
  _state text;
  _message text;
  _detail text;
  _constraint text;
  _unknown text := (select string_agg(c, ', ') from unnest(columns) c where c <> all (data.system_columns())
    and not exists (select from data.fields f where f.entity_id = _entity.id and f.name = c));
begin
  if import_lines.on_error is null or import_lines.on_error not in ('stop', 'skip') then
    perform rowhouse.fail(400, 'on_error is stop or skip', 'stop: nothing is imported if a line is wrong. skip: the wrong lines are left out and listed.', 'invalid_on_error');
  elsif _unknown is not null then
    perform rowhouse.fail(400, format('There is no field %s in %s', left(_unknown, 120), _entity.name),
      'The header names fields of the entity: ' || (select string_agg(f.name, ', ' order by f.position) from data.fields f where f.entity_id = _entity.id), 'unknown_field');
  elsif jsonb_typeof(lines) is distinct from 'array' then
    perform data.write_error(400, _entity.name, null);
  elsif jsonb_array_length(lines) > 10000 then
    perform data.write_error(413, _entity.name, null);
  end if;
  _records := data.import_records(_entity.id, lines, columns);
  select coalesce(jsonb_agg(jsonb_build_object('line', l->0, 'pointer', '', 'message', 'is not a JSON object')), '[]'), count(*) into _errors, _skipped
  from jsonb_array_elements(_records) l where jsonb_typeof(l->1) is distinct from 'object';
  _records := (select coalesce(jsonb_agg(l order by n), '[]') from jsonb_array_elements(_records) with ordinality x (l, n) where jsonb_typeof(l->1) = 'object');
  _ends := array[jsonb_array_length(_records)];

  -- A batch that fails is halved until the records that fail stand alone.
  while cardinality(_starts) > 0 loop
    _from := _starts[cardinality(_starts)];
    _to := _ends[cardinality(_ends)];
    _starts := _starts[:cardinality(_starts) - 1];
    _ends := _ends[:cardinality(_ends) - 1];
    continue when _from >= _to;
    begin
      select jsonb_agg(_records->i->1 order by i) into _batch from generate_series(_from, _to - 1) i where _to - _from < jsonb_array_length(_records);
      _batch := coalesce(_batch, jsonb_path_query_array(_records, '$[*][1]'));
      if key is not null or jsonb_path_exists(_batch, '$[*].id') then
        _done := data.upsert(import_lines.entity, _batch, coalesce(key, array['id']))->'meta';
      else
        execute format('select jsonb_build_object(''inserted'', cardinality(%s))', data.insert_ids_call(_entity, _r.schema_name, '$1')) into _done using _batch;
      end if;
      _counts := jsonb_build_object('inserted', (_counts->>'inserted')::int + (_done->>'inserted')::int,
        'updated', (_counts->>'updated')::int + coalesce((_done->>'updated')::int, 0), 'unchanged', (_counts->>'unchanged')::int + coalesce((_done->>'unchanged')::int, 0));
    exception when others then
      get stacked diagnostics _state = returned_sqlstate, _message = message_text, _detail = pg_exception_detail, _constraint = constraint_name;
      if _state in ('RH401', 'RH403', 'RH404', '42501') or _state ~ '^(08|25|40|53|55|57|58|XX)' then
        raise; -- of no single line
      elsif _to - _from > 1 then
        _starts := _starts || ((_from + _to) / 2) || _from;
        _ends := _ends || _to || ((_from + _to) / 2);
      else
        _skipped := _skipped + 1;
        _errors := _errors || (select jsonb_agg(jsonb_build_object('line', _records->_from->0) || e)
          from jsonb_array_elements(data.import_error(_entity, _state, _message, _detail, _constraint)) e);
      end if;
    end;
  end loop;

  select coalesce(jsonb_agg(e order by (e->>'line')::int, n), '[]') into _errors from jsonb_array_elements(_errors) with ordinality x (e, n);
  if _errors <> '[]' and import_lines.on_error = 'stop' then
    perform rowhouse.fail(422, format('Nothing was imported. Line %s: %s %s', _errors #>> '{0,line}', _errors #>> '{0,pointer}', _errors #>> '{0,message}'),
      'errors lists the lines that are wrong, of the first batch that has any. Correct them, or import with on_error=skip.', 'import_failed', _errors);
  end if;
  return _counts || jsonb_build_object('skipped', _skipped, 'errors', _errors);
end
$$;
comment on function data.import_lines(text, jsonb, text[], text[], text) is
  'Writes up to 10,000 lines of NDJSON [[number, text], …], or rows of CSV [[number, [cell, …]], …] when columns are given, into an entity (acme/crm/contacts). Records that exist, by key (default id), are updated. Returns {"inserted", "updated", "unchanged", "skipped", "errors": [{"line", "pointer", "message"}]}; with on_error stop the first wrong line undoes all: RH422. RH400, RH403, RH404, RH413.';
