--! Previous: sha1:35fcf9722045ed9d1e97f640dbd22dddd432530c
--! Hash: sha1:deede8d81c0d1f0c62ac43a9dfff4138e71bc0b2
--! Message: attributes

<<<<<<< HEAD
--! Previous: sha1:ac086bd7fa6d1145a8670e72ebd9922d45511c7f
--! Hash: sha1:1f20ffa215a38c87a8673202934360549d39a602
=======
--! Previous: sha1:b1a8ca1866c3e3b9f2ac199479de246d85824652
--! Hash: sha1:a1e55b38619babdf85fb9edb4ebb9417ef118ba6
>>>>>>> m/audit
--! Message: attributes

set local role rowhouse_owner;

-- What is known about the members of a site beyond their roles, and the JSON Schema that says what can be known.
create table access.attribute_schemas (
  site_id uuid primary key references tenancy.sites on delete cascade,
  schema jsonb not null,
  updated_at timestamptz not null default now(),
  updated_by uuid
);

create table access.account_attributes (
  site_id uuid not null,
  account_id uuid not null,
  attributes jsonb not null check (jsonb_typeof(attributes) = 'object'),
  updated_at timestamptz not null default now(),
  updated_by uuid,
  primary key (site_id, account_id),
  foreign key (site_id, account_id) references tenancy.site_members on delete cascade
);

reset role;
