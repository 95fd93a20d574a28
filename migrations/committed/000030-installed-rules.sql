--! Previous: sha1:5db4640becff67985ffffcd9dce41d9fbab2c1cc
--! Hash: sha1:4568543d251533a322032b7601428fefd4173aa3
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
