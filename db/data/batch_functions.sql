-- Per entity: changes and deletions of many records at once, straight in the storage like data.build_write_functions.

create or replace function data.check_batch(name text, records jsonb) returns void
language plpgsql immutable set search_path = '' as $$
begin
  if jsonb_typeof(records) is distinct from 'array' or jsonb_path_exists(records, 'strict $[*] ? (@.type() != "object")') then
    perform data.write_error(400, check_batch.name, null);
  elsif jsonb_array_length(records) > 10000 then
    perform data.write_error(413, check_batch.name, null);
  end if;
end
$$;
comment on function data.check_batch(text, jsonb) is 'Raises RH400 unless records is a list of JSON objects, and RH413 when they are more than 10,000.';

create or replace function data.refuse_many(name text, max int) returns void
language sql set search_path = '' as $$
  select rowhouse.fail(409,
    format('At least %s records of %s match, and max is %s: nothing was written', refuse_many.max + 1, name, refuse_many.max),
    'Narrow the filter, or raise max to as many as you expect (10,000 at most).', 'too_many_matches')
$$;
comment on function data.refuse_many(text, int) is 'Raises RH409: a filter matches more records than were expected.';

create or replace function data.refuse_ids(name text, records jsonb) returns void
language plpgsql set search_path = '' as $$
declare
  _errors jsonb;
begin
  select jsonb_agg(jsonb_build_object('pointer', format('/%s/id', r.n - 1), 'message', case
      when r.value->'id' is null then 'is required: it says which record to change'
      when not pg_input_is_valid(r.value->>'id', 'uuid') then 'must be a UUID'
      else format('is the same as in /%s', r.first - 1) end) order by r.n)
  into _errors
  from (select x.value, x.n, min(x.n) over (partition by lower(x.value->>'id')) as first
    from jsonb_array_elements(records) with ordinality x (value, n)) r
  where r.value->'id' is null or not pg_input_is_valid(r.value->>'id', 'uuid') or r.n > r.first;
  if _errors is not null then
    perform data.refuse_batch('A change of ' || refuse_ids.name || ' is not valid: ', _errors);
  end if;
end
$$;
comment on function data.refuse_ids(text, jsonb) is 'Raises RH422 unless every record of a list has an id of its own.';

create or replace function data.refuse_stale(name text, records jsonb, versions jsonb) returns void
language plpgsql set search_path = '' as $$
declare
  _errors jsonb;
  _missing boolean;
begin
  select jsonb_agg(jsonb_build_object('pointer', format('/%s/%s', r.n - 1, case when v is null then 'id' else 'version' end), 'message',
      case when v is null then 'is of no record that you may see' else format('is not the current one: %s', v) end)
        order by v is not null, r.n),
    bool_or(v is null)
  into _errors, _missing
  from jsonb_array_elements(records) with ordinality r (value, n), lateral (select refuse_stale.versions->>lower(r.value->>'id')) c (v)
  where v is null or v <> r.value->>'version';
  if _errors is not null then
    perform rowhouse.fail(case when _missing then 404 else 409 end, format('A record of %s %s', name,
        case when _missing then 'does not exist' else 'was changed in the meantime' end),
      'Nothing was written. errors lists them by JSON pointer into the list of records.',
      case when _missing then 'not_found' else 'version_conflict' end, _errors);
  end if;
end
$$;
comment on function data.refuse_stale(text, jsonb, jsonb) is
  'Raises RH404 or RH409 for records of a list that do not exist, or have another version than versions ({id: version}) says.';

create or replace function data.build_batch_functions(entity data.entities, schema_name text) returns void
language plpgsql set search_path = '' as $$
declare
  _view text := format('%I.%I', build_batch_functions.schema_name, entity.name);
  _table text := data.storage_table(entity, build_batch_functions.schema_name);
  _columns text := data.column_list(entity, 't', 'written');
  _record text := data.record_source(entity, 't');
  _named text := case when access.checks_fields(entity) then 'access.named' else 'data.record_data' end;
  _guess_check text := access.guess_check(entity, '%s');
  _function text;
