--! Previous: sha1:aa1fb972efb8b3ae5cab03abaa938423998ce4be
--! Hash: sha1:9f003a5425de625e9758b5856776770666304dc0
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
