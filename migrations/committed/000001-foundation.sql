--! Previous: -
--! Hash: sha1:c34fe36202d65a2a343ce9741794c953a44951f1
--! Message: foundation

-- Roles belong to the cluster, not to the database: several databases may share them.
do $$
begin
  if not exists (select from pg_catalog.pg_roles where rolname = 'rowhouse_owner') then
    create role rowhouse_owner nologin createrole;
  end if;
  if not exists (select from pg_catalog.pg_roles where rolname = 'rowhouse_data') then
    create role rowhouse_data nologin;
  end if;
  if not exists (select from pg_catalog.pg_roles where rolname = 'rowhouse_account') then
    create role rowhouse_account nologin;
  end if;
  if not exists (select from pg_catalog.pg_roles where rolname = 'rowhouse_gateway') then
    create role rowhouse_gateway login noinherit;
  end if;
exception when duplicate_object or unique_violation then
  null; -- another database of this cluster is being installed at the same moment
end
$$;

do $$
begin
  execute format('grant rowhouse_owner to %I with inherit true, set true', current_user);
  grant rowhouse_data to rowhouse_owner with inherit true, set true;
  grant rowhouse_account to rowhouse_owner with admin true, inherit false, set true;
  grant rowhouse_account to rowhouse_gateway with inherit false, set true;
  execute format('grant create, connect, temporary on database %I to rowhouse_owner', current_database());
  execute format('grant connect on database %I to rowhouse_gateway', current_database());
  execute format('revoke create, temporary on database %I from public', current_database());
end
$$;

create schema if not exists extensions;
create extension if not exists pgcrypto with schema extensions;
create extension if not exists pg_trgm with schema extensions;
grant usage on schema extensions to public;
revoke create on schema public from public;

set local role rowhouse_owner;

create schema rowhouse;
create schema tenancy;
create schema auth;
create schema access;
create schema data;

create table rowhouse.installed (
  only_row boolean primary key default true check (only_row),
  content_hash text not null,
  installed_at timestamptz not null default now()
);

create table auth.accounts (
  id uuid primary key default uuidv7(),
  email text not null unique check (email = lower(email) and length(email) <= 254),
  password_hash text,
  kind text not null default 'person' check (kind in ('person', 'service')),
  attributes jsonb not null default '{}' check (jsonb_typeof(attributes) = 'object'),
  created_at timestamptz not null default now(),
  deleted_at timestamptz
);

create table tenancy.organizations (
  id uuid primary key default uuidv7(),
  name text not null unique,
  title text not null,
  created_at timestamptz not null default now()
);

create table tenancy.organization_members (
  organization_id uuid not null references tenancy.organizations on delete cascade,
  account_id uuid not null references auth.accounts on delete cascade,
  role text not null default 'member' check (role in ('owner', 'admin', 'member')),
  created_at timestamptz not null default now(),
  primary key (organization_id, account_id)
);
create index on tenancy.organization_members (account_id);

create table tenancy.sites (
  id uuid primary key default uuidv7(),
  organization_id uuid not null references tenancy.organizations on delete restrict,
  name text not null unique,
  title text not null,
  role_name name not null unique,
  settings jsonb not null default '{}',
  branding jsonb not null default '{}',
  created_at timestamptz not null default now()
);
create index on tenancy.sites (organization_id);

create table tenancy.site_members (
  site_id uuid not null references tenancy.sites on delete cascade,
  account_id uuid not null references auth.accounts on delete cascade,
  role text not null default 'member' check (role in ('owner', 'admin', 'member')),
  created_at timestamptz not null default now(),
  primary key (site_id, account_id)
);
create index on tenancy.site_members (account_id);

-- One sequence for all apps, so that a dropped app's version never comes back under its name.
create sequence tenancy.definition_versions;

create table tenancy.apps (
  id uuid primary key default uuidv7(),
  site_id uuid not null references tenancy.sites on delete cascade,
  name text not null,
  title text not null,
  schema_name name not null unique,
  settings jsonb not null default '{}',
  definition_version bigint not null default nextval('tenancy.definition_versions'),
  created_at timestamptz not null default now(),
  unique (site_id, name)
);

create table tenancy.domains (
  id uuid primary key default uuidv7(),
  site_id uuid not null references tenancy.sites on delete cascade,
  app_id uuid references tenancy.apps on delete cascade,
  domain text not null check (domain = lower(domain)),
  proof text not null,
  verified_at timestamptz,
  created_at timestamptz not null default now(),
  unique (site_id, domain)
);
-- Anybody may claim a domain; only one may have proved it.
create unique index domains_verified on tenancy.domains (domain) where verified_at is not null;
create index on tenancy.domains (app_id);

create table access.roles (
  id uuid primary key default uuidv7(),
  site_id uuid not null references tenancy.sites on delete cascade,
  app_id uuid references tenancy.apps on delete cascade,
  name text not null,
  system boolean not null default false,
  created_at timestamptz not null default now(),
  unique nulls not distinct (site_id, app_id, name)
);
create index on access.roles (app_id);

create table access.permissions (
  id uuid primary key default uuidv7(),
  site_id uuid not null references tenancy.sites on delete cascade,
  role_id uuid not null references access.roles on delete cascade,
  entity text not null default '*',
  action text not null check (action in ('create', 'read', 'update', 'delete', '*')),
  created_at timestamptz not null default now(),
  unique (role_id, entity, action)
);
create index on access.permissions (site_id);

create table access.assignments (
  id uuid primary key default uuidv7(),
  site_id uuid not null references tenancy.sites on delete cascade,
  account_id uuid not null references auth.accounts on delete cascade,
  role_id uuid not null references access.roles on delete cascade,
  created_at timestamptz not null default now(),
  unique (account_id, site_id, role_id)
);
create index on access.assignments (site_id);
create index on access.assignments (role_id);

create table data.entities (
  id uuid primary key default uuidv7(),
  site_id uuid not null references tenancy.sites on delete cascade,
  app_id uuid not null references tenancy.apps on delete cascade,
  name text not null,
  storage text not null default 'jsonb' check (storage = 'jsonb'),
  schema jsonb not null,
  version int not null default 1,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  unique (app_id, name)
);
create index on data.entities (site_id);

create table data.fields (
  entity_id uuid not null references data.entities on delete cascade,
  name text not null,
  site_id uuid not null references tenancy.sites on delete cascade,
  position int not null,
  schema jsonb not null,
  kind text not null,
  sql_type text not null,
  is_required boolean not null,
  is_unique boolean not null,
  is_indexed boolean not null,
  is_promoted boolean not null,
  primary key (entity_id, name)
);
create index on data.fields (site_id);

create table data.relations (
  entity_id uuid not null,
  field text not null,
  site_id uuid not null references tenancy.sites on delete cascade,
  target_id uuid not null references data.entities on delete restrict,
  target_field text not null,
  on_delete text not null check (on_delete in ('restrict', 'cascade', 'set null')),
  name text not null,
  inverse_name text not null,
  primary key (entity_id, field),
  foreign key (entity_id, field) references data.fields on delete cascade
);
create index on data.relations (target_id);
create index on data.relations (site_id);

reset role;
