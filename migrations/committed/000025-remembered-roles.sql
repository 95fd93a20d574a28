--! Previous: sha1:ededfc80cdb6f7ecf707341b0717c06540448686
--! Hash: sha1:1a70eaa84220c7c133b817f6a8244e8a5a635cbe
--! Message: remembered-roles

set local role rowhouse_owner;

-- How often the roles that members of a site hold have changed: the sum over slots, so that nobody waits to count.
create table access.role_changes (
  site_id uuid not null references tenancy.sites on delete cascade,
  slot uuid not null default uuidv7(),
  count int not null default 1,
  primary key (site_id, slot)
);
comment on table access.role_changes is 'Not audited.';

-- The roles that an account was found to hold after so many changes; from until on, a validity that began or ended says otherwise.
create table access.remembered_roles (
  site_id uuid not null references tenancy.sites on delete cascade,
  account_id uuid not null references auth.accounts on delete cascade,
  changes bigint not null,
  role_ids uuid[] not null,
  until timestamptz not null,
  primary key (site_id, account_id)
);
comment on table access.remembered_roles is 'Not audited.';
create index on access.remembered_roles (account_id);

reset role;
