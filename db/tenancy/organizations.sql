-- Such a token is handed to what works for one site; what it could make or change beyond it would outlive it.
create or replace function tenancy.refuse_site_token() returns void
language plpgsql stable set search_path = '' as $$
begin
  if tenancy.site_id() is not null then
    perform rowhouse.fail(403, 'Your token is for one site; organizations are beyond it', 'Log in without a site.', 'forbidden');
  end if;
end
$$;
comment on function tenancy.refuse_site_token() is 'Raises RH403 for who logged in for one site: organizations are beyond it. Internal.';

create or replace function tenancy.create_organization(name text, title text default null)
returns tenancy.organizations
language plpgsql security definer set search_path = '' as $$
declare
  _organization tenancy.organizations;
begin
  perform tenancy.check_name('organization', create_organization.name);
  if auth.account_id() is null and not auth.is_operator() then
    perform rowhouse.fail(401, 'Log in to create an organization', 'Send a bearer token.', 'unauthenticated');
  end if;
  perform tenancy.refuse_site_token();
  insert into tenancy.organizations (name, title)
  values (create_organization.name, coalesce(create_organization.title, create_organization.name))
  on conflict do nothing
  returning * into _organization;
  if _organization.id is null then
    perform rowhouse.fail(409, format('The organization name %L is taken', create_organization.name),
      'Choose another name.', 'name_taken');
  end if;
  insert into tenancy.organization_members (organization_id, account_id, role)
  select _organization.id, auth.account_id(), 'owner' where auth.account_id() is not null;
  return _organization;
end
$$;
comment on function tenancy.create_organization(text, text) is
  'Creates an organization and makes the current account its owner. RH400 invalid name, RH401 nobody is logged in, RH403 with a token for one site, RH409 name taken.';

create or replace function tenancy.require_organization(organization text, roles text[]) returns uuid
language plpgsql stable set search_path = '' as $$
declare
  _id uuid;
  _role text;
begin
  select o.id, m.role into _id, _role
  from tenancy.organizations o
  left join tenancy.organization_members m on m.organization_id = o.id and m.account_id = auth.account_id()
  where o.name = require_organization.organization;
  if _id is null or (_role is null and not auth.is_operator()) then
    perform rowhouse.fail(404, format('There is no organization %L that you may see', left(require_organization.organization, 80)),
      'Check the name, or ask one of its members to add you.', 'not_found');
  end if;
  perform tenancy.refuse_site_token();
  if not auth.is_operator() and not _role = any (require_organization.roles) then
    perform rowhouse.fail(403, format('Only its %s may do this in organization %L',
      array_to_string(require_organization.roles, ' or '), require_organization.organization),
      format('You are %s there.', _role), 'forbidden');
  end if;
  return _id;
end
$$;
comment on function tenancy.require_organization(text, text[]) is
  'The id of an organization in which the current account has one of roles. RH404 unknown or not a member, RH403 another role.';

create or replace function tenancy.require_other_owner(organization_id uuid, account_id uuid) returns void
language plpgsql set search_path = '' as $$
begin
  perform from tenancy.organizations o where o.id = require_other_owner.organization_id for no key update;
  if (select bool_or(m.account_id = require_other_owner.account_id)
      and not bool_or(m.account_id <> require_other_owner.account_id and a.deleted_at is null)
    from tenancy.organization_members m join auth.accounts a on a.id = m.account_id
    where m.organization_id = require_other_owner.organization_id and m.role = 'owner')
  then
    perform rowhouse.fail(409, 'The organization would be left without an owner',
      'Make another account its owner first: tenancy.add_organization_member(organization, email, ''owner'').', 'last_owner');
  end if;
end
$$;
comment on function tenancy.require_other_owner(uuid, uuid) is
  'Raises RH409 when an account is the only owner of an organization. Internal.';

create or replace function tenancy.add_organization_member(organization text, email text, role text default 'member')
returns tenancy.organization_members
language plpgsql security definer set search_path = '' as $$
declare
  _organization uuid := tenancy.require_organization(add_organization_member.organization, array['owner']);
  _account uuid := auth.require_account(add_organization_member.email);
  _member tenancy.organization_members;
begin
  perform tenancy.check_member_role(add_organization_member.role);
  if add_organization_member.role <> 'owner' then
    perform tenancy.require_other_owner(_organization, _account);
  end if;
  insert into tenancy.organization_members (organization_id, account_id, role)
  values (_organization, _account, add_organization_member.role)
  on conflict (organization_id, account_id) do update set role = excluded.role
  returning * into _member;
  return _member;
end
$$;
comment on function tenancy.add_organization_member(text, text, text) is
  'Adds an account to an organization, or changes its role (owner, admin, member). Owners only; one is always left. RH400, RH403, RH404, RH409.';

create or replace function tenancy.remove_organization_member(organization text, email text) returns void
language plpgsql security definer set search_path = '' as $$
declare
  _organization uuid := tenancy.require_organization(remove_organization_member.organization, array['owner']);
  _account uuid := auth.require_account(remove_organization_member.email);
begin
  perform tenancy.require_other_owner(_organization, _account);
  delete from tenancy.organization_members m where m.organization_id = _organization and m.account_id = _account;
end
$$;
comment on function tenancy.remove_organization_member(text, text) is
  'Ends an account''s membership of an organization; its memberships of sites stay. Owners only; one is always left. RH403, RH404, RH409.';

create or replace function tenancy.drop_organization(organization text, confirm text) returns void
language plpgsql security definer set search_path = '' as $$
declare
  _id uuid := tenancy.require_organization(drop_organization.organization, array['owner']);
begin
  perform tenancy.require_confirmation(drop_organization.organization, drop_organization.confirm);
  if exists (select from tenancy.sites where organization_id = _id) then
    perform rowhouse.fail(409, format('Organization %L still has sites', drop_organization.organization),
      'Drop its sites first: tenancy.drop_site(site, confirm).', 'not_empty');
  end if;
  delete from tenancy.organizations where id = _id;
end
$$;
comment on function tenancy.drop_organization(text, text) is
  'Drops an organization without sites; confirm must repeat its name. Owners only. RH400, RH403, RH404, RH409 it still has sites.';

create or replace function tenancy.require_confirmation(name text, confirm text) returns void
language plpgsql immutable set search_path = '' as $$
begin
  if require_confirmation.confirm is distinct from require_confirmation.name then
    perform rowhouse.fail(400, 'The confirmation does not match: nothing was dropped',
      format('Dropping cannot be undone. Repeat the name as confirmation: %L.', require_confirmation.name), 'confirmation_required');
  end if;
end
$$;
comment on function tenancy.require_confirmation(text, text) is 'Raises RH400 unless confirm repeats name.';
