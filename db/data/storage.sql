-- The storage table of an entity: id, data, stamps and the promoted columns.

create or replace function data.column_value(field data.fields, source text) returns text
language sql immutable set search_path = '' as $$
  select case
    when field.sql_type = 'jsonb' then format('%s->%L', source, field.name)
    when field.kind in ('string', 'email') then format('%s->>%L', source, field.name)
    when field.kind in ('integer', 'number', 'boolean') then format('(%s->%L)::%s', source, field.name, field.sql_type)
    when field.kind = 'decimal' and field.schema ? 'precision' then format('(%s->>%L)::numeric(%s,%s)::numeric', source, field.name,
      field.schema->>'precision', coalesce(field.schema->>'scale', '0'))
    else format('(%s->>%L)::%s', source, field.name, field.sql_type)
  end
$$;
comment on function data.column_value(data.fields, text) is 'The SQL expression that reads a field out of the jsonb expression source.';

create or replace function data.create_storage(entity data.entities, schema_name text) returns void
language plpgsql set search_path = '' as $$
declare
  _table text := data.storage_table(entity, create_storage.schema_name);
begin
  execute format('create table %s (
    id uuid primary key default uuidv7(),
    data jsonb%s,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    version int not null default 1,
    created_by uuid,
    _schema_version int not null default 0,
    _dropped jsonb)', _table, case entity.storage when 'jsonb' then ' not null' end);
  execute format('create index %I on %s (created_at, id)', data.index_name(entity, 'created_at', 'idx'), _table);
  execute format('grant select, insert, update, delete on %s to rowhouse_data', _table);
  execute format('comment on table %s is %L', _table, E'@behavior -*\nStorage of an entity; use the view.');
  execute format('alter table %s enable row level security, force row level security', _table);
  execute format('create policy owner_all on %s to rowhouse_owner using (true) with check (true)', _table);
end
$$;
comment on function data.create_storage(data.entities, text) is 'Creates an entity''s storage table, without the columns of its fields, under row-level security.';

drop function if exists data.build_storage(data.entities, text), data.build_foreign_keys(data.entities, text, oid),
  data.drop_unused_constraints(data.entities, oid);
create or replace function data.build_storage(entity data.entities, schema_name text, statements text[]) returns void
language plpgsql set search_path = '' as $$
declare
  _table text := data.storage_table(entity, build_storage.schema_name);
  _statement text;
begin
  if to_regclass(_table) is null then
    perform data.create_storage(entity, build_storage.schema_name);
  end if;
  set local rowhouse.maintenance = 'on';
  foreach _statement in array statements loop
    execute _statement;
    set constraints all immediate; -- else what was filled cannot be indexed
  end loop;
  set local rowhouse.maintenance = '';
end
$$;
comment on function data.build_storage(data.entities, text, text[]) is
  'Creates an entity''s storage table where there is none, and runs what data.storage_statements said.';

create or replace function data.access_arguments(entity data.entities) returns text
language sql stable set search_path = '' as $$
  select format('%L::uuid, %L', entity.site_id, a.name || '/' || entity.name) from tenancy.apps a where a.id = entity.app_id
$$;
comment on function data.access_arguments(data.entities) is 'The first arguments of access.allows and access.require for an entity, as SQL.';

drop function if exists data.build_policies(data.entities, text);
create or replace function data.drop_policies(table_name text) returns void
language plpgsql set search_path = '' as $$
declare
  _policy name;
begin
  for _policy in select p.polname from pg_catalog.pg_policy p where p.polrelid = to_regclass(table_name) and p.polname like 'may\_%' loop
    execute format('drop policy %I on %s', _policy, table_name);
  end loop;
end
$$;
comment on function data.drop_policies(text) is 'Takes from an entity''s storage the policies by which anybody but the platform may use it.';
