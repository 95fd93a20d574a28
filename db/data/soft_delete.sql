-- x-soft-delete: a record that is deleted leaves the storage, so that no door has to hide it, its unique values are free and
-- relations do what they say; a trigger keeps it in <entity>__deleted_records, from where it can be restored.

create or replace function data.refuse_soft_delete(entity data.entities) returns void
language plpgsql set search_path = '' as $$
declare
  _by text;
begin
  select string_agg(distinct s.name, ', ') into _by
  from data.relations r join data.entities s on s.id = r.entity_id join data.entities t on t.id = r.target_id
  where r.on_delete = 'cascade' and entity.id in (s.id, t.id) and t.schema->'x-soft-delete' = 'true'
    and s.schema->'x-soft-delete' is distinct from 'true';
  if _by is not null then
    perform rowhouse.fail(400, format('Records of %s go with records they refer to, for good', _by),
      format('Give %s "x-soft-delete" too (first), or a relation that does not cascade.', _by), 'invalid_schema',
      data.violation('/x-soft-delete', format('needs the same of %s, whose relation cascades', _by)));
  end if;
end
$$;
comment on function data.refuse_soft_delete(data.entities) is 'Raises RH400 when deleting a record that can be restored would take others with it that cannot.';

create or replace function data.build_soft_delete(entity data.entities, schema_name text) returns void
language plpgsql set search_path = '' as $$
declare
  _storage text := data.storage_table(entity, build_soft_delete.schema_name);
  _deleted text := data.kept_name(entity, build_soft_delete.schema_name, 'deleted_records');
  _view text := data.kept_name(entity, build_soft_delete.schema_name, 'deleted');
  _keep text := format('%I.%I', build_soft_delete.schema_name, entity.name || '_keep_deleted');
  _any boolean;
