--! Previous: sha1:36ffbb337d14cec4644434074646f7cd969a28bc
--! Hash: sha1:40f0a12fa2f869b33f4217832c8440c057a37def
--! Message: masks

set local role rowhouse_owner;

-- What the mask hash is keyed with: without it, nobody finds a value by trying all there are.
create table access.mask_keys (
  site_id uuid primary key references tenancy.sites on delete cascade,
  key bytea not null default extensions.gen_random_bytes(64) check (length(key) = 64)
);

reset role;
