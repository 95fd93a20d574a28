-- Converting an entity's storage while clients read and write: a second table beside the first, kept alike by a trigger,
-- filled in batches, and put in the first one's place in a moment.

create or replace function data.convert_storage(entity text, storage text) returns data.operations
language plpgsql security definer set search_path = '' as $$
declare
  _entity data.entities := data.require_entity_for_change(convert_storage.entity);
begin
  if convert_storage.storage is null or convert_storage.storage not in ('jsonb', 'flat') then
    perform rowhouse.fail(400, format('%L is not a storage', left(convert_storage.storage, 60)), 'jsonb or flat.', 'invalid_storage');
  elsif _entity.storage = convert_storage.storage then
    perform rowhouse.fail(409, format('%s is stored as %s already', _entity.name, _entity.storage), 'Nothing is to be done.',
      'storage_is_so');
  elsif convert_storage.storage = 'flat' and _entity.schema->'properties' ? 'data' then
    perform rowhouse.fail(409, format('%s cannot be stored flat: it has a property named data', _entity.name),
      'Rename it first, with x-renamed-from.', 'invalid_storage');
  end if;
  return data.start_operation(_entity, 'convert_storage', jsonb_build_object('storage', convert_storage.storage));
end
$$;
comment on function data.convert_storage(text, text) is
  'Converts how an entity (acme/crm/contacts) is stored, to flat (a column a property) or jsonb, while clients go on reading and writing. Returns the operation: data.operations shows its progress, data.cancel_operation(id) takes it back. Site owners and admins only. RH400, RH403, RH404, RH409.';

create or replace function data.with_storage(entity data.entities, storage text) returns data.entities
language plpgsql immutable set search_path = '' as $$
begin
  entity.storage := with_storage.storage;
  return entity;
end
$$;
comment on function data.with_storage(data.entities, text) is 'The entity as if it were stored so.';

-- What would be built, were the entity stored so from the beginning; nothing of it stays.
create or replace function data.statements_for_storage(entity data.entities, schema_name text, storage text) returns text[]
language plpgsql set search_path = '' as $$
declare
  _target data.entities;
  _statements text[];
begin
  begin
    update data.entities e set storage = statements_for_storage.storage where e.id = entity.id returning e.* into _target;
    perform data.save_fields(_target);
    _statements := data.storage_statements(_target, statements_for_storage.schema_name, '{}', '{}', '[]');
    raise exception 'taken back' using errcode = 'RH002';
  exception when sqlstate 'RH002' then
    return _statements;
  end;
end
$$;
comment on function data.statements_for_storage(data.entities, text, text) is 'The statements that a new storage of that kind would be built with.';

create or replace function data.copy_list(entity data.entities, target data.entities, alias text, out columns text[],
  out expressions text[])
language plpgsql stable set search_path = '' as $$
declare
  _record text := data.record_source(entity, alias);
  _schema_name name := (select a.schema_name from tenancy.apps a where a.id = entity.app_id);
  _dropped text := format(case entity.storage
    when 'flat'
      then '(select jsonb_object_agg(key, value) from jsonb_each(coalesce(%1$s._dropped, ''{}'') || to_jsonb(%1$s.*)) where key ~ ''@'' and value <> ''null'')'
    else '(%2$I.%3$I(%1$s.data, %1$s._dropped, %1$s._schema_version)).dropped' end, alias,
    _schema_name, entity.name || '_upgraded');
begin
  select array['id', 'created_at', 'updated_at', 'version', 'created_by', '_schema_version', '_dropped']
      || case target.storage when 'jsonb' then '{data}'::text[] else '{}' end
      || case data.link_names(entity.schema) when '{}' then '{}'::text[] else '{_links}' end
      || coalesce(array_agg(quote_ident(f.name) order by f.position), '{}')
      || case when data.search_state(target, _schema_name) is null then '{}'::text[] else '{_search}' end,
    array[alias || '.id', alias || '.created_at', alias || '.updated_at', alias || '.version', alias || '.created_by', entity.version::text,
      _dropped]
      || case target.storage when 'jsonb' then array[_record] else '{}' end
      || case data.link_names(entity.schema) when '{}' then '{}' else array[alias || '._links'] end
      || coalesce(array_agg(case when f.is_promoted then format('%s.%I', alias, f.name) else data.column_value(f, _record) end
        order by f.position), '{}')
      || case when data.search_state(target, _schema_name) is null then '{}'::text[] else array[alias || '._search'] end
  into columns, expressions
  from data.fields f
  where f.entity_id = entity.id and not data.is_virtual(f.schema)
    and (target.storage = 'flat' or f.is_unique or f.is_indexed or f.name = any (data.indexed_together(entity.schema))
    or exists (select from data.unique_sets(entity.schema) s where f.name = any (s.fields)));