begin
  -- Locked in the order of their ids, so that two changes of the same records wait for each other and never for ever.
  perform rowhouse.create_function($sql$
    create or replace function %1$s(_records jsonb) returns setof %2$s
    language plpgsql security definer set search_path = '' $sql$, $sql$
    declare
      _errors jsonb;
      _versions jsonb;
    begin
      perform data.check_batch(%5$L, _records);
      perform data.refuse_ids(%5$L, _records);
      %12$s
      select coalesce(jsonb_object_agg(l.id, l.version), '{}') into _versions
      from (select t.id, t.version from %3$s t
        where t.id = any (array(select (x._r->>'id')::uuid from jsonb_array_elements(_records) x (_r))) order by t.id for update) l;
      perform data.refuse_stale(%5$L, _records, _versions);
      begin
        return query
          with changed as (
            update %3$s t set data = %8$s || %10$s(r.value)
            from (select r.value, r.n, (r.value->>'id')::uuid as id from jsonb_array_elements(_records) with ordinality r (value, n) limit jsonb_array_length(_records)) r (value, _n, id)
            where t.id = r.id
            returning r._n, %4$s
          )
          select %6$s from changed u order by u._n;
      exception when sqlstate 'RH422' then
        %11$s
        select jsonb_agg(x._e || jsonb_build_object('pointer', '/' || (r.n - 1) || (x._e->>'pointer')) order by r.n) into _errors
        from (select r.value, r.n, (r.value->>'id')::uuid as id from jsonb_array_elements(_records) with ordinality r (value, n) limit jsonb_array_length(_records)) r join %3$s t on t.id = r.id,
          jsonb_array_elements(%7$s(%9$s)) x (_e); -- no property has such a name
        if _errors is null then
          raise; -- not by the schema
        end if;
        perform data.refuse_batch('A record of ' || %5$L || ' is not valid: ', _errors);
      end;
    end $sql$,
    format('%I.%I', schema_name, entity.name || '_update_list'), _view, _table, _columns, entity.name, data.column_names(entity, 'u'),
    format('%I.%I', schema_name, entity.name || '_violations'), _record,
    data.computed_call(entity, schema_name, format('data.without_nulls(%s || data.record_data(r.value))', _record)), _named,
    access.compile_list_check(entity, 't', 'r.value', 'jsonb_array_elements(_records) r (value) join '
      || _table || ' t on t.id = (r.value->>''id'')::uuid'), format(_guess_check, '_records'));

  perform rowhouse.create_function($sql$
    create or replace function %1$s(_ids uuid[], _changes jsonb, _max int) returns setof %2$s
    language plpgsql security definer set search_path = '' $sql$, $sql$
    begin
      if jsonb_typeof(_changes) is distinct from 'object' then
        perform data.write_error(400, %5$L, null);
      elsif _changes ?| array['id', 'version'] then
        perform rowhouse.fail(400, 'id and version are of one record and cannot be given for many', 'Leave them out.', 'invalid_body');
      elsif cardinality(_ids) > _max then
        perform data.refuse_many(%5$L, _max);
      end if;
      %8$s
      return query update %3$s t set data = %6$s || %7$s(_changes) where t.id = any (_ids) returning %4$s;
    end $sql$,
    format('%I.%I', schema_name, entity.name || '_update_many'), _view, _table, _columns, entity.name, _record, _named,
    format(_guess_check, '_changes'));

  perform rowhouse.create_function($sql$
    create or replace function %1$s(_ids uuid[], _versions int[], _max int) returns setof %2$s
    language plpgsql security definer set search_path = '' $sql$, $sql$
    begin
      if cardinality(_ids) > _max then
        perform data.refuse_many(%5$L, _max);
      end if;
      return query delete from %3$s t using unnest(_ids, _versions) m (id, version) where t.id = m.id and t.version = m.version returning %4$s;
    end $sql$,
    format('%I.%I', schema_name, entity.name || '_delete_many'), _view, _table, data.column_list(entity, 't'), entity.name);
  perform data.build_upsert_function(entity, schema_name);

  for _function in
    select format('%I.%I(%s)', schema_name, entity.name || s.suffix, s.arguments)
    from (values ('_update_list', 'jsonb'), ('_update_many', 'uuid[], jsonb, int'), ('_delete_many', 'uuid[], int[], int'),
      ('_upsert', 'jsonb, text[], boolean')) s (suffix, arguments)
  loop
    execute format('comment on function %s is %L', _function, E'@behavior -*\nWrites many records of ' || entity.name || '.');
    execute format('revoke all on function %s from public', _function);
    execute format('grant execute on function %s to %I, rowhouse_owner', _function,
      (select s.role_name from tenancy.sites s where s.id = entity.site_id));
    execute format('alter function %s owner to rowhouse_data', _function);
  end loop;
end
$$;
comment on function data.build_batch_functions(data.entities, text) is
  'Generates an entity''s functions that change, delete and upsert many records at once.';

create or replace function data.drop_batch_functions(entity data.entities, schema_name text) returns void
language plpgsql set search_path = '' as $$
begin
  execute format('drop function if exists %1$I.%2$I(jsonb), %1$I.%3$I(uuid[], jsonb, int), %1$I.%4$I(uuid[], int[], int), %1$I.%5$I(jsonb, text[], boolean)',
    schema_name, entity.name || '_update_list', entity.name || '_update_many', entity.name || '_delete_many', entity.name || '_upsert');
end
$$;
comment on function data.drop_batch_functions(data.entities, text) is 'Drops what data.build_batch_functions made.';
