--! Previous: sha1:5db4640becff67985ffffcd9dce41d9fbab2c1cc
--! Hash: sha1:aa1fb972efb8b3ae5cab03abaa938423998ce4be
--! Message: fills

set local role rowhouse_owner;

-- What a worker fills for records that were there before: until then the view computes it (a stored computed field), or reads the
-- default in place of null (a property that is required now).
alter table data.fields add is_filling boolean not null default false;

reset role;
