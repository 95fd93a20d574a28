--! Previous: sha1:ededfc80cdb6f7ecf707341b0717c06540448686
--! Hash: sha1:2640677916cdc4e34f033d899791b27e5b58b913
--! Message: remembered-roles

set local role rowhouse_owner;

-- How often what an account holds in a site has changed, and (the nil UUID) what concerns all of its accounts: sums over slots, so that
-- nobody waits to count.
create table access.role_changes (
  site_id uuid not null references tenancy.sites on delete cascade,
  account_id uuid not null,
  slot uuid not null default uuidv7(),
  count int not null default 1,
  primary key (site_id, account_id, slot)
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
