--! Previous: sha1:612b9f29f0219d72609e975225e8f911bc983436
--! Hash: sha1:da63e3d3c6e53caf0b70b5057caea84644fabd5b
--! Message: audit

-- The audit log belongs to a role of its own, which owns nothing else and of which no role of the platform is a member: so
-- none of them can change, remove, detach or drop what was written, nor turn off the triggers that refuse it.
do $$
begin
  if not exists (select from pg_catalog.pg_roles where rolname = 'rowhouse_auditor') then
    create role rowhouse_auditor nologin;
  end if;
exception when duplicate_object or unique_violation then
  null; -- another database of this cluster is being installed at the same moment
end
$$;

do $$
begin
  -- Who installs must be able to become it; a superuser is.
  if not (select r.rolsuper from pg_catalog.pg_roles r where r.rolname = current_user) then
    execute format('grant rowhouse_auditor to %I with inherit false, set true', current_user);
  end if;
end
$$;

create schema audit authorization rowhouse_auditor;

set local role rowhouse_auditor;

grant usage, create on schema audit to rowhouse_owner;

-- keep is how many months an entry is kept: of whole partitions all entries expire together. env is what rowhouse.env()
-- says. tx tells the sealing what it has seen: entries of lower transactions than any that runs can only be there already.
create table audit.entries (
  id uuid not null default uuidv7(),
  at timestamptz not null default clock_timestamp(),
  keep smallint not null default 84,
  tx xid8 not null default pg_current_xact_id(),
  site_id uuid,
  organization_id uuid,
  account_id uuid,
  login text not null default session_user,
  env jsonb not null,
  action text not null,
  object text not null,
  record text,
  old jsonb,
  new jsonb,
  outcome text not null default 'done' check (outcome in ('done', 'denied')),
  reason text
) partition by range (keep, at);
create index entries_site on audit.entries (site_id, at, id);
create index entries_tx on audit.entries (tx);

-- Everything of transactions below sealed_to is sealed.
create table audit.sealing (
  only_row boolean primary key default true check (only_row),
  sealed_to xid8 not null default '0'
);
insert into audit.sealing default values;

-- The chain of a site (or an organization, or, with an id of zeros, of what belongs to neither): each seal covers entries of
-- one partition and the seal before it. The second table lists those entries as long as they are kept.
create table audit.seals (
  chain uuid not null,
  n bigint not null,
  keep smallint not null,
  month date not null,
  entries int not null,
  content bytea not null,
  previous bytea not null,
  hash bytea not null,
  sealed_at timestamptz not null default clock_timestamp(),
  primary key (chain, n)
);
create table audit.sealed (
  chain uuid not null,
  n bigint not null,
  keep smallint not null,
  month date not null,
  ids uuid[] not null,
  digests bytea[] not null,
  primary key (chain, n)
);
create index on audit.sealed (keep, month);

create table audit.heads (
  chain uuid primary key,
  n bigint not null,
  hash bytea not null
);

reset role;