begin
  perform data.refuse_soft_delete(entity);
  if entity.schema->'x-soft-delete' is distinct from 'true' then
    if to_regclass(_deleted) is not null then
      execute format('select exists (select from %s)', _deleted) into _any;
      if _any then
        perform rowhouse.fail(409, format('There are deleted records of %s that can be restored', entity.name),
          'Restore or purge them first: data.deleted, data.restore, data.purge.', 'deleted_records',
          data.violation('/x-soft-delete', 'is needed by deleted records'));
      end if;
      execute format('drop trigger if exists %I on %s', entity.name || '_keep_deleted', _storage);
      execute format('drop function %s()', _keep);
      execute format('drop table %s', _deleted);
    end if;
    return;
  end if;
  perform data.create_kept(entity, build_soft_delete.schema_name, 'deleted_records',
    'deleted_at timestamptz not null default now(), deleted_by uuid, primary key (id)',
    access.right_predicate(entity, 'delete', true) || ' and (expires_at is null or expires_at > now())');
  execute format('create index if not exists %I on %s (deleted_at, id)', data.object_name(entity.name, '_deleted_at', 'idx'), _deleted);
  execute format('create index if not exists %I on %s (expires_at) where expires_at is not null',
    data.object_name(entity.name, '_deleted_expires_at', 'idx'), _deleted);
  perform rowhouse.create_function($sql$
    create or replace function %1$s() returns trigger language plpgsql security definer set search_path = '' $sql$, $sql$
    begin
      %2$s on conflict (id) do update set (%3$s, deleted_at, deleted_by) = (%4$s, now(), excluded.deleted_by);
      return null;
    end $sql$, _keep, data.keep_statement(entity, build_soft_delete.schema_name, 'deleted_records', 'deleted_by', 'auth.account_id()'),
    data.kept_columns(), regexp_replace(data.kept_columns(), '(^|, )', '\1excluded.', 'g'));
  execute format('revoke all on function %s() from public', _keep);
  execute format('create or replace trigger %I after delete on %s referencing old table as gone for each statement
    when (not data.is_maintenance() and not data.is_expiring()) execute function %s()', entity.name || '_keep_deleted', _storage, _keep);

  execute format('create view %s as select %s, t.deleted_at, t.deleted_by from (%s) t where (%s) and %s', _view,
    data.column_list(entity, 't', 'kept'),
    data.kept_rows(entity, build_soft_delete.schema_name, 'deleted_records', ', k.deleted_at, k.deleted_by'),
    access.row_predicate(entity, 'delete', 't', true),
    access.row_predicate(entity, 'read', 't') || audit.kept_sql(entity, 'deleted', ' and '));
  execute format('alter view %s owner to rowhouse_data', _view);
  execute format('grant select on %s to %I, rowhouse_owner', _view, (select s.role_name from tenancy.sites s where s.id = entity.site_id));
  perform data.build_restore(entity, build_soft_delete.schema_name);
end
$$;
comment on function data.build_soft_delete(data.entities, text) is
  'Makes an entity keep what is deleted, when it has x-soft-delete; else drops what it kept. RH409 when that is not nothing.';

create or replace function data.build_restore(entity data.entities, schema_name text) returns void
language plpgsql set search_path = '' as $$
begin
  perform rowhouse.create_function($sql$
    create or replace function %1$s(_id uuid) returns setof %2$s language plpgsql security definer set search_path = '' $sql$, $sql$
    begin
      if not exists (select from %3$s t where t.id = _id) then
        perform data.write_error(404, %4$L, _id);
      end if;
      %6$s
      begin
        perform data.restore_record(%5$L, _id);
      exception
        when unique_violation then
          raise; -- says which value is taken
        when foreign_key_violation then
          perform rowhouse.fail(409, 'A record that this record of ' || %4$L || ' refers to does not exist any more',
            'Restore that one first.', 'reference_deleted');
      end;
      return query select t.* from %2$s t where t.id = _id;
    end $sql$,
    format('%I.%I', build_restore.schema_name, entity.name || '_restore'),
    format('%I.%I', build_restore.schema_name, entity.name),
    data.kept_name(entity, build_restore.schema_name, 'deleted'), entity.name, entity.id::text,
    access.guess_check(entity, 'null'));
  perform data.publish_kept_function(entity, build_restore.schema_name, format('%I(uuid)', entity.name || '_restore'));
end
$$;
comment on function data.build_restore(data.entities, text) is 'Generates <entity>_restore(id), for those who may delete.';

-- As with data.is_maintenance, only rowhouse_owner can be believed.
create or replace function data.is_restoring() returns boolean
language sql stable parallel safe
return current_user = 'rowhouse_owner' and coalesce(current_setting('rowhouse.restoring', true), '') = 'on';
comment on function data.is_restoring() is 'Whether a deleted record is being written that has its stamps already.';

create or replace function data.restore_record(entity_id uuid, id uuid, deleted_at timestamptz default null) returns boolean
language plpgsql security definer set search_path = '' as $$
declare
  _entity data.entities;
  _schema_name name;
  _deleted text;
  _record jsonb;
  _at timestamptz;
  _r record;
  _child uuid;
begin
  select e.* into _entity from data.entities e where e.id = restore_record.entity_id;
  select a.schema_name into _schema_name from tenancy.apps a where a.id = _entity.app_id;
  _deleted := data.kept_name(_entity, _schema_name, 'deleted_records');
  set local rowhouse.restoring = 'on';
  execute format($sql$
    with back as (
      delete from %1$s k
      where k.id = $1 and ($2 is null or k.deleted_at = $2) and (k.expires_at is null or k.expires_at > now())
      returning k.*
    ), written as (
      insert into %2$s (id, created_at, updated_at, version, created_by, _dropped, data)
      select k.id, k.created_at, now(), k.version + 1, k.created_by, u.dropped, u.data
      from back k, lateral %3$I.%4$I(k.data, k._dropped, k._schema_version) u
      returning id
    )
    select k.deleted_at, u.data || jsonb_build_object('id', k.id)
    from back k, lateral %3$I.%4$I(k.data, k._dropped, k._schema_version) u, written w $sql$,
    _deleted, data.storage_table(_entity, _schema_name), _schema_name, _entity.name || '_upgraded')
  into _at, _record using restore_record.id, restore_record.deleted_at;
  set local rowhouse.restoring = '';
  if _record is null then
    return false;
  end if;
  perform data.note_restored(_entity, _schema_name, restore_record.id);
  -- What went with it has the same moment of deletion and refers to it.
  for _r in
    select s as child, r.field, r.target_field from data.relations r join data.entities s on s.id = r.entity_id
    where r.target_id = _entity.id and r.on_delete = 'cascade' and s.schema->'x-soft-delete' = 'true' order by s.name
  loop
    for _child in execute format('
        select k.id from %s k, lateral %I.%I(k.data, k._dropped, k._schema_version) u
        where k.deleted_at = $1 and u.data->>%L = $2 order by k.id',
        data.kept_name(_r.child, _schema_name, 'deleted_records'), _schema_name, (_r.child).name || '_upgraded', _r.field)
      using _at, _record->>_r.target_field
    loop
      perform data.restore_record((_r.child).id, _child, _at);
    end loop;
  end loop;
  return true;
end
$$;
comment on function data.restore_record(uuid, uuid, timestamptz) is
  'Writes a deleted record back, and the records that were deleted with it because they refer to it. Internal: callers check rights. Fails like an insert: unique and foreign keys, RH422.';

create or replace function data.restore(entity text, id uuid) returns jsonb
language sql set search_path = '' as $$ select data.write(restore.entity, 'restore', restore.id, null, null) $$;
comment on function data.restore(text, uuid) is
  'Brings a deleted record of an entity with x-soft-delete back, and those that were deleted with it because they refer to it, and returns it. Needs the permission to delete. RH400; RH403; RH404; RH409 when something it refers to is deleted, 23505 when a unique value of it is taken by now; RH422 when it no longer fits the definition. RH429 after 20 guesses of a unique field that the writer does not see.';

create or replace function data.deleted(entity text, query jsonb default '{}') returns jsonb
language sql stable set search_path = '' as $$ select data.find(deleted.entity, deleted.query || '{"deleted": "only"}') $$;
comment on function data.deleted(text, jsonb) is
  'The deleted records of an entity with x-soft-delete, by a query as for data.find, each with deleted_at and deleted_by. Needs the permission to delete. RH400, RH403, RH404.';

create or replace function data.purge(entity text, id uuid) returns void
language sql set search_path = '' as $$ select data.write(purge.entity, 'purge', purge.id, null, null) $$;
comment on function data.purge(text, uuid) is
  'Deletes for good what is kept of a deleted record: itself (x-soft-delete) and its history (x-history). Needs the permission to delete. RH400; RH403; RH404; RH409 when it is not deleted.';

-- Where rights depend on the record, it is the state in which it was deleted that says whose it was.
create or replace function data.purgeable(entity data.entities, schema_name text) returns text
language sql stable set search_path = '' as $$
  select case when not access.is_special(entity) then 'true' else format('coalesce(%s, false)', array_to_string(array[
      case when entity.schema->'x-history' = 'true' then format('(
          select coalesce(%s and %s, false)
          from (%s where k.id = _id and k.operation = ''delete'') t order by t.version desc limit 1)',
        access.row_predicate(entity, 'delete', 't'), access.row_predicate(entity, 'read', 't'),
        data.kept_rows(entity, purgeable.schema_name, 'history')) else 'null' end,
      case when entity.schema->'x-soft-delete' = 'true' then format('exists (select from %s d where d.id = _id)',
        data.kept_name(entity, purgeable.schema_name, 'deleted')) else 'null' end], ', ')) end
