-- The storage table of an entity: id, data, stamps and the promoted columns.

create or replace function data.column_value(field data.fields, source text) returns text
language sql immutable set search_path = '' as $$
  select case
    when field.kind in ('array', 'object') then format('%s->%L', source, field.name)
    when field.kind in ('string', 'email') then format('%s->>%L', source, field.name)
    when field.kind in ('integer', 'number', 'boolean') then format('(%s->%L)::%s', source, field.name, field.sql_type)
    when field.kind = 'decimal' and field.schema ? 'precision' then format('(%s->>%L)::numeric(%s,%s)::numeric', source, field.name,
      field.schema->>'precision', coalesce(field.schema->>'scale', '0'))
    else format('(%s->>%L)::%s', source, field.name, field.sql_type)
  end
$$;
comment on function data.column_value(data.fields, text) is 'The SQL expression that reads a field out of the jsonb expression source.';

create or replace function data.build_storage(entity data.entities, schema_name text) returns void
language plpgsql set search_path = '' as $$
declare
  _table text := format('%I.%I', build_storage.schema_name, entity.name || '_jsonb');
  _oid oid;
  _field data.fields;
  _added text[] := '{}';
begin
  if to_regclass(_table) is null then
    execute format('create table %s (
      id uuid primary key default uuidv7(),
      data jsonb not null,
      created_at timestamptz not null default now(),
      updated_at timestamptz not null default now(),
      version int not null default 1,
      created_by uuid)', _table);
    execute format('create index %I on %s (created_at, id)', data.object_name(entity.name, 'created_at', 'idx'), _table);
    execute format('grant select, insert, update, delete on %s to rowhouse_data', _table);
    execute format('comment on table %s is %L', _table, E'@behavior -*\nStorage of an entity; use the view.');
    execute format('alter table %s enable row level security, force row level security', _table);
    perform data.build_policies(entity, _table);
  end if;
  _oid := to_regclass(_table);

  for _field in select f.* from data.fields f where f.entity_id = entity.id and f.is_promoted
    and not exists (select from pg_catalog.pg_attribute a where a.attrelid = _oid and a.attname = f.name and not a.attisdropped)
  loop
    execute format('alter table %s add column %I %s', _table, _field.name, _field.sql_type);
    _added := _added || format('%I = %s', _field.name, data.column_value(_field, 'data'));
  end loop;
  if _added <> '{}' then
    execute format('alter table %s disable trigger user', _table);
    execute format('update %s set %s', _table, array_to_string(_added, ', '));
    execute format('alter table %s enable trigger user', _table);
    set constraints all immediate;
  end if;

  for _field in select f.* from data.fields f where f.entity_id = entity.id and f.is_indexed and not f.is_unique loop
    execute format('create index if not exists %I on %s (%I, created_at, id)',
      data.object_name(entity.name, _field.name, 'idx'), _table, _field.name);
  end loop;
  for _field in select f.* from data.fields f where f.entity_id = entity.id and f.is_unique loop
    execute format('create unique index if not exists %I on %s (%I)', data.object_name(entity.name, _field.name, 'key'), _table, _field.name);
  end loop;
  perform data.drop_unused_constraints(entity, _oid);
  perform data.build_foreign_keys(entity, build_storage.schema_name, _oid);
end
$$;
comment on function data.build_storage(data.entities, text) is
  'Creates or extends an entity''s storage table with its promoted columns, indexes and foreign keys.';

-- Uniqueness is a rule, so it ends with the definition that asked for it; promoted columns and indexes may stay.
create or replace function data.drop_unused_constraints(entity data.entities, table_oid oid) returns void
language plpgsql set search_path = '' as $$
declare
  _name text;
begin
  for _name in
    select i.indexrelid::regclass::text from pg_catalog.pg_index i
    join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
    where i.indrelid = drop_unused_constraints.table_oid and i.indisunique and not i.indisprimary
      and not exists (select from data.fields f where f.entity_id = entity.id and f.name = a.attname and f.is_unique)
  loop
    execute format('drop index %s', _name);
  end loop;
end
$$;
comment on function data.drop_unused_constraints(data.entities, oid) is 'Drops the unique indexes of properties that are no longer unique.';

create or replace function data.build_foreign_keys(entity data.entities, schema_name text, table_oid oid) returns void
language plpgsql set search_path = '' as $$
declare
  _wanted record;
  _name text;
begin
  for _name in
    select c.conname from pg_catalog.pg_constraint c
    join pg_catalog.pg_attribute a on a.attrelid = c.conrelid and a.attnum = c.conkey[1]
    where c.conrelid = build_foreign_keys.table_oid and c.contype = 'f' and not exists (
      select from data.relations r
      join data.entities t on t.id = r.target_id
      where r.entity_id = entity.id and r.field = a.attname
        and c.confrelid = to_regclass(format('%I.%I', build_foreign_keys.schema_name, t.name || '_jsonb'))
        and c.confdeltype = case r.on_delete when 'restrict' then 'r' when 'cascade' then 'c' else 'n' end)
  loop
    execute format('alter table %s drop constraint %I', table_oid::regclass, _name);
  end loop;
  for _wanted in
    select r.field, r.target_field, r.on_delete, t.name as target
    from data.relations r join data.entities t on t.id = r.target_id
    where r.entity_id = entity.id and not exists (
      select from pg_catalog.pg_constraint c
      join pg_catalog.pg_attribute a on a.attrelid = c.conrelid and a.attnum = c.conkey[1]
      where c.conrelid = build_foreign_keys.table_oid and c.contype = 'f' and a.attname = r.field)
  loop
    execute format('alter table %s add constraint %I foreign key (%I) references %I.%I (%I) on delete %s deferrable initially immediate',
      table_oid::regclass, data.object_name(entity.name, _wanted.field, 'fkey'), _wanted.field,
      build_foreign_keys.schema_name, _wanted.target || '_jsonb', _wanted.target_field, _wanted.on_delete);
  end loop;
end
$$;
comment on function data.build_foreign_keys(data.entities, text, oid) is
  'Makes the foreign keys of an entity''s storage those of data.relations. Raises 23503 when existing records do not fit.';

create or replace function data.access_arguments(entity data.entities) returns text
language sql stable set search_path = '' as $$
  select format('%L::uuid, %L', entity.site_id, a.name || '/' || entity.name) from tenancy.apps a where a.id = entity.app_id
$$;
comment on function data.access_arguments(data.entities) is 'The first arguments of access.allows and access.require for an entity, as SQL.';

create or replace function data.build_policies(entity data.entities, table_name text) returns void
language plpgsql set search_path = '' as $$
declare
  _call text := '(' || data.access_arguments(entity) || ', ';
begin
  execute format('create policy owner_all on %s to rowhouse_owner using (true) with check (true)', table_name);
  execute format('create policy may_read on %s for select to rowhouse_data using ((select access.allows%s''read'')))', table_name, _call);
  execute format('create policy may_create on %s for insert to rowhouse_data with check ((select access.require%s''create'')))', table_name, _call);
  execute format('create policy may_update on %s for update to rowhouse_data using ((select access.require%s''update'')))', table_name, _call);
  execute format('create policy may_delete on %s for delete to rowhouse_data using ((select access.require%s''delete'')))', table_name, _call);
end
$$;
comment on function data.build_policies(data.entities, text) is
  'Installs the row-level security of an entity''s storage: one predicate per action, evaluated once per statement.';
