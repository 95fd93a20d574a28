--! Previous: sha1:b4997640f90918033108b49f8327acef7c3576a6
--! Hash: sha1:21e89d47ed28e61f0881f8b7879b5c76fdeccbc2
--! Message: guesses

set local role rowhouse_owner;

-- Values that somebody wrote into unique fields that they do not see, and that were taken: when, the last 20 at most.
create table access.guesses (
  site_id uuid not null references tenancy.sites on delete cascade,
  entity_id uuid not null references data.entities on delete cascade,
  account_id uuid references auth.accounts on delete cascade,
  address inet not null,
  times timestamptz[] not null,
  unique nulls not distinct (entity_id, account_id, address)
);
create index on access.guesses (site_id, account_id);
comment on table access.guesses is 'Not audited.';

reset role;
