--! Previous: sha1:da63e3d3c6e53caf0b70b5057caea84644fabd5b
--! Hash: sha1:75abba8457a8f1eb884d58068de08cc51fcf052a
--! Message: access

set local role rowhouse_owner;

-- Roles: of a site, or of one of its apps; they inherit, and holds lists, for each role, itself and all that it inherits.
alter table access.roles add description text check (length(description) <= 1000),
  -- A role made by a delegation or a share: nobody assigns or changes it.
  add is_internal boolean not null default false,
  add version int not null default 1;

create table access.role_parents (
  role_id uuid not null references access.roles on delete cascade,
  parent_id uuid not null references access.roles on delete cascade,
  site_id uuid not null references tenancy.sites on delete cascade,
  primary key (role_id, parent_id)
);
create index on access.role_parents (parent_id);
create index on access.role_parents (site_id);

create table access.held_roles (
  role_id uuid not null references access.roles on delete cascade,
  held_id uuid not null references access.roles on delete cascade,
  site_id uuid not null references tenancy.sites on delete cascade,
  primary key (role_id, held_id)
);
create index on access.held_roles (held_id);
create index on access.held_roles (site_id);

-- entity is a pattern: *, crm/*, */posts, crm/posts; @entities and the like are of the control plane.
alter table access.permissions drop constraint permissions_role_id_entity_action_key,
  drop constraint permissions_action_check,
  add check (action ~ '^(\*|[a-z_]{1,40})$'),
  add own boolean not null default false,
  add condition jsonb,
  add fields jsonb,
  add source_id uuid references access.permissions on delete cascade,
  -- Nothing about it depends on the record or on who asks; unmasking concerns only entities that mask.
  add is_plain boolean not null generated always as
    (not own and condition is null and (fields is null or fields - 'unmasked' = '{}')) stored;
create unique index permissions_unique on access.permissions
  (role_id, entity, action, own, md5(coalesce(condition::text, '')), md5(coalesce(fields::text, '')));
create index on access.permissions (source_id);

create table access.groups (
  id uuid primary key default uuidv7(),
  site_id uuid not null references tenancy.sites on delete cascade,
  name text not null check (name ~ '^[a-z][a-z0-9_-]{0,60}$'),
  description text check (length(description) <= 1000),
  created_at timestamptz not null default now(),
  unique (site_id, name)
);

create table access.group_members (
  group_id uuid not null references access.groups on delete cascade,
  account_id uuid not null references auth.accounts on delete cascade,
  site_id uuid not null references tenancy.sites on delete cascade,
  created_at timestamptz not null default now(),
  primary key (account_id, group_id)
);
create index on access.group_members (group_id);
create index on access.group_members (site_id);

-- Who holds a role: an account or a group, for a time, under a condition on the account and the environment; a delegation
-- (delegator_id) holds as long as the delegator holds source_role_id.
alter table access.assignments drop constraint assignments_account_id_site_id_role_id_key,
  alter account_id drop not null,
  add group_id uuid references access.groups on delete cascade,
  add check (num_nonnulls(account_id, group_id) = 1),
  add valid_from timestamptz,
  add valid_until timestamptz,
  add check (valid_until > valid_from),
  add condition jsonb,
  add condition_sql text,
  add delegator_id uuid references auth.accounts on delete cascade,
  add source_role_id uuid references access.roles on delete cascade,
  add check ((delegator_id is null) = (source_role_id is null)),
  add granted_by uuid,
  add unique nulls not distinct (account_id, group_id, site_id, role_id);
create index on access.assignments (group_id) where group_id is not null;
create index on access.assignments (delegator_id) where delegator_id is not null;
create index on access.assignments (source_role_id) where source_role_id is not null;

-- Attribute policies. scope is '' (the site), an app or app/entity: of one name, the narrowest is in effect.
create table access.policies (
  id uuid primary key default uuidv7(),
  site_id uuid not null references tenancy.sites on delete cascade,
  scope text not null default '' check (scope ~ '^([a-z][a-z0-9-]*(/[a-z][a-z0-9_]*)?)?$'),
  name text not null check (name ~ '^[a-z][a-z0-9_-]{0,60}$'),
  description text check (length(description) <= 1000),
  effect text not null check (effect in ('allow', 'deny')),
  priority int not null default 0,
  entities text[] not null default '{*}',
  actions text[] not null default '{*}',
  condition jsonb not null default '{}',
  fields jsonb,
  enabled boolean not null default true,
  -- Which entity's definition asked for it ("x-policies"); gone with it.
  entity_id uuid references data.entities on delete cascade,
  version int not null default 1,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  unique (site_id, scope, name)
);
create index on access.policies (entity_id) where entity_id is not null;

-- Every definition that a role or policy has had; what it is called outlives it.
create table access.versions (
  id uuid primary key default uuidv7(),
  site_id uuid not null references tenancy.sites on delete cascade,
  kind text not null check (kind in ('role', 'policy')),
  name text not null,
  version int not null,
  definition jsonb,
  created_at timestamptz not null default now(),
  created_by uuid,
  unique (site_id, kind, name, version)
);

-- What is installed for an entity and action: a bit per rule; deny rules have bits of their own.
create table access.rules (
  entity_id uuid not null references data.entities on delete cascade,
  site_id uuid not null references tenancy.sites on delete cascade,
  action text not null,
  effect text not null check (effect in ('allow', 'deny')),
  number int not null,
  -- What is asked of each record; what is asked of the account and its circumstances, once a statement, say the sources.
  row_condition jsonb,
  fields jsonb,
  primary key (entity_id, action, effect, number)
);
create index on access.rules (site_id);

create table access.rule_sources (
  entity_id uuid not null,
  site_id uuid not null references tenancy.sites on delete cascade,
  action text not null,
  effect text not null,
  number int not null,
  subject jsonb,
  role_ids uuid[],
  permission_ids uuid[],
  policy_id uuid,
  check (num_nonnulls(role_ids, policy_id) = 1),
  foreign key (entity_id, action, effect, number) references access.rules on delete cascade
);
create index on access.rule_sources (entity_id, action, effect, number);
create index on access.rule_sources (site_id);

-- The text of what is installed, to leave alone what does not change; null where nothing special is.
alter table data.entities add rights_sql jsonb;

-- Every site has the system roles authenticated (every member holds it) and anonymous (everybody does).
update access.roles set name = name || '-custom' where name in ('authenticated', 'anonymous') and app_id is null;
insert into access.roles (site_id, name, system)
select s.id, r.name, true from tenancy.sites s, (values ('authenticated'), ('anonymous')) r (name);
insert into access.held_roles (role_id, held_id, site_id) select r.id, r.id, r.site_id from access.roles r;
update access.permissions p set fields = '{"unmasked": ["*"]}'
from access.roles r where r.id = p.role_id and r.system and r.name = 'admin';

reset role;
