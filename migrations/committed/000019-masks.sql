--! Previous: sha1:da361c87547b84cdad2b36d1798e8a1aff78ce32
--! Hash: sha1:000dc819bdf43acd3d779c4386a5fb30ebda993c
--! Message: masks

set local role rowhouse_owner;

-- What the mask hash is keyed with: without it, nobody finds a value by trying all there are.
create table access.mask_keys (
  site_id uuid primary key references tenancy.sites on delete cascade,
  key bytea not null default extensions.gen_random_bytes(64) check (length(key) = 64)
);

reset role;
