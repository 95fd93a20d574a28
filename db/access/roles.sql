create or replace function access.create_system_roles(site_id uuid) returns void
language sql set search_path = '' as $$
  with roles as (
    insert into access.roles (site_id, name, system)
    values (create_system_roles.site_id, 'admin', true), (create_system_roles.site_id, 'editor', true),
      (create_system_roles.site_id, 'viewer', true)
    returning id, name
  )
  insert into access.permissions (site_id, role_id, entity, action)
  select create_system_roles.site_id, r.id, '*', p.action
  from roles r
  join (values ('admin', '*'), ('editor', 'read'), ('editor', 'create'), ('editor', 'update'), ('editor', 'delete'),
    ('viewer', 'read')) p (role, action) on p.role = r.name
$$;
comment on function access.create_system_roles(uuid) is
  'The roles every site begins with: admin may do everything, editor reads and writes records, viewer reads them.';

create or replace function access.require_role(site_id uuid, role text) returns uuid
language plpgsql stable set search_path = '' as $$
declare
  _id uuid;
begin
  select r.id into _id from access.roles r where r.site_id = require_role.site_id and r.name = require_role.role and r.app_id is null;
  if _id is null then
    perform rowhouse.fail(404, format('This site has no role %L', left(require_role.role, 80)),
      'Roles of this site: ' || (select string_agg(r.name, ', ' order by r.name) from access.roles r where r.site_id = require_role.site_id),
      'not_found');
  end if;
  return _id;
end
$$;
comment on function access.require_role(uuid, text) is 'The id of a site''s role. RH404 lists the roles there are.';

create or replace function access.assign(site_id uuid, account_id uuid, role text) returns void
language sql set search_path = '' as $$
  insert into access.assignments (site_id, account_id, role_id)
  values (assign.site_id, assign.account_id, access.require_role(assign.site_id, assign.role))
  on conflict do nothing
$$;
comment on function access.assign(uuid, uuid, text) is 'Assigns a role. Internal: callers check rights.';

create or replace function access.assign_role(site text, email text, role text) returns void
language plpgsql security definer set search_path = '' as $$
declare
  _site tenancy.sites := tenancy.require_site(assign_role.site, array['owner', 'admin']);
  _account uuid := auth.require_account(assign_role.email);
begin
  if not exists (select from tenancy.site_members m where m.site_id = _site.id and m.account_id = _account) then
    perform rowhouse.fail(404, format('%s is not a member of site %L', assign_role.email, assign_role.site),
      'Add them first: tenancy.add_member(site, email, role).', 'not_found');
  end if;
  perform access.assign(_site.id, _account, assign_role.role);
end
$$;
comment on function access.assign_role(text, text, text) is
  'Gives a member of a site one more role. Site owners and admins only. RH403, RH404.';

create or replace function access.revoke_role(site text, email text, role text) returns void
language plpgsql security definer set search_path = '' as $$
declare
  _site tenancy.sites := tenancy.require_site(revoke_role.site, array['owner', 'admin']);
begin
  delete from access.assignments a
  where a.site_id = _site.id and a.account_id = auth.require_account(revoke_role.email)
    and a.role_id = access.require_role(_site.id, revoke_role.role);
end
$$;
comment on function access.revoke_role(text, text, text) is
  'Takes a role from a member, from their next statement on. Site owners and admins only. RH403, RH404.';

create or replace function access.create_role(site text, name text, permissions text[]) returns access.roles
language plpgsql security definer set search_path = '' as $$
declare
  _site tenancy.sites := tenancy.require_site(create_role.site, array['owner', 'admin']);
  _role access.roles;
  _wrong text;
begin
  select p into _wrong from unnest(create_role.permissions) p
  where p !~ '^(\*|[a-z][a-z0-9-]*/(\*|[a-z][a-z0-9_]*)):(create|read|update|delete|\*)$' limit 1;
  if create_role.name is null or create_role.name !~ '^[a-z][a-z0-9_-]{0,60}$' or _wrong is not null then
    perform rowhouse.fail(400, case when _wrong is null then format('%L is not a valid role name', left(create_role.name, 80))
      else format('%L is not a permission', left(_wrong, 80)) end,
      'A role is lower-case letters, digits, _ and -; a permission is app/entity:action, with * for all: crm/contacts:read, crm/*:update, *:*.',
      'invalid_role');
  end if;
  insert into access.roles (site_id, name) values (_site.id, create_role.name) on conflict do nothing returning * into _role;
  if _role.id is null then
    perform rowhouse.fail(409, format('Site %L already has a role %L', _site.name, create_role.name), 'Choose another name.', 'name_taken');
  end if;
  insert into access.permissions (site_id, role_id, entity, action)
  select distinct _site.id, _role.id, split_part(p, ':', 1), split_part(p, ':', 2) from unnest(create_role.permissions) p;
  return _role;
end
$$;
comment on function access.create_role(text, text, text[]) is
  'Creates a role of a site with permissions like crm/contacts:read, crm/*:update or *:*. Site owners and admins only. RH400, RH403, RH404, RH409.';
