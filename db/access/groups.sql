-- Groups of accounts: what is assigned to a group, its members hold.

create or replace function access.require_group(site_id uuid, name text) returns uuid
language plpgsql stable set search_path = '' as $$
declare
  _id uuid := (select g.id from access.groups g where g.site_id = require_group.site_id and g.name = require_group.name);
begin
  if _id is null then
    perform rowhouse.fail(404, format('This site has no group %L', left(require_group.name, 80)),
      coalesce('Groups of this site: '
        || (select string_agg(g.name, ', ' order by g.name) from access.groups g where g.site_id = require_group.site_id),
        'This site has no groups yet: access.create_group(site, name).'), 'not_found');
  end if;
  return _id;
end
$$;
comment on function access.require_group(uuid, text) is 'The id of a site''s group. RH404 lists the groups there are.';

-- Who fills a group gives its roles away.
create or replace function access.require_group_roles(group_id uuid) returns void
language plpgsql stable set search_path = '' as $$
begin
  perform access.require_holding(a.site_id, a.role_id) from access.assignments a where a.group_id = require_group_roles.group_id;
end
$$;
comment on function access.require_group_roles(uuid) is 'Raises RH403 unless the current account may give every role that a group holds.';

create or replace function access.create_group(site text, name text, description text default null) returns access.groups
language plpgsql security definer set search_path = '' as $$
declare
  _site tenancy.sites := access.require_control(create_group.site, '@roles:assign');
  _group access.groups;
begin
  if create_group.name is null or create_group.name !~ '^[a-z][a-z0-9_-]{0,60}$' then
    perform rowhouse.fail(400, format('%L is not a valid name for a group', left(create_group.name, 80)),
      'Use up to 61 lower-case letters, digits, _ and -, beginning with a letter.', 'invalid_name');
  end if;
  insert into access.groups (site_id, name, description) values (_site.id, create_group.name, create_group.description)
  on conflict do nothing returning * into _group;
  if _group.id is null then
    perform rowhouse.fail(409, format('Site %L already has a group %L', _site.name, create_group.name), 'Choose another name.',
      'name_taken');
  end if;
  return _group;
end
$$;
comment on function access.create_group(text, text, text) is 'Creates a group of accounts of a site. Owners, admins and @roles:assign. RH400, RH403, RH404, RH409.';

create or replace function access.drop_group(site text, name text) returns void
language plpgsql security definer set search_path = '' as $$
declare
  _site tenancy.sites := access.require_control(drop_group.site, '@roles:assign');
  _group uuid := access.require_group(_site.id, drop_group.name);
  _failing jsonb := access.failing_tests(_site.id);
begin
  perform access.require_group_roles(_group);
  perform access.refuse_group_change(_site.id, _group, null, false);
  delete from access.groups g where g.id = _group;
  perform access.refuse_broken(_site.id, _failing, false);
end
$$;
comment on function access.drop_group(text, text) is 'Drops a group; its members lose what it held from their next statement on. Owners, admins and @roles:assign. RH403, RH404, RH409 a test of access that passed would fail (unless rowhouse.break_tests is on).';

create or replace function access.add_to_group(site text, name text, email text) returns void
language plpgsql security definer set search_path = '' as $$
declare
  _site tenancy.sites := access.require_control(add_to_group.site, '@roles:assign');
  _group uuid := access.require_group(_site.id, add_to_group.name);
  _account uuid := auth.require_account(add_to_group.email);
begin
  perform access.require_group_roles(_group);
  perform access.refuse_group_change(_site.id, _group, _account, true);
  if not exists (select from tenancy.site_members m where m.site_id = _site.id and m.account_id = _account) then
    perform rowhouse.fail(404, format('%s is not a member of site %L', add_to_group.email, add_to_group.site),
      'Add them first: tenancy.add_member(site, email, role).', 'not_found');
  end if;
  insert into access.group_members (group_id, account_id, site_id) values (_group, _account, _site.id) on conflict do nothing;
end
$$;
comment on function access.add_to_group(text, text, text) is 'Puts a member of a site into a group. Owners, admins, and who has @roles:assign and holds the group''s roles. RH403, RH404.';

create or replace function access.remove_from_group(site text, name text, email text) returns void
language plpgsql security definer set search_path = '' as $$
declare
  _site tenancy.sites := access.require_control(remove_from_group.site, '@roles:assign');
  _group uuid := access.require_group(_site.id, remove_from_group.name);
  _account uuid := auth.require_account(remove_from_group.email);
begin
  perform access.require_group_roles(_group);
  perform access.refuse_group_change(_site.id, _group, _account, false);
  delete from access.group_members g where g.group_id = _group and g.account_id = _account;
end
$$;
comment on function access.remove_from_group(text, text, text) is 'Takes an account out of a group, from its next statement on. Owners, admins, and who has @roles:assign and holds the group''s roles. RH403, RH404.';

create or replace function access.assign_role_to_group(
  site text, name text, role text, valid_from timestamptz default null, valid_until timestamptz default null, condition jsonb default null
)
returns void
language plpgsql security definer set search_path = '' as $$
declare
  _site tenancy.sites := access.require_control(assign_role_to_group.site, '@roles:assign');
  _failing jsonb := access.failing_tests(_site.id);
begin
  perform access.save_assignment(_site.id, null, access.require_group(_site.id, assign_role_to_group.name),
    access.require_role(_site.id, assign_role_to_group.role),
    assign_role_to_group.valid_from, assign_role_to_group.valid_until, assign_role_to_group.condition);
  perform access.refuse_broken(_site.id, _failing, false);
end
$$;
comment on function access.assign_role_to_group(text, text, text, timestamptz, timestamptz, jsonb) is
  'Gives a role to all members of a group, on the terms of access.assign_role. RH400, RH403, RH404, RH409 a test of access that passed would fail (unless rowhouse.break_tests is on).';

create or replace function access.revoke_role_from_group(site text, name text, role text) returns void
language plpgsql security definer set search_path = '' as $$
declare
  _site tenancy.sites := access.require_control(revoke_role_from_group.site, '@roles:assign');
  _role uuid := access.require_role(_site.id, revoke_role_from_group.role);
  _group uuid := access.require_group(_site.id, revoke_role_from_group.name);
  _failing jsonb := access.failing_tests(_site.id);
begin
  perform access.require_holding(_site.id, _role);
  perform access.refuse_own_assignment(_site.id, null, _group, _role);
  delete from access.assignments a where a.group_id = _group and a.role_id = _role;
  perform access.refuse_broken(_site.id, _failing, false);
end
$$;
comment on function access.revoke_role_from_group(text, text, text) is 'Takes a role from a group, from its members'' next statement on. RH403, RH404, RH409 a test of access that passed would fail (unless rowhouse.break_tests is on).';