end
$$;
comment on function data.copy_list(data.entities, data.entities, text) is
  'How a row of an entity''s storage (alias) is written to that of target: columns and expressions.';

create or replace function data.convert_storage_step(operation data.operations, entity data.entities, out step text, out reached jsonb,
  out records bigint)
language plpgsql set search_path = '' as $$
declare
  _schema_name name := (select a.schema_name from tenancy.apps a where a.id = entity.app_id);
  _target data.entities := data.with_storage(entity, operation.arguments->>'storage');
begin
  step := operation.step;
  reached := operation.reached;
  records := 0;
  case operation.step
    when 'begin' then
      perform data.begin_conversion(operation, entity, _target, _schema_name);
      step := 'copy';
    when 'copy' then
      select c.reached, c.records into reached, records from data.copy_batch(entity, _target, _schema_name, operation.reached) c;
      step := case when reached is null then 'keys' else 'copy' end;
    when 'keys' then
      if not data.add_next_key(entity, _target, _schema_name) then
        execute format('analyze %s', data.storage_table(_target, _schema_name));
        step := 'switch';
      end if;
    when 'switch' then
      perform data.switch_storage(entity, _target, _schema_name);
      step := 'finish';
    else
      step := case when data.validate_next_key(_schema_name) then 'finish' else 'done' end;
  end case;
end
$$;
comment on function data.convert_storage_step(data.operations, data.entities) is
  'A step of data.convert_storage: begin, copy (2,000 records each), keys, switch, finish. Returns the next step.';

create or replace function data.convert_storage_undo(operation data.operations, entity data.entities) returns void
language plpgsql set search_path = '' as $$
declare
  _schema_name name := (select a.schema_name from tenancy.apps a where a.id = entity.app_id);
begin
  perform data.lock_tables(array[data.storage_table(entity, _schema_name)]);
  execute format('drop trigger if exists %I on %s', entity.name || '_convert', data.storage_table(entity, _schema_name));
  execute format('drop function if exists %I.%I()', _schema_name, entity.name || '_convert');
  execute format('drop table if exists %s', data.storage_table(data.with_storage(entity, operation.arguments->>'storage'), _schema_name));
end
$$;
comment on function data.convert_storage_undo(data.operations, data.entities) is 'Removes what an unfinished data.convert_storage has built.';

create or replace function data.begin_conversion(operation data.operations, entity data.entities, target data.entities, schema_name text)
  returns void
language plpgsql set search_path = '' as $$
declare
  _copy record;
  _statement text;
  _records bigint;
begin
  perform data.lock_tables('{}', array[data.storage_table(entity, schema_name)]);
  perform data.create_storage(target, schema_name);
  foreach _statement in array data.statements_for_storage(entity, schema_name, target.storage) loop
    if _statement !~ ' foreign key ' then
      execute _statement;
    end if;
  end loop;
  perform data.begin_search(entity, target, schema_name);
  _copy := data.copy_list(entity, target, 't');
  perform rowhouse.create_function($sql$
    create or replace function %1$s() returns trigger language plpgsql security definer set search_path = '' $sql$, $sql$
    begin
      if tg_op = 'DELETE' then
        delete from %2$s where id = old.id;
      else
        insert into %2$s (%3$s) select %4$s from (select new.*) t on conflict (id) do update set %5$s;
      end if;
      return null;
    end $sql$, format('%I.%I', schema_name, entity.name || '_convert'), data.storage_table(target, schema_name),
    array_to_string(_copy.columns, ', '), array_to_string(_copy.expressions, ', '),
    (select string_agg(format('%1$s = excluded.%1$s', c), ', ') from unnest(_copy.columns) c where c <> 'id'));
  execute format('revoke all on function %I.%I() from public', schema_name, entity.name || '_convert');
  execute format('create trigger %I after insert or update or delete on %s for each row execute function %I.%I()',
    entity.name || '_convert',
    data.storage_table(entity, schema_name), schema_name, entity.name || '_convert');
  execute format('select count(*) from %s', data.storage_table(entity, schema_name)) into _records;
  update data.operations o set records_total = _records where o.id = operation.id;
