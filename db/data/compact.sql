-- After a while nobody goes back: records are brought to the current definition, and what was dropped is gone for good.

create or replace function data.compact(entity text) returns data.operations
language plpgsql security definer set search_path = '' as $$
begin
  return data.start_operation(data.require_entity_for_change(compact.entity), 'compact');
end
$$;
comment on function data.compact(text) is
  'Brings every stored record of an entity to the current definition and deletes for good the values of dropped properties: data.rollback can no longer bring them back. Returns the operation; clients go on. Site owners and admins only. RH403, RH404, RH409.';

create or replace function data.compact_step(operation data.operations, entity data.entities, out step text, out reached jsonb,
  out records bigint)
language plpgsql set search_path = '' as $$
declare
  _schema_name name := (select a.schema_name from tenancy.apps a where a.id = entity.app_id);
  _table text := data.storage_table(entity, _schema_name);
  _after uuid := coalesce(case operation.step when 'copy' then operation.reached #>> '{}' end,
    '00000000-0000-0000-0000-000000000000')::uuid;
  _last uuid;
begin
  records := 0;
  if operation.step = 'begin' then
    execute format('update data.operations o set records_total = (select count(*) from %s)%s where o.id = $1', _table, (
      select string_agg(format(' + (select count(*) from %s)', k), '')
      from unnest(data.kept_tables(entity, _schema_name)) k)) using operation.id;
    step := 'copy';
  elsif operation.step = 'copy' then
    set local rowhouse.maintenance = 'on';
    execute format($sql$
      with batch as materialized (
        select t.id from %1$s t where t.id > $1 order by t.id limit 2000
      ), done as (
        update %1$s t set %2$s_schema_version = %3$s, _dropped = null from batch b
        where t.id = b.id and (t._schema_version <> %3$s or t._dropped is not null)
      )
      select count(*), (array_agg(id order by id desc))[1] from batch $sql$,
      _table, case entity.storage when 'jsonb' then format('data = %s, ', data.record_source(entity, 't')) end, entity.version)
    into records, _last using _after;
    set local rowhouse.maintenance = '';
    reached := to_jsonb(_last);
    step := case when _last is null then 'kept' else 'copy' end;
  elsif operation.step = 'kept' then
    select c.reached, c.records into reached, records from data.compact_kept_batch(entity, _schema_name, operation.reached) c;
    step := case when reached is null then 'finish' else 'kept' end;
  else
    perform data.compact_kept(entity, _schema_name); -- what clients have added since
    perform data.forget_versions(entity, _schema_name);
    step := 'done';
  end if;
end
$$;
comment on function data.compact_step(data.operations, data.entities) is 'A step of data.compact: begin, copy and kept (2,000 records each), finish. Returns the next step.';

create or replace function data.compact_undo(operation data.operations, entity data.entities) returns void
language sql immutable set search_path = '' as $$ select $$;
comment on function data.compact_undo(data.operations, data.entities) is 'Nothing: records that were brought up to date may stay so.';

create or replace function data.forget_versions(entity data.entities, schema_name text) returns void
language plpgsql set search_path = '' as $$
declare
  _table text := data.storage_table(entity, schema_name);
  _entity data.entities;
  _column name;
begin
  perform data.lock_tables(array[format('%I.%I', schema_name, entity.name), _table]);
  for _column in select a.attname from pg_catalog.pg_attribute a
    where a.attrelid = to_regclass(_table) and not a.attisdropped and a.attname ~ '@' loop
    execute format('alter table %s drop column %I', _table, _column);
  end loop;
  perform data.drop_dropped_links(entity, schema_name);
  update data.entities e set oldest_version = e.version where e.id = entity.id returning e.* into _entity;
  perform access.guard(_entity, _table);
  perform data.build_front(_entity, schema_name);
  perform data.publish_definition(_entity.app_id);
end
$$;
comment on function data.forget_versions(data.entities, text) is 'Lets an entity''s view and write rule no longer know of former definitions, of which no record is left.';
