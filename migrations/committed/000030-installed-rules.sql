--! Previous: sha1:94e107391daf88ca34743017bb4122b7604d1bd1
--! Hash: sha1:b6eaaa79e5da9c2a55bab8eed56e8658c41badd1
--! Message: installed rules

set local role rowhouse_owner;

-- What is installed of the rules of entities, in a table of its own: it tells conditions, and members read data.entities.
create table access.installed (
  entity_id uuid primary key references data.entities on delete cascade,
  predicates jsonb not null
);
comment on table access.installed is 'Not audited.';
insert into access.installed (entity_id, predicates) select e.id, e.rights_sql from data.entities e where e.rights_sql is not null;
alter table data.entities drop column rights_sql;

reset role;
