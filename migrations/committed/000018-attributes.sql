--! Previous: sha1:76a74f9580252e01664e065ef3c689ab87be6105
--! Hash: sha1:ae968b3801e9aa861246d928a9a3a6db194b30a9
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
