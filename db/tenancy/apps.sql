create or replace function tenancy.create_app(site text, name text, title text default null) returns tenancy.apps
language plpgsql security definer set search_path = '' as $$
declare
  _site tenancy.sites := tenancy.require_site(create_app.site, array['owner', 'admin']);
  _app tenancy.apps;
begin
  perform tenancy.check_name('app', create_app.name);
  insert into tenancy.apps (site_id, name, title, schema_name)
  values (_site.id, create_app.name, coalesce(create_app.title, create_app.name),
    tenancy.free_schema_name(_site.name, create_app.name))
  on conflict do nothing
  returning * into _app;
  if _app.id is null then
    perform rowhouse.fail(409, format('Site %L already has an app %L', _site.name, create_app.name), 'Choose another name.', 'name_taken');
  end if;
  execute format('create schema %I', _app.schema_name);
  execute format('grant usage on schema %I to %I', _app.schema_name, _site.role_name);
  execute format('grant usage, create on schema %I to rowhouse_data', _app.schema_name);
  return _app;
end
$$;
comment on function tenancy.create_app(text, text, text) is
  'Creates an app: a PostgreSQL schema in which the site''s role may use what the app defines. Site owners and admins only. RH400, RH403, RH404, RH409 name taken.';

create or replace function tenancy.require_app(app text, roles text[] default array['owner', 'admin', 'member'])
returns tenancy.apps
language plpgsql stable set search_path = '' as $$
declare
  _site tenancy.sites;
  _app tenancy.apps;
begin
  if require_app.app is null or require_app.app !~ '^[^/]+/[^/]+$' then
    perform rowhouse.fail(400, format('%L does not name an app', left(require_app.app, 80)), 'Write site/app, for example acme/crm.',
      'invalid_path');
  end if;
  _site := tenancy.require_site(split_part(require_app.app, '/', 1), require_app.roles);
  select a.* into _app from tenancy.apps a where a.site_id = _site.id and a.name = split_part(require_app.app, '/', 2);
  if _app.id is null then
    perform rowhouse.fail(404, format('There is no app %L that you may see', left(require_app.app, 80)),
      format('Check the name; create it with tenancy.create_app(%L, …).', _site.name), 'not_found');
  end if;
  return _app;
end
$$;
comment on function tenancy.require_app(text, text[]) is
  'The app named site/app, when the current account is a member of the site with one of roles (or the operator). RH400, RH403, RH404.';

create or replace function tenancy.update_app_settings(app text, settings jsonb) returns tenancy.apps
language plpgsql security definer set search_path = '' as $$
declare
  _app tenancy.apps := tenancy.require_app(update_app_settings.app);
begin
  perform access.require_control(split_part(update_app_settings.app, '/', 1), '@settings:update', _app.name);
  if update_app_settings.settings is null
    or exists (select from jsonb_object_keys(update_app_settings.settings) k where k <> 'cors')
    or exists (select from jsonb_array_elements_text(coalesce(update_app_settings.settings #> '{cors,origins}', '[]')) o
      where o !~ '^https?://[a-z0-9.-]+(:[0-9]{1,5})?$')
  then
    perform rowhouse.fail(400, 'The app''s settings are not valid',
      'Known: {"cors": {"origins": ["https://app.example.com"]}}; an origin is scheme, host and port, no path and no *.',
      'invalid_settings');
  end if;
  update tenancy.apps a set settings = update_app_settings.settings where a.id = _app.id returning a.* into _app;
  return _app;
end
$$;
comment on function tenancy.update_app_settings(text, jsonb) is
  'Replaces an app''s settings, {"cors": {"origins": [...]}}. Site owners and admins, and who has @settings:update (crm/@settings:update). RH400, RH403, RH404.';

-- Every definition change passes here, whoever made it; gateways listen (rowhouse_definitions, the app''s id).
create or replace function tenancy.apps_after_change() returns trigger
language plpgsql set search_path = '' as $$
begin
  perform pg_notify('rowhouse_definitions', coalesce(new.id, old.id)::text);
  return null;
end
$$;
comment on function tenancy.apps_after_change() is 'Tells gateways that an app''s definition changed.';

create or replace trigger apps_after_change after update of definition_version or delete on tenancy.apps
for each row execute function tenancy.apps_after_change();

create or replace function tenancy.remove_app(app_id uuid) returns void
language plpgsql set search_path = '' as $$
declare
  _app tenancy.apps;
begin
  perform access.lock_model(a.site_id) from tenancy.apps a where a.id = remove_app.app_id;
  select a.* into _app from tenancy.apps a where a.id = remove_app.app_id for update;
  delete from data.relations r using data.entities e where e.id = r.entity_id and e.app_id = _app.id;
  delete from data.links l using data.entities e where e.id = l.entity_id and e.app_id = _app.id;
  delete from tenancy.apps a where a.id = _app.id;
  perform access.rebuild_held_roles(_app.site_id); -- without what was inherited through roles of the app
  perform access.compile_entities(access.end_lost_permissions(_app.site_id));
  execute format('drop schema %I cascade', _app.schema_name);
end
$$;
comment on function tenancy.remove_app(uuid) is 'Removes an app, its schema and its records. Internal: callers check rights and confirmation.';

create or replace function tenancy.drop_app(app text, confirm text) returns void
language plpgsql security definer set search_path = '' as $$
declare
  _app tenancy.apps := tenancy.require_app(drop_app.app, array['owner']);
begin
  perform tenancy.require_confirmation(drop_app.app, drop_app.confirm);
  perform tenancy.remove_app(_app.id);
end
$$;
comment on function tenancy.drop_app(text, text) is
  'Drops an app and every record in it; confirm must repeat site/app. Site owners only. RH400, RH403, RH404.';
