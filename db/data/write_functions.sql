-- Per entity: set-based writes straight into the storage, and the view's INSTEAD OF trigger. They run as
-- rowhouse_data, under the storage's row-level security, so that the site's role never touches the storage.

create or replace function data.record_data(record jsonb) returns jsonb
language sql immutable parallel safe set search_path = '' as $$
  select record_data.record - data.system_columns()
$$;
comment on function data.record_data(jsonb) is 'A record without its system columns.';

create or replace function data.without_nulls(record jsonb) returns jsonb
language sql immutable parallel safe set search_path = '' as $$
  select coalesce(jsonb_object_agg(key, value), '{}') from jsonb_each(without_nulls.record) where value <> 'null'
$$;
comment on function data.without_nulls(jsonb) is 'A record without its properties that are null; null and absent are the same.';

create or replace function data.refuse_batch(prefix text, errors jsonb) returns void
language sql set search_path = '' as $$
  select rowhouse.fail(422, prefix || (errors #>> '{0,pointer}') || ' ' || (errors #>> '{0,message}'),
    'Nothing was written. errors lists the problems by JSON pointer into the list of records.', 'validation_failed', errors)
$$;
comment on function data.refuse_batch(text, jsonb) is 'Raises RH422 for a list of records of which some are not valid.';

create or replace function data.write_error(status int, name text, id uuid, current_version int default null) returns void
language plpgsql set search_path = '' as $$
begin
  if write_error.status = 409 then
    perform rowhouse.fail(409, format('This record of %s was changed in the meantime: it has version %s now', name, current_version),
      'Read it again, merge your change, and send the version you saw.', 'version_conflict');
  elsif write_error.status = 403 then
    perform rowhouse.fail(403, format('You may see this record of %s, but not do that with it', name),
      'Your rights to change records do not cover it.', 'forbidden');
  elsif write_error.status = 413 then
    perform rowhouse.fail(413, format('Too many records of %s in one call', name), 'Send at most 10,000 records at once.',
      'batch_too_large');
  elsif write_error.status = 400 then
    perform rowhouse.fail(400, format('Records of %s are a JSON object or a list of JSON objects', name),
      '{"name": "Ann"} or [{"name": "Ann"}, …]', 'invalid_body');
  else
    perform rowhouse.fail(404, format('There is no record of %s with the id %s that you may see', name, write_error.id),
      'Check the id; it may have been deleted.', 'not_found');
  end if;
end
$$;
comment on function data.write_error(int, text, uuid, int) is 'Raises the errors of the generated write functions: RH400, RH403, RH404, RH409, RH413.';

create or replace function data.build_write_functions(entity data.entities, schema_name text) returns void
language plpgsql set search_path = '' as $$
declare
  _view text := format('%I.%I', build_write_functions.schema_name, entity.name);
  _table text := data.storage_table(entity, build_write_functions.schema_name);
  _base text := build_write_functions.schema_name || '.' || entity.name;
  _columns text := data.column_list(entity, 't', 'written');
  _record text := data.record_source(entity, 't');
  _named text := case when access.checks_fields(entity) then 'access.named' else 'data.record_data' end;
  _role name;
  _function text;
  _defaults jsonb := data.default_values(entity.id);
  _list_check text := data.list_check(entity);
  _guess_check text := access.guess_check(entity, '%s');
begin
  select s.role_name into _role from tenancy.sites s where s.id = entity.site_id;
  perform data.build_unseen(entity, schema_name);

  perform rowhouse.create_function($sql$
    create or replace function %1$s(_records jsonb) returns setof %2$s
    language plpgsql security definer set search_path = '' $sql$, $sql$
    declare
      _errors jsonb;
    begin
      %10$s
      if jsonb_typeof(_records) = 'object' then
        if %8$s then
          return query insert into %3$s as t (id, data)
            values (coalesce((_records->>'id')::uuid, uuidv7()), _records - 'id') returning %4$s;
        else
          return query select * from %9$s(jsonb_build_array(_records));
        end if;
        return;
      elsif jsonb_typeof(_records) is distinct from 'array'
        or jsonb_path_exists(_records, '$[*] ? (@.type() != "object")') then
        perform data.write_error(400, %5$L, null);
      elsif jsonb_array_length(_records) > 10000 then
        perform data.write_error(413, %5$L, null);
      end if;
      begin
        if %8$s then
          return query %7$s returning %4$s;
        else
          return query select * from %9$s(_records);
        end if;
      exception when sqlstate 'RH422' then
        _errors := (%6$s);
        if _errors is null then
          raise; -- not by the schema
        end if;
        perform data.refuse_batch('A record of ' || %5$L || ' is not valid: ', _errors);
      end;
    end $sql$,
    format('%I.%I', schema_name, entity.name || '_insert'), _view, _table, _columns, entity.name,
    data.list_violations(entity, schema_name, _defaults),
    data.insert_list_statement(entity, schema_name, data.records_source('_records'), _list_check), data.sees_function(entity, schema_name),
    format('%I.%I', schema_name, entity.name || '_insert_unseen'), format(_guess_check, '_records'));

  perform rowhouse.create_function($sql$
    create or replace function %1$s(_id uuid, _changes jsonb, _version int, _replace boolean) returns setof %2$s
    language plpgsql security definer set search_path = '' $sql$, $sql$
    declare
      _current int;
    begin
      if jsonb_typeof(_changes) is distinct from 'object' then
        perform data.write_error(400, %5$L, null);
      end if;
      _version := coalesce(_version, (_changes->>'version')::int);
      if (_changes->>'id')::uuid <> _id then
        perform rowhouse.fail(400, 'The id of a record cannot be changed', 'Leave id out, or repeat the one in the address.', 'id_mismatch');
      end if;
      %10$s
      return query update %3$s t
        set data = case when _replace then %6$L::jsonb || %8$s(_changes) else %7$s || %8$s(_changes) end
        where t.id = _id and (_version is null or t.version = _version)
        returning %4$s;
      if not found then
        select t.version into _current from %3$s t where t.id = _id;
        if _current = coalesce(_version, _current) then
          perform access.refuse_record(%9$L, 'update', _id);
        end if;
        perform data.write_error(case when _current is null then 404 else 409 end, %5$L, _id, _current);
      end if;
    end $sql$,
    format('%I.%I', schema_name, entity.name || '_update'), _view, _table, _columns, entity.name,
    (select (coalesce(jsonb_object_agg(n, '[]'::jsonb), '{}') || _defaults)::text from unnest(data.link_names(entity.schema)) n), _record,
    _named, access.entity_path(entity), format(_guess_check, '_changes'));

  perform rowhouse.create_function($sql$
    create or replace function %1$s(_id uuid, _version int) returns boolean
    language plpgsql security definer set search_path = '' $sql$, $sql$
    declare
      _current int;
    begin
      delete from %2$s t where t.id = _id and (_version is null or t.version = _version);
      if not found then
        select t.version into _current from %2$s t where t.id = _id;
        if _current = coalesce(_version, _current) then
          perform access.refuse_record(%4$L, 'delete', _id);
        end if;
        perform data.write_error(case when _current is null then 404 else 409 end, %3$L, _id, _current);
      end if;
      return true;
    end $sql$,
    format('%I.%I', schema_name, entity.name || '_delete'), _table, entity.name, access.entity_path(entity));

  -- Only what the statement changed is written, so that a concurrent change of another column is not undone.
  perform rowhouse.create_function($sql$
    create or replace function %1$s() returns trigger
    language plpgsql security definer set search_path = '' $sql$, $sql$
    declare
      _count int;
      _changes jsonb;
    begin
      if tg_op = 'INSERT' then
        %9$s
      end if;
      if tg_op = 'INSERT' and not %7$s then
        select * into new from %8$s(jsonb_build_array(to_jsonb(new) - 'version' - 'created_at' - 'updated_at' - 'created_by'));
        return new;
      elsif tg_op = 'INSERT' then
        insert into %2$s as t (id, data) values (coalesce(new.id, uuidv7()), data.record_data(to_jsonb(new)))
        returning %3$s into new;
        return new;
      elsif tg_op = 'UPDATE' then
        if new.id is distinct from old.id then
          perform rowhouse.fail(400, 'The id of a record cannot be changed', 'Leave id as it is.', 'id_mismatch');
        elsif new.version is distinct from old.version then
          perform data.write_error(409, %4$L, old.id, old.version);
        end if;
        select jsonb_object_agg(n.key, n.value) into _changes
        from jsonb_each(data.record_data(to_jsonb(new))) n where n.value is distinct from to_jsonb(old)->n.key;
        %10$s
        update %2$s t set data = %5$s || %6$s(coalesce(_changes, '{}')) where t.id = old.id returning %3$s into new;
        get diagnostics _count = row_count;
        return case when _count = 1 then new end;
      end if;
      delete from %2$s t where t.id = old.id;
      get diagnostics _count = row_count;
      return case when _count = 1 then old end;
    end $sql$,
    format('%I.%I', schema_name, entity.name || '_write_through'), _table, _columns, entity.name, _record, _named,
    data.sees_function(entity, schema_name), format('%I.%I', schema_name, entity.name || '_insert_unseen'),
    coalesce(nullif(format(_guess_check, 'to_jsonb(new)'), ''), 'null;'), format(_guess_check, '_changes'));
  execute format('create or replace trigger %I instead of insert or update or delete on %s for each row execute function %I.%I()',
    entity.name || '_write_through', _view, schema_name, entity.name || '_write_through');
  execute format('alter view %s alter column id set default uuidv7()', _view);

  perform data.build_insert_ids(entity, build_write_functions.schema_name, _list_check);
  for _function in
    select format('%I.%I(%s)', schema_name, entity.name || s.suffix, s.arguments)
    from (values ('_insert', 'jsonb'), ('_insert_ids', 'jsonb'), ('_update', 'uuid, jsonb, int, boolean'), ('_delete', 'uuid, int'),
      ('_write_through', '')) s (suffix, arguments)
  loop
    execute format('comment on function %s is %L', _function, E'@behavior -*\nWrites records of ' || entity.name || '.');
    execute format('revoke all on function %s from public', _function);
    execute format('grant execute on function %s to %I, rowhouse_owner', _function, _role);
    execute format('alter function %s owner to rowhouse_data', _function);
  end loop;
end
$$;
comment on function data.build_write_functions(data.entities, text) is
  'Generates an entity''s insert, update and delete functions and its view''s INSTEAD OF trigger.';

create or replace function data.drop_write_functions(entity data.entities, schema_name text) returns void
language plpgsql set search_path = '' as $$
begin
  perform data.drop_unseen(entity, schema_name);
  if to_regclass(format('%I.%I', schema_name, entity.name)) is not null then
    execute format('drop trigger if exists %I on %I.%I', entity.name || '_write_through', schema_name, entity.name);
  end if;
  execute format('
    drop function if exists %1$I.%2$I(jsonb), %1$I.%6$I(jsonb), %1$I.%3$I(uuid, jsonb, int, boolean), %1$I.%4$I(uuid, int), %1$I.%5$I()',
    schema_name,
    entity.name || '_insert', entity.name || '_update', entity.name || '_delete', entity.name || '_write_through',
    entity.name || '_insert_ids');
end
$$;
comment on function data.drop_write_functions(data.entities, text) is 'Drops what data.build_write_functions made.';
