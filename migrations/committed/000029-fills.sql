--! Previous: sha1:e79259d9f56c68311b8fcfcbd24262a07fa6fe28
--! Hash: sha1:1b0aa7154ae2525b73a99d805cbb609898e5c87a
--! Message: fills

set local role rowhouse_owner;

-- What a worker fills for records that were there before: until then the view computes it (a stored computed field), or reads the
-- default in place of null (a property that is required now).
alter table data.fields add is_filling boolean not null default false;

reset role;
