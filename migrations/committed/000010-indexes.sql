--! Previous: sha1:5b8b7e06a11241a5c020cc6c9f1b89d782bbd13d
--! Hash: sha1:2dda6b2ac4c55cd93c24421bf4303c810aca2263
--! Message: indexes

set local role rowhouse_owner;

-- An index that a worker is building: jsonb storage has the column and writes keep it, but nothing reads it yet.
alter table data.fields add is_building boolean not null default false;

reset role;
