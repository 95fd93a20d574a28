--! Previous: sha1:5b8b7e06a11241a5c020cc6c9f1b89d782bbd13d
--! Hash: sha1:30822806cdfc1b95bea693af3bd395a08932ce89
--! Message: lifetimes

set local role rowhouse_owner;

-- How many records of an entity expired and were deleted on a day (UTC); blocked are those that others refer to and that were
-- therefore kept when the job last came by, failure is why it could not.
create table data.expirations (
  entity_id uuid not null references data.entities on delete cascade,
  site_id uuid not null references tenancy.sites on delete cascade,
  day date not null,
  records bigint not null default 0,
  blocked bigint not null default 0,
  failure text,
  primary key (entity_id, day)
);
create index on data.expirations (site_id);

reset role;
