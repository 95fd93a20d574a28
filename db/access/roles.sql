create or replace function access.create_system_roles(site_id uuid) returns void
language sql set search_path = '' as $$
  with roles as (
    insert into access.roles (site_id, name, system)
    select create_system_roles.site_id, n, true from unnest(array['admin', 'editor', 'viewer', 'authenticated', 'anonymous']) n
    returning id, name
  ),
  held as (
    insert into access.held_roles (role_id, held_id, site_id) select r.id, r.id, create_system_roles.site_id from roles r
  )
  insert into access.permissions (site_id, role_id, entity, action, fields)
  select create_system_roles.site_id, r.id, '*', p.action, p.fields::jsonb
  from roles r
  join (values ('admin', '*', '{"unmasked": ["*"]}'), ('editor', 'read', null), ('editor', 'create', null), ('editor', 'update', null),
    ('editor', 'delete', null), ('viewer', 'read', null)) p (role, action, fields) on p.role = r.name
$$;
comment on function access.create_system_roles(uuid) is
  'The roles every site begins with: admin may do everything and sees nothing masked, editor reads and writes records, viewer reads them; authenticated, which every member holds, and anonymous, which everybody does, may do nothing until somebody says so.';

create or replace function access.role_path(role access.roles) returns text
language sql stable set search_path = '' as $$
  select coalesce((select a.name || '/' from tenancy.apps a where a.id = (role).app_id), '') || (role).name
$$;
comment on function access.role_path(access.roles) is 'What a role is called: editor, or crm/editor when it is of an app.';

create or replace function access.find_role(site_id uuid, role text) returns access.roles
language sql stable set search_path = '' as $$
  select r.* from access.roles r left join tenancy.apps a on a.id = r.app_id
  where r.site_id = find_role.site_id and not r.is_internal
    and (r.app_id is null and r.name = find_role.role or a.name || '/' || r.name = find_role.role)
$$;
comment on function access.find_role(uuid, text) is 'A role of a site by what it is called, editor or crm/editor, or null.';

create or replace function access.require_role(site_id uuid, role text) returns uuid
language plpgsql stable set search_path = '' as $$
declare
  _id uuid := (access.find_role(require_role.site_id, require_role.role)).id;
begin
  if _id is null then
    perform rowhouse.fail(404, format('This site has no role %L', left(require_role.role, 80)),
      'Roles of this site: ' || (select string_agg(access.role_path(r), ', ' order by r.app_id is not null, r.name)
        from access.roles r where r.site_id = require_role.site_id and not r.is_internal),
      'not_found');
  end if;
  return _id;
end
$$;
comment on function access.require_role(uuid, text) is 'The id of a site''s role. RH404 lists the roles there are.';

create or replace function access.create_role(site text, name text, permissions text[]) returns access.roles
language plpgsql security definer set search_path = '' as $$
declare
  _site tenancy.sites := access.require_control(create_role.site, '@roles:define');
begin
  if (access.find_role(_site.id, create_role.name)).id is not null then
    perform rowhouse.fail(409, format('Site %L already has a role %L', _site.name, left(create_role.name, 80)),
      'Choose another name, or change it: access.define_role(site, definition).', 'name_taken');
  end if;
  return access.define_role(create_role.site,
    jsonb_build_object('name', create_role.name, 'permissions', to_jsonb(create_role.permissions)));
end
$$;
comment on function access.create_role(text, text, text[]) is
  'Creates a role of a site with permissions like crm/contacts:read, crm/*:update, posts:delete:own or *:*; access.define_role says more. Owners, admins and @roles:define. RH400, RH403, RH404, RH409.';

drop function if exists access.drop_role(text, text);
create or replace function access.drop_role(site text, role text, force boolean default false) returns void
language plpgsql security definer set search_path = '' as $$
declare
  _site tenancy.sites := access.require_control(drop_role.site, '@roles:define');
  _failing jsonb;
begin
  perform access.lock_model(_site.id);
  _failing := access.failing_tests(_site.id);
  perform access.take_effect(_site.id, access.remove_role(_site.id, drop_role.role), _failing, drop_role.force);
end
$$;
comment on function access.drop_role(text, text, boolean) is
  'Drops a role with its permissions and assignments. Owners, admins and @roles:define. RH403, RH404, RH409 a system role, others inherit from it, or a test of access that passed would fail (unless forced).';

create or replace function access.remove_role(site_id uuid, role text) returns uuid[]
language plpgsql set search_path = '' as $$
declare
  _id uuid := access.require_role(remove_role.site_id, remove_role.role);
  _role access.roles;
  _entities uuid[];
  _by text;
begin
  select r.* into _role from access.roles r where r.id = _id;
  select string_agg(access.role_path(r), ', ') into _by
  from access.role_parents p
  join access.roles r on r.id = p.role_id
  where p.parent_id = _id;
  if _role.system then
    perform rowhouse.fail(409, format('%s is a role that every site has', _role.name),
      'Take its permissions or its assignments away instead.', 'system_role');
  elsif _by is not null then
    perform rowhouse.fail(409, format('Other roles inherit from %s: %s', remove_role.role, _by), 'Define them without it first.',
      'still_referenced');
  end if;
  if _id = any (access.own_roles(remove_role.site_id)) then
    perform access.refuse_own_names(remove_role.site_id, 'roles', format('you hold the role %s', remove_role.role));
  end if;
  perform access.save_first_version(remove_role.site_id, 'role', remove_role.role, access.role_definition(_role));
  _entities := access.concerned_entities(array[_id]);
  delete from access.roles r where r.id = _id;
  perform access.save_version(remove_role.site_id, 'role', remove_role.role, null);
  return _entities;
end
$$;
comment on function access.remove_role(uuid, text) is 'Deletes a role and returns the entities for which that has to be put into effect. Internal. RH403 a role of the caller''s whose name conditions may ask for, RH404, RH409.';
