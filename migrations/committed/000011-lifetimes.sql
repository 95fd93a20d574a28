--! Previous: sha1:80994313dd12f91ac10ab8cf1001602204490bcb
--! Hash: sha1:343d3d525d692107631c17e8db2865c174b59b37
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
