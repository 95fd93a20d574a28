-- Imports: batches of lines (NDJSON, JSON) or rows (CSV), written as the one who sends them, with errors by line.

drop function if exists data.import_records(uuid, jsonb, text[]);

-- Without "set", truly stable (to_jsonb is), and with kind a constant, it is inlined: a cell costs 0.5 µs instead of 5.
create or replace function data.csv_value(value text, kind text) returns jsonb
language sql stable parallel safe
return case
  when value is null then null
  when kind in ('string', 'email') then to_jsonb(value)
  when value = '' then null
  when kind in ('integer', 'number', 'decimal') then case
    when length(value) <= 1000 and value ~ '^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?$' then value::jsonb
    when length(value) <= 1000 and value ~ '^[+-]?[0-9]+(\.[0-9]*)?$' then to_jsonb(value::numeric)
    else to_jsonb(value) end
  when kind = 'boolean' then case when lower(value) in ('true', 'false') then lower(value)::jsonb else to_jsonb(value) end
  when kind not in ('uuid', 'date', 'date-time') and pg_input_is_valid(value, 'jsonb') then value::jsonb
  else to_jsonb(value)
end;
comment on function data.csv_value(text, text) is
  'A cell of CSV as JSON of a field''s kind; null for what is absent. What does not fit stays text, for the validation to name.';