$$;
comment on function data.purgeable(data.entities, text) is 'Whether a deleted record (_id) was one that the caller may see and delete, as SQL.';

create or replace function data.build_purge(entity data.entities, schema_name text) returns void
language plpgsql set search_path = '' as $$
begin
  perform rowhouse.create_function($sql$
    create function %1$s(_id uuid) returns boolean language plpgsql security definer set search_path = '' $sql$, $sql$
    begin
      perform %2$s;
      if exists (select from %3$s t where t.id = _id) then
        perform rowhouse.fail(409, 'This record of ' || %4$L || ' is not deleted', 'Delete it first.', 'not_deleted');
      elsif not %6$s or not data.purge_record(%5$L, _id) then
        perform data.write_error(404, %4$L, _id);
      end if;
      return true;
    end $sql$, format('%I.%I', build_purge.schema_name, entity.name || '_purge'), access.right_predicate(entity, 'delete', true),
    data.storage_table(entity, build_purge.schema_name), entity.name, entity.id::text, data.purgeable(entity, build_purge.schema_name));
  perform data.publish_kept_function(entity, build_purge.schema_name, format('%I(uuid)', entity.name || '_purge'));
end
$$;
comment on function data.build_purge(data.entities, text) is 'Generates <entity>_purge(id), for those who may delete.';

create or replace function data.purge_record(entity_id uuid, id uuid) returns boolean
language plpgsql security definer set search_path = '' as $$
declare
  _entity data.entities;
  _schema_name name;
  _what text;
  _found boolean;
  _count bigint := 0;
  _n bigint;
begin
  select e.* into _entity from data.entities e where e.id = purge_record.entity_id;
  select a.schema_name into _schema_name from tenancy.apps a where a.id = _entity.app_id;
  execute format('select exists (select from %s t where t.id = $1)', data.storage_table(_entity, _schema_name)) into _found
    using purge_record.id;
  if not _found then
    foreach _what in array array['deleted_records', 'history'] loop
      if to_regclass(data.kept_name(_entity, _schema_name, _what)) is not null then
        execute format('delete from %s k where k.id = $1', data.kept_name(_entity, _schema_name, _what)) using purge_record.id;
        get diagnostics _n = row_count;
        _count := _count + _n;
      end if;
    end loop;
  end if;
  return _count > 0;
end
$$;
comment on function data.purge_record(uuid, uuid) is 'Deletes what is kept of a record that is not in the storage; false when that is nothing. Internal: callers check rights.';
