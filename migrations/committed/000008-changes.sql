--! Previous: sha1:80994313dd12f91ac10ab8cf1001602204490bcb
--! Hash: sha1:71e91a4cf01887b9978042a8c7dade0683eceb72
--! Message: changes

set local role rowhouse_owner;

-- How often the records of a cached entity changed: the sum over its slots. A writer counts in a slot that nobody else
-- holds, so that writers never wait for each other here; there are as many slots as writers at once.
create table data.changes (
  entity_id uuid not null references data.entities on delete cascade,
  slot bigint generated always as identity,
  site_id uuid not null references tenancy.sites on delete cascade,
  count bigint not null default 1,
  primary key (entity_id, slot)
) with (fillfactor = 50);
create index on data.changes (site_id);

reset role;
