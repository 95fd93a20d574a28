--! Previous: sha1:75abba8457a8f1eb884d58068de08cc51fcf052a
--! Hash: sha1:da361c87547b84cdad2b36d1798e8a1aff78ce32
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
