--! Previous: sha1:000dc819bdf43acd3d779c4386a5fb30ebda993c
--! Hash: sha1:08f2f40a587a0647479e887145304fbad83cea70
--! Message: answers

set local role rowhouse_owner;

-- What an app was promised: account is null (nobody logged in), an email, or {"roles", "groups", "attributes", "email"} of
-- nobody in particular; record an id, or values of one that nobody has written.
create table access.tests (
  id uuid primary key default uuidv7(),
  site_id uuid not null references tenancy.sites on delete cascade,
  app_id uuid not null references tenancy.apps on delete cascade,
  entity_id uuid not null references data.entities on delete cascade,
  name text not null check (length(name) between 1 and 200),
  account jsonb,
  action text not null check (action in ('create', 'read', 'update', 'delete')),
  record jsonb,
  expected text not null check (expected in ('allow', 'deny')),
  created_at timestamptz not null default now(),
  unique (app_id, name)
);
create index on access.tests (site_id);
create index on access.tests (entity_id);

-- Which rules concerned the requests of an account, counted by gateways a minute at a time.
create table access.used (
  site_id uuid not null references tenancy.sites on delete cascade,
  account_id uuid not null references auth.accounts on delete cascade,
  kind text not null check (kind in ('role', 'permission', 'policy')),
  name text not null,
  requests bigint not null,
  first_at timestamptz not null default now(),
  last_at timestamptz not null default now(),
  primary key (site_id, kind, name, account_id)
);
create index on access.used (account_id);

reset role;
