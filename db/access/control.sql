-- The control plane under the same model: a site's owners and admins may do everything there, others what a permission like
-- @roles:assign says.

create or replace function access.may_control(site_id uuid, resource text, action text, app text default null) returns boolean
language sql stable security definer set search_path = '' as $$
  select auth.is_operator()
    or coalesce(tenancy.site_id() = may_control.site_id, true) and (
      exists (select from tenancy.site_members m
        where m.site_id = may_control.site_id and m.account_id = auth.account_id() and m.role in ('owner', 'admin'))
      or exists (
        select from access.permissions p
        where p.role_id = any (access.roles_of(may_control.site_id, auth.account_id())) and p.site_id = may_control.site_id and p.is_plain
          and p.entity in (may_control.resource, may_control.app || '/' || may_control.resource) and p.action in (may_control.action, '*')))
$$;
comment on function access.may_control(uuid, text, text, text) is
  'Whether the account of the claims may do something in the control plane of a site or of one app: as its owner or admin, or by a permission like @roles:assign or crm/@entities:define.';

create or replace function access.my_control_site_ids(permission text) returns uuid[]
language sql stable security definer parallel safe set search_path = '' as $$
  select array(select s.id from unnest(tenancy.my_site_ids()) s (id)
    where access.may_control(s.id, split_part(permission, ':', 1), split_part(permission, ':', 2)))
$$;
comment on function access.my_control_site_ids(text) is 'The sites in which the current account has a permission of the control plane like @policies:define, as an owner or admin or by a role; inside a site only that one.';

create or replace function access.my_assigner_site_ids() returns uuid[]
language sql stable security definer parallel safe set search_path = '' as $$
  select array(select unnest(access.my_control_site_ids('@roles:assign'))
    union select unnest(access.my_control_site_ids('@members:manage')))
$$;
comment on function access.my_assigner_site_ids() is 'The sites in which the current account sees who holds which role: as an owner or admin, or by @roles:assign or @members:manage.';

create or replace function access.my_group_ids() returns uuid[]
language sql stable security definer parallel safe set search_path = '' as $$
  select array(select g.group_id from access.group_members g
    where g.account_id = auth.account_id() and g.site_id = any (tenancy.my_site_ids()))
$$;
comment on function access.my_group_ids() is 'The groups that the current account is in; inside a site only its.';

create or replace function access.my_definer_entity_ids() returns uuid[]
language sql stable security definer parallel safe set search_path = '' as $$
  select array(select e.id from tenancy.apps a join data.entities e on e.app_id = a.id
    where a.site_id = any (tenancy.my_site_ids()) and access.may_control(a.site_id, '@entities', 'define', a.name))
$$;
comment on function access.my_definer_entity_ids() is 'The entities that the current account may define: of whole sites, or of the apps where it has @entities:define.';

create or replace function access.require_control(site text, permission text, app text default null) returns tenancy.sites
language plpgsql stable set search_path = '' as $$
declare
  _site tenancy.sites := tenancy.require_site(require_control.site);
begin
  if not access.may_control(_site.id, split_part(permission, ':', 1), split_part(permission, ':', 2), require_control.app) then
    perform rowhouse.fail(403,
      format('Only its owners and admins may do this in site %L, or who has the permission %s', _site.name, permission),
      format('You are %s there.',
        (select m.role from tenancy.site_members m where m.site_id = _site.id and m.account_id = auth.account_id())), 'forbidden');
  end if;
  return _site;
end
$$;
comment on function access.require_control(text, text, text) is
  'The site, when the current account is its owner or admin or has a permission of the control plane there (or in the app). RH403, RH404.';

-- Whoever is no owner or admin hands on no more than what they hold themselves.
create or replace function access.require_holding(site_id uuid, role_id uuid) returns void
language plpgsql stable set search_path = '' as $$
begin
  if not access.administers(require_holding.site_id)
    and not access.holds_itself(require_holding.site_id, auth.account_id(), require_holding.role_id)
  then
    perform rowhouse.fail(403, 'You may give only roles that you hold yourself, unconditionally',
      'Ask an owner or admin of the site.', 'forbidden');
  end if;
end
$$;
comment on function access.require_holding(uuid, uuid) is 'Raises RH403 unless the current account is an owner or admin of the site or holds the role itself.';

create or replace function access.require_definer(app text) returns tenancy.apps
language plpgsql stable set search_path = '' as $$
declare
  _app tenancy.apps := tenancy.require_app(require_definer.app);
begin
  perform access.require_control(split_part(require_definer.app, '/', 1), '@entities:define', _app.name);
  return _app;
end
$$;
comment on function access.require_definer(text) is 'The app named site/app, when the current account may define its entities: owners and admins, and who has @entities:define. RH400, RH403, RH404.';
