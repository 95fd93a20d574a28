--! Previous: sha1:2dda6b2ac4c55cd93c24421bf4303c810aca2263
--! Hash: sha1:4048b3163d84abbce7b6b20cbbb59474132bcdcd
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