end
$$;
comment on function data.begin_conversion(data.operations, data.entities, data.entities, text) is
  'Builds the new storage without foreign keys, and the trigger that from now on writes every change there too.';

-- Rows are locked before they are read: one that is being changed is read after the change, and its trigger finds it there or
-- has written it already.
create or replace function data.copy_batch(entity data.entities, target data.entities, schema_name text, after jsonb, out reached jsonb,
  out records bigint)
language plpgsql set search_path = '' as $$
declare
  _copy record := data.copy_list(entity, target, 't');
  _table text := data.storage_table(entity, schema_name);
  _after uuid := coalesce(after #>> '{}', '00000000-0000-0000-0000-000000000000')::uuid;
  _last uuid;
begin
  execute format('select (array_agg(x.id order by x.id desc))[1] from (select t.id from %s t where t.id > $1 order by t.id limit 2000) x',
    _table)
  into _last using _after;
  execute format($sql$
    with batch as materialized (
      select * from %s t where t.id > $1 and t.id <= $2 for share
    ), copied as (
      insert into %s (%s) select %s from batch t on conflict (id) do nothing
    )
    select count(*) from batch $sql$,
    _table, data.storage_table(target, schema_name), array_to_string(_copy.columns, ', '), array_to_string(_copy.expressions, ', '))
  into records using _after, _last;
  reached := to_jsonb(_last);
end
$$;
comment on function data.copy_batch(data.entities, data.entities, text, jsonb) is
  'Copies the next 2,000 records by id into the new storage; reached is null when there were none.';

create or replace function data.add_next_key(entity data.entities, target data.entities, schema_name text) returns boolean
language plpgsql set search_path = '' as $$
declare
  _table text := data.storage_table(target, schema_name);
  _statement text;
  _name name;
begin
  foreach _statement in array data.statements_for_storage(entity, schema_name, target.storage) loop
    continue when _statement !~ ' foreign key ';
    _name := substring(_statement from 'add constraint "?([^" ]+)"? ');
    if not exists (select from pg_catalog.pg_constraint c where c.conrelid = to_regclass(_table) and c.conname = _name) then
      perform data.lock_tables('{}', array[_table, substring(_statement from ' references (\S+) ')]);
      execute format('%s not valid', _statement);
      return true;
    elsif exists (select from pg_catalog.pg_constraint c
      where c.conrelid = to_regclass(_table) and c.conname = _name and not c.convalidated) then
      execute format('alter table %s validate constraint %I', _table, _name);
      return true;
    end if;
  end loop;
  return false;
end
$$;
comment on function data.add_next_key(data.entities, data.entities, text) is
  'Adds or validates the next foreign key of a new storage; false when all are there. Validating lets writers go on.';

create or replace function data.validate_next_key(schema_name text) returns boolean
language plpgsql set search_path = '' as $$
declare
  _key record;
begin
  select c.conname, c.conrelid into _key from pg_catalog.pg_constraint c
  where c.connamespace = (select n.oid from pg_catalog.pg_namespace n where n.nspname = validate_next_key.schema_name) and c.contype = 'f'
    and not c.convalidated
  limit 1;
  if _key.conname is null then
    return false;
  end if;
  execute format('alter table %s validate constraint %I', _key.conrelid::regclass, _key.conname);
  return true;
end
$$;
comment on function data.validate_next_key(text) is 'Validates a foreign key of an app that is not yet; false when there is none.';
