--! Previous: sha1:1b0aa7154ae2525b73a99d805cbb609898e5c87a
--! Hash: sha1:f2fcd50d56d22d0291d742fb1b24ad5f254f68a7
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