create or replace function data.csv_record(entity_id uuid, columns text[]) returns text
language sql stable set search_path = '' as $$
  with named as (
    select c.n, c.name, coalesce(f.kind, 'uuid') in ('array', 'object', 'any') as is_nested,
      format('data.csv_value(l.value->1->>%s, %L)', c.n - 1, coalesce(f.kind, 'uuid')) as value
    from unnest(columns) with ordinality c (name, n)
    left join data.fields f on f.entity_id = csv_record.entity_id and f.name = c.name
    where c.name = 'id' or c.name <> all (data.system_columns())
  ), parts (part) as (
    select format('jsonb_strip_nulls(jsonb_build_object(%s))', string_agg(format('%L, %s', name, value), ', ' order by n))
    from (select *, (row_number() over (order by n) - 1) / 50 as page from named where not is_nested) x
    group by page -- a function takes 100 arguments
    union all
    select format('case when %2$s is null then ''{}'' else jsonb_build_object(%1$L, %2$s) end', name, value) from named where is_nested
  )
  select coalesce(string_agg(part, ' || '), '''{}''::jsonb') from parts
$$;
comment on function data.csv_record(uuid, text[]) is 'SQL for the record that a row of CSV, l.value = [number, [cell, …]] under these columns, is.';

create or replace function data.import_records(entity_id uuid, lines jsonb, columns text[], out numbers jsonb[], out records jsonb,
  out wrong jsonb)
language plpgsql stable set search_path = '' as $$
begin
  execute format($sql$
    with read as materialized (
      select l.value->0 as number, l.n, p.record, jsonb_typeof(p.record) = 'object' as fits
      from jsonb_array_elements($1) with ordinality l (value, n), lateral (select %s offset 0) p (record)
    )
    select coalesce(array_agg(r.number order by r.n) filter (where r.fits), '{}'), coalesce(jsonb_agg(r.record%s order by r.n) filter (where r.fits), '[]'),
      coalesce(jsonb_agg(jsonb_build_object('line', r.number, 'pointer', '', 'message', %L) order by r.n) filter (where r.fits is not true), '[]')
    from read r$sql$,
    case when columns is null then
      'case when jsonb_typeof(l.value->1) = ''object'' then l.value->1 when pg_input_is_valid(l.value->>1, ''jsonb'') then (l.value->>1)::jsonb end'
    else format('case when jsonb_typeof(l.value->1) = ''array'' then %s end', data.csv_record(import_records.entity_id, columns)) end,
    case when columns is null then format(' - %L::text[]', array_remove(data.system_columns(), 'id')) else '' end,
    case when columns is null then 'is not a JSON object' else 'is no row of text: it holds the character NUL' end)
  into numbers, records, wrong using lines;
end
$$;
comment on function data.import_records(uuid, jsonb, text[]) is
  'Lines [[number, text or record], …], or rows [[number, [cell, …]], …] when columns are given, as records without stamps and their numbers, and the errors of those that are no JSON objects.';

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

-- A list that does not fit is told of each of its records what is wrong with it, in the words of that record alone: by halves a wrong
-- line of eight fields took 4.3 ms of CPU, 0.05 so (a good one 0.02).
create or replace function data.wrong_records(entity_id uuid, detail text) returns table ("position" int, errors jsonb)
language sql stable security definer set search_path = '' as $$
  with listed as materialized (
    select split_part(e->>'pointer', '/', 2) as place, e, n
    from jsonb_array_elements(case when pg_input_is_valid(wrong_records.detail, 'jsonb') then wrong_records.detail::jsonb->'errors' end)
      with ordinality x (e, n)
  )
  select l.place::int + 1, jsonb_agg(jsonb_set(l.e, '{pointer}', to_jsonb(regexp_replace(l.e->>'pointer', '^/[0-9]+', ''))) order by l.n)
  from listed l
  -- Alone, a record may be one that its writer may not write, or be no double of another.
  where not (select access.checks_fields(data.require_known(wrong_records.entity_id)))
    and not exists (select from listed o where o.place !~ '^[0-9]{1,5}$' or o.e->>'message' like 'is the same as in /%')
    -- Keys that are wrong are told of 100 only (data.refuse_keys).
    and not ((select count(*) from listed) = 100
      and exists (select from listed o where o.e->>'message' in ('is required: it is the key', 'is not a valid key')))
  group by l.place
$$;
comment on function data.wrong_records(uuid, text) is
  'The records of a list, by their place in it from 1, that the detail of an RH422 names, each with what is wrong with it, [{pointer, message}]; none where that might not be what it is told alone.';

-- By halves a line with a value that is taken took 1.7 ms of CPU in a batch of such and 6 among good ones, 0.03 and 0.15 so.
create or replace function data.skips_taken(entity_id uuid) returns boolean
language sql stable security definer set search_path = '' as $$
  select not access.is_special(e) and not e.schema ? 'x-ttl' and data.link_names(e.schema) = '{}'
    and 1 = (select count(*) from pg_catalog.pg_index i
      where i.indrelid = to_regclass(data.storage_table(e, a.schema_name)) and i.indisunique and not i.indisprimary)
  from data.entities e join tenancy.apps a on a.id = e.app_id where e.id = skips_taken.entity_id and tenancy.knows_site(e.site_id)
$$;
comment on function data.skips_taken(uuid) is
  'Whether all records of a list whose unique values are taken can be told at once: one index alone says so, and writers see what they wrote.';

create or replace function data.refuse_import(errors jsonb) returns void
language sql set search_path = '' as $$
  select rowhouse.fail(422, format('Nothing was imported. Line %s: %s', errors #>> '{0,line}', ltrim(concat(errors #>> '{0,pointer}', ' ', errors #>> '{0,message}'))),
    'errors lists the lines that are wrong, up to 1,000 of them. Correct them, or import with on_error=skip.', 'import_failed', errors)
$$;
comment on function data.refuse_import(jsonb) is 'Raises RH422 for an import with wrong lines [{"line", "pointer", "message"}], which undoes it as a whole.';

create or replace function data.import_lines(entity text, lines jsonb, columns text[] default null, key text[] default null, on_error text default 'stop')
returns jsonb
language plpgsql set search_path = '' as $$
declare
  _r record := data.resolve_entity(regexp_replace(import_lines.entity, '/[^/]*$', ''), split_part(import_lines.entity, '/', 3));
  _entity data.entities := _r.entity_row;
  _read record;
  _numbers jsonb[];
  _list jsonb[];
  _kept jsonb[];
  _kept_numbers jsonb[];
  _told jsonb;
  _unseen text[];
  _upserts boolean;
  _ids uuid[];
  _taken text;
  _starts int[] := array[0];
  _ends int[];
  _from int;
  _to int;
  _batch jsonb;
  _inserted int := 0;
  _updated int := 0;
  _unchanged int := 0;
  _done jsonb;
  _errors jsonb;
  _skipped int;
  _state text;
  _message text;
  _detail text;
  _constraint text;
  _unknown text := (select string_agg(c, ', ') from unnest(columns) c where c <> all (data.system_columns())
    and not exists (select from data.fields f where f.entity_id = _entity.id and f.name = c));
begin
  if import_lines.on_error is null or import_lines.on_error not in ('stop', 'skip', 'list') then
    perform rowhouse.fail(400, 'on_error is stop or skip', 'stop: nothing is imported if a line is wrong. skip: the wrong lines are left out and listed.', 'invalid_on_error');
  elsif _unknown is not null then
    perform rowhouse.fail(400, format('There is no field %s in %s', left(_unknown, 120), _entity.name),
      'The header names fields of the entity: ' || (select string_agg(f.name, ', ' order by f.position) from data.fields f where f.entity_id = _entity.id), 'unknown_field');
  elsif jsonb_typeof(lines) is distinct from 'array' then
    perform data.write_error(400, _entity.name, null);
  elsif jsonb_array_length(lines) > 10000 then
    perform data.write_error(413, _entity.name, null);
  end if;
  _read := data.import_records(_entity.id, lines, columns);
  _numbers := _read.numbers;
  _errors := _read.wrong;
  _skipped := jsonb_array_length(_errors);
  _unseen := access.unseen_key_names(_entity.id);
  if import_lines.on_error = 'skip' and _unseen <> '{}' then
    perform access.refuse_telling(_entity.id, array(select u from unnest(_unseen) u
      where exists (select from jsonb_array_elements(_read.records) r where r ? u)));
  end if;
  _ends := array[cardinality(_read.numbers)];

  -- From a batch that fails those are taken of which it says why; where it does not, it is halved until those that fail stand alone.
  while cardinality(_starts) > 0 loop
    _from := _starts[cardinality(_starts)];
    _to := _ends[cardinality(_ends)];
    _starts := _starts[:cardinality(_starts) - 1];
    _ends := _ends[:cardinality(_ends) - 1];
    continue when _from >= _to;
    begin
      _batch := case when _list is null then _read.records else to_jsonb(_list[_from + 1:_to]) end;
      _upserts := key is not null or jsonb_path_exists(_batch, '$[*].id');
      if _upserts then
        _done := data.upsert(import_lines.entity, _batch, coalesce(key, array['id']))->'meta';
        _inserted := _inserted + (_done->>'inserted')::int;
        _updated := _updated + (_done->>'updated')::int;
        _unchanged := _unchanged + (_done->>'unchanged')::int;
      else
        if _taken is not null then
          set local rowhouse.skips_taken = 'on';
        end if;
        execute format('select %s', data.insert_ids_call(_entity, _r.schema_name, '$1')) into _ids using _batch;
        set local rowhouse.skips_taken = '';
        select _errors || coalesce(jsonb_agg(jsonb_build_object('line', _numbers[_from + n]) || e order by n, i), '[]'),
          _skipped + count(distinct n), _inserted + _to - _from - count(distinct n)
        into _errors, _skipped, _inserted
        from unnest(_ids) with ordinality x (id, n),
          jsonb_array_elements(data.import_error(_entity, '23505', null, null, _taken)) with ordinality y (e, i)
        where id is null;
      end if;
    exception when others then
      get stacked diagnostics _state = returned_sqlstate, _message = message_text, _detail = pg_exception_detail, _constraint = constraint_name;
      if _state in ('RH401', 'RH403', 'RH404', 'RH429', '42501') or _state ~ '^(08|25|40|53|55|57|58|XX)'
        or _state = '23505' and _unseen <> '{}' and coalesce(nullif(data.constraint_fields(_entity, _constraint), '{}'), _unseen) && _unseen
      then
        raise; -- of no single line, or not to be told which
      elsif _to - _from = 1 then
        _skipped := _skipped + 1;
        _errors := _errors || (select jsonb_agg(jsonb_build_object('line', _numbers[_from + 1]) || e)
          from jsonb_array_elements(data.import_error(_entity, _state, _message, _detail, _constraint)) e);
        continue;
      end if;
      if _state = '23505' and not _upserts and _taken is null and data.skips_taken(_entity.id) then
        _taken := _constraint;
        _starts := _starts || _from;
        _ends := _ends || _to;
        continue;
      end if;
      _list := coalesce(_list, array(select r from jsonb_array_elements(_read.records) r));
      select coalesce(array_agg(l.r order by l.n) filter (where w.position is null), '{}'),
        coalesce(array_agg(l.number order by l.n) filter (where w.position is null), '{}'),
        jsonb_agg(t.told order by l.n, t.n) filter (where w.position is not null)
      into _kept, _kept_numbers, _told
      from unnest(_list[_from + 1:_to], _numbers[_from + 1:_to]) with ordinality l (r, number, n)
      left join data.wrong_records(_entity.id, case _state when 'RH422' then _detail end) w on w.position = l.n
      left join lateral (
        select jsonb_build_object('line', l.number) || e, n from jsonb_array_elements(w.errors) with ordinality x (e, n)
      ) t (told, n) on true;
      if _told is null then
        _starts := _starts || ((_from + _to) / 2) || _from;
        _ends := _ends || _to || ((_from + _to) / 2);
      else
        _errors := _errors || _told;
        _skipped := _skipped + _to - _from - cardinality(_kept);
        if _kept <> '{}' then
          _list[_from + 1:_from + cardinality(_kept)] := _kept;
          _numbers[_from + 1:_from + cardinality(_kept)] := _kept_numbers;
        end if;
        _starts := _starts || _from;
        _ends := _ends || (_from + cardinality(_kept));
      end if;
    end;
  end loop;

  if _errors <> '[]' then
    select jsonb_agg(e order by (e->>'line')::int, n) into _errors from jsonb_array_elements(_errors) with ordinality x (e, n);
    if import_lines.on_error = 'stop' then
      perform data.refuse_import(_errors);
    end if;
  end if;
  return jsonb_build_object('inserted', _inserted, 'updated', _updated, 'unchanged', _unchanged, 'skipped', _skipped, 'errors', _errors);
end
$$;
comment on function data.import_lines(text, jsonb, text[], text[], text) is
  'Writes up to 10,000 lines of NDJSON [[number, text], …], or records [[number, {…}], …], or rows of CSV [[number, [cell, …]], …] when columns are given, into an entity (acme/crm/contacts). Records that exist, by key (default id), are updated. Returns {"inserted", "updated", "unchanged", "skipped", "errors": [{"line", "pointer", "message"}]}; with on_error stop a wrong line undoes all: RH422 lists them; with list they are listed as with skip, for a caller who then undoes all. Where the writer does not see a unique field that the lines give, a value that is taken undoes all in any case (23505), and skip is refused. RH400, RH403, RH404, RH413, RH429.';
