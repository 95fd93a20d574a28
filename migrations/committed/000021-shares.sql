--! Previous: sha1:08f2f40a587a0647479e887145304fbad83cea70
--! Hash: sha1:ededfc80cdb6f7ecf707341b0717c06540448686
--! Message: shares

set local role rowhouse_owner;

-- A view of an entity that a site grants to a role of another site: the only way across sites.
create table access.shares (
  id uuid primary key default uuidv7(),
  site_id uuid not null references tenancy.sites on delete cascade,
  entity_id uuid not null references data.entities on delete cascade,
  to_site_id uuid not null references tenancy.sites on delete cascade,
  role_id uuid not null references access.roles on delete cascade,
  condition jsonb,
  fields text[] not null,
  valid_until timestamptz,
  schema_name name not null,
  view_name name not null check (view_name ~ '^[a-z][a-z0-9_]{0,56}$'),
  created_at timestamptz not null default now(),
  created_by uuid,
  unique (to_site_id, view_name),
  check (site_id <> to_site_id)
);
create index on access.shares (site_id);
create index on access.shares (entity_id);
create index on access.shares (role_id);

reset role;
