create or replace function tenancy.create_site(organization text, name text, title text default null)
returns tenancy.sites
language plpgsql security definer set search_path = '' as $$
declare
  _organization uuid := tenancy.require_organization(create_site.organization, array['owner', 'admin']);
  _site tenancy.sites;
begin
  perform tenancy.check_name('site', create_site.name);
  if exists (select from tenancy.sites s where s.name = create_site.name) then
    perform rowhouse.fail(409, format('The site name %L is taken', create_site.name), 'Choose another name.', 'name_taken');
  end if;
  insert into tenancy.sites (organization_id, name, title, role_name)
  values (_organization, create_site.name, coalesce(create_site.title, create_site.name),
    tenancy.create_site_role(create_site.name))
  on conflict do nothing
  returning * into _site;
  if _site.id is null then
    perform rowhouse.fail(409, format('The site name %L is taken', create_site.name), 'Choose another name.', 'name_taken');
  end if;
  perform access.create_system_roles(_site.id);
  if auth.account_id() is not null then
    insert into tenancy.site_members (site_id, account_id, role) values (_site.id, auth.account_id(), 'owner');
    perform access.assign(_site.id, auth.account_id(), 'admin');
  end if;
  return _site;
end
$$;
comment on function tenancy.create_site(text, text, text) is
  'Creates a site (a tenant) with its PostgreSQL role and the system roles admin, editor, viewer; the current account becomes its owner. Organization owners and admins only. RH400, RH403, RH404, RH409 name taken.';

create or replace function tenancy.require_site(site text, roles text[] default array['owner', 'admin', 'member'])
returns tenancy.sites
language plpgsql stable set search_path = '' as $$
declare
  _site tenancy.sites;
  _role text;
begin
  select s.* into _site from tenancy.sites s where s.name = require_site.site;
  select m.role into _role from tenancy.site_members m where m.site_id = _site.id and m.account_id = auth.account_id();
  -- A token for one site opens no other, whatever its account may do there.
  if _site.id is null or tenancy.site_id() <> _site.id or (_role is null and not auth.is_operator()) then
    perform rowhouse.fail(404, format('There is no site %L that you may see', left(require_site.site, 80)),
      'Check the name, or ask a member of the site to add you.', 'not_found');
  elsif not auth.is_operator() and not _role = any (require_site.roles) then
    perform rowhouse.fail(403, format('Only its %s may do this in site %L',
      array_to_string(require_site.roles, ' or '), require_site.site), format('You are %s there.', _role), 'forbidden');
  end if;
  return _site;
end
$$;
comment on function tenancy.require_site(text, text[]) is
  'The site, when the current account is a member with one of roles (or the operator). RH404 unknown or no member, RH403 another role.';

create or replace function tenancy.drop_site(site text, confirm text) returns void
language plpgsql security definer set search_path = '' as $$
declare
  _site tenancy.sites := tenancy.require_site(drop_site.site, array['owner']);
  _app record;
begin
  perform tenancy.require_confirmation(drop_site.site, drop_site.confirm);
  for _app in select a.id from tenancy.apps a where a.site_id = _site.id loop
    perform tenancy.remove_app(_app.id);
  end loop;
  delete from tenancy.sites where id = _site.id;
  perform tenancy.drop_site_role(_site.role_name);
end
$$;
comment on function tenancy.drop_site(text, text) is
  'Drops a site with all its apps, records and its PostgreSQL role; confirm must repeat its name. Owners only. RH400, RH403, RH404.';

create or replace function tenancy.update_site_settings(site text, settings jsonb, branding jsonb default null)
returns tenancy.sites
language plpgsql security definer set search_path = '' as $$
declare
  _site tenancy.sites := access.require_control(update_site_settings.site, '@settings:update');
begin
  -- Rules, roles and the audit log hang on these: who changes them could give themselves more than they hold.
  if exists (select from unnest(array['signup', 'time_zone', 'audit']) k
    where update_site_settings.settings->k is distinct from _site.settings->k
    and update_site_settings.settings is not null)
  then
    perform tenancy.require_site(update_site_settings.site, array['owner', 'admin']);
  end if;
  update tenancy.sites s
  set settings = coalesce(update_site_settings.settings, s.settings),
    branding = coalesce(update_site_settings.branding, s.branding)
  where s.id = _site.id
  returning s.* into _site;
  return _site;
end
$$;
comment on function tenancy.update_site_settings(text, jsonb, jsonb) is
  'Replaces a site''s settings and, when given, its branding. Owners and admins, and who has @settings:update, but for signup, time_zone and audit. RH400 lists what is wrong with them, RH403, RH404.';
