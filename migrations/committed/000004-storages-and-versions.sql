--! Previous: sha1:9a213e69391f49d374f0635c19ef4098929370ea
--! Hash: sha1:80994313dd12f91ac10ab8cf1001602204490bcb
--! Message: storages-and-versions

set local role rowhouse_owner;

alter table data.entities drop constraint entities_storage_check;
alter table data.entities add check (storage in ('jsonb', 'flat'));
-- The earliest version under which some record may still be stored.
alter table data.entities add oldest_version int not null default 1;

-- Every definition an entity has had. transforms says how a record of the version before becomes one of this.
create table data.entity_versions (
  entity_id uuid not null references data.entities on delete cascade,
  version int not null,
  site_id uuid not null references tenancy.sites on delete cascade,
  schema jsonb not null,
  transforms jsonb not null default '[]',
  created_at timestamptz not null default now(),
  created_by uuid,
  primary key (entity_id, version)
);
create index on data.entity_versions (site_id);

insert into data.entity_versions (entity_id, version, site_id, schema, created_at)
select e.id, e.version, e.site_id, e.schema, e.updated_at from data.entities e;
update data.entities set oldest_version = version;

do $$
declare
  _entity record;
begin
  for _entity in select a.schema_name, e.name, e.version from data.entities e join tenancy.apps a on a.id = e.app_id loop
    execute format('alter table %I.%I add column _schema_version int not null default %s, add column _dropped jsonb',
      _entity.schema_name, _entity.name || '_jsonb', _entity.version);
  end loop;
end
$$;

create table data.plans (
  id uuid primary key default uuidv7(),
  site_id uuid not null references tenancy.sites on delete cascade,
  entity_id uuid not null references data.entities on delete cascade,
  base_version int not null,
  base_storage text not null,
  schema jsonb not null,
  changes jsonb not null,
  loses_data boolean not null,
  created_at timestamptz not null default now(),
  created_by uuid,
  applied_at timestamptz
);
create index on data.plans (entity_id);
create index on data.plans (site_id);

-- Long work on an entity that a worker does in small steps: converting its storage, building indexes.
create table data.operations (
  id uuid primary key default uuidv7(),
  site_id uuid not null references tenancy.sites on delete cascade,
  entity_id uuid not null references data.entities on delete cascade,
  kind text not null,
  arguments jsonb not null default '{}',
  state text not null default 'waiting' check (state in ('waiting', 'running', 'done', 'failed', 'cancelled')),
  step text not null default 'begin',
  reached jsonb,
  records_done bigint not null default 0,
  records_total bigint not null default 0,
  error jsonb,
  created_at timestamptz not null default now(),
  created_by uuid,
  started_at timestamptz,
  seen_at timestamptz,
  finished_at timestamptz
);
-- One at a time for an entity.
create unique index operations_unfinished on data.operations (entity_id) where state in ('waiting', 'running');
create index on data.operations (site_id);
create index on data.operations (entity_id);

reset role;
