-- Members of sites and organizations. A membership's role (owner, admin, member) is about administering; what its account
-- may do with records say the roles assigned to it (access.assign_role).

create or replace function tenancy.check_member_role(role text) returns void
language plpgsql immutable set search_path = '' as $$
begin
  if check_member_role.role is null or not check_member_role.role = any (array['owner', 'admin', 'member']) then
    perform rowhouse.fail(400, format('%L is not the role of a member', left(check_member_role.role, 80)),
      'Use owner, admin or member. Roles for records are assigned with access.assign_role.', 'invalid_role');
  end if;
end
$$;
comment on function tenancy.check_member_role(text) is 'Raises RH400 unless role is owner, admin or member.';

create or replace function tenancy.add_member(site text, email text, role text default 'viewer')
returns tenancy.site_members
language plpgsql security definer set search_path = '' as $$
declare
  _site tenancy.sites := access.require_control(add_member.site, '@members:manage');
  _account uuid := auth.require_account(add_member.email);
  _member tenancy.site_members;
begin
  if add_member.role is not null then
    perform access.require_holding(_site.id, access.require_role(_site.id, add_member.role));
  end if;
  insert into tenancy.site_members (site_id, account_id) values (_site.id, _account)
  on conflict (site_id, account_id) do update set role = tenancy.site_members.role
  returning * into _member;
  if add_member.role is not null then
    perform access.assign(_site.id, _account, add_member.role);
  end if;
  return _member;
end
$$;
comment on function tenancy.add_member(text, text, text) is
  'Makes an account a member of a site and assigns it a role there (admin, editor, viewer or one of the site''s own; null for none). Site owners and admins, and who has @members:manage, for roles that they hold themselves. RH403, RH404.';

-- Owners make and unmake owners, and one whose account is not deleted is always left; locked, so that two owners do not remove each other at once.
create or replace function tenancy.require_owner_for(site tenancy.sites, account_id uuid, new_role text) returns void
language plpgsql set search_path = '' as $$
declare
  _was_owner boolean;
  _other_owner boolean;
begin
  perform from tenancy.sites s where s.id = (require_owner_for.site).id for no key update;
  select coalesce(bool_or(m.account_id = require_owner_for.account_id), false),
    coalesce(bool_or(m.account_id <> require_owner_for.account_id and a.deleted_at is null), false)
  into _was_owner, _other_owner
  from tenancy.site_members m join auth.accounts a on a.id = m.account_id
  where m.site_id = (require_owner_for.site).id and m.role = 'owner';
  if _was_owner or require_owner_for.new_role = 'owner' then
    perform tenancy.require_site((require_owner_for.site).name, array['owner']);
  end if;
  if _was_owner and require_owner_for.new_role is distinct from 'owner' and not _other_owner then
    perform rowhouse.fail(409, format('Site %L would be left without an owner', (require_owner_for.site).name),
      'Make another member its owner first: tenancy.set_member_role(site, email, ''owner'').', 'last_owner');
  end if;
end
$$;
comment on function tenancy.require_owner_for(tenancy.sites, uuid, text) is
  'Raises RH403 when a change of an account''s membership needs an owner, RH409 when it would leave the site without one. Internal.';

create or replace function tenancy.set_member_role(site text, email text, role text) returns tenancy.site_members
language plpgsql security definer set search_path = '' as $$
declare
  _site tenancy.sites := tenancy.require_site(set_member_role.site, array['owner', 'admin']);
  _account uuid := auth.require_account(set_member_role.email);
  _member tenancy.site_members;
begin
  perform tenancy.check_member_role(set_member_role.role);
  perform tenancy.require_owner_for(_site, _account, set_member_role.role);
  update tenancy.site_members m set role = set_member_role.role
  where m.site_id = _site.id and m.account_id = _account
  returning m.* into _member;
  if _member.account_id is null then
    perform rowhouse.fail(404, format('%s is not a member of site %L', set_member_role.email, set_member_role.site),
      'Add them first: tenancy.add_member(site, email, role).', 'not_found');
  end if;
  return _member;
end
$$;
comment on function tenancy.set_member_role(text, text, text) is
  'Makes a member of a site its owner, admin or member: who administers it. Owners and admins only; owners are made and unmade by owners, and one is always left. RH400, RH403, RH404, RH409.';

create or replace function tenancy.remove_member(site text, email text) returns void
language plpgsql security definer set search_path = '' as $$
declare
  _site tenancy.sites := access.require_control(remove_member.site, '@members:manage');
  _account uuid := auth.require_account(remove_member.email);
begin
  if exists (select from tenancy.site_members m where m.site_id = _site.id and m.account_id = _account and m.role in ('owner', 'admin'))
    then
    perform tenancy.require_site(remove_member.site, array['owner', 'admin']);
  end if;
  perform tenancy.require_owner_for(_site, _account, null);
  perform access.end_delegation(a) from access.assignments a
  where a.site_id = _site.id and a.delegator_id is not null and _account in (a.account_id, a.delegator_id);
  delete from access.assignments a where a.site_id = _site.id and a.account_id = _account;
  delete from access.group_members g where g.site_id = _site.id and g.account_id = _account;
  delete from tenancy.site_members m where m.site_id = _site.id and m.account_id = _account;
end
$$;
comment on function tenancy.remove_member(text, text) is
  'Ends an account''s membership of a site, its roles and groups there, and what it delegated, from its next statement on. Site owners and admins, and for plain members who has @members:manage; an owner is removed by an owner, and the last one not at all. RH403, RH404, RH409.';
