create or replace function tenancy.resolve(site text, app text, out site_id uuid, out app_id uuid)
language plpgsql stable security definer set search_path = '' as $$
declare
  _uuid constant text := '^[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}$';
begin
  if resolve.app ~ _uuid then
    select a.id, a.site_id into resolve.app_id, resolve.site_id from tenancy.apps a where a.id = resolve.app::uuid;
  end if;
  if resolve.site ~ _uuid then
    select s.id into resolve.site_id from tenancy.sites s
    where s.id = resolve.site::uuid and (resolve.app_id is null or s.id = resolve.site_id);
  elsif resolve.site is not null then
    select s.id into resolve.site_id from tenancy.sites s
    where s.name = resolve.site and (resolve.app_id is null or s.id = resolve.site_id);
  end if;
  if resolve.site_id is null then
    resolve.app_id := null;
  elsif resolve.app_id is null and resolve.app is not null then
    select a.id into resolve.app_id from tenancy.apps a where a.site_id = resolve.site_id and a.name = resolve.app;
  end if;
end
$$;
comment on function tenancy.resolve(text, text) is
  'The ids of a site and an app, each given by name or UUID; nulls for what does not exist or does not belong together. For the gateway.';

create or replace function tenancy.refuse_request() returns text
language plpgsql set search_path = '' as $$
begin
  raise exception 'The app cannot be opened as it was before' using errcode = 'RH001';
end
$$;
comment on function tenancy.refuse_request() is
  'Raises RH001: what the gateway remembers of an app or a session is no longer so; tenancy.open_request says what is. For the gateway.';

drop function if exists tenancy.open_request(uuid, uuid, text, text, bigint, uuid);
create or replace function tenancy.open_request(
  session uuid, account uuid, site text, app text,
  out site_id uuid, out site_name text, out role_name text, out app_id uuid, out app_name text,
  out schema_name text, out definition_version bigint
)
language plpgsql stable security definer set search_path = '' as $$
declare
  _ids record := tenancy.resolve(open_request.site, open_request.app);
begin
  select r.site_id, r.site_name, r.role_name, r.app_id, r.app_name, r.schema_name, r.definition_version
  into site_id, site_name, role_name, app_id, app_name, schema_name, definition_version
  from tenancy.open_requests r
  where r.session_id = open_request.session and r.account_id = open_request.account
    and r.site_id = _ids.site_id and r.app_id = _ids.app_id;
  if found then
    return;
  elsif open_request.account is null or not auth.session_is_live(open_request.session) then
    perform rowhouse.fail(401, 'This session has ended', 'Log in again: POST /api/v1/auth/login.', 'session_ended');
  end if;
  perform rowhouse.fail(404, 'There is no such app that you may see',
    'Check site and app in the address, and that your token was issued for this site.', 'not_found');
end
$$;
comment on function tenancy.open_request(uuid, uuid, text, text) is
  'Checks that a session is live and its account a member of the site, and returns what a request needs. Site and app by name or UUID. RH401 session ended; RH404 no such app, or not for this account or session. For the gateway.';

create or replace function tenancy.open_control(session uuid) returns text
language plpgsql stable security definer set search_path = '' as $$
begin
  if not auth.session_is_live(open_control.session) then
    perform rowhouse.fail(401, 'This session has ended', 'Log in again: POST /api/v1/auth/login.', 'session_ended');
  end if;
  return 'rowhouse_account';
end
$$;
comment on function tenancy.open_control(uuid) is
  'Checks that a session is live and returns the role in which accounts use the control plane. RH401 session ended. For the gateway.';

create or replace function tenancy.cors_origins(site text, app text) returns text[]
language sql stable security definer set search_path = '' as $$
  select array(select jsonb_array_elements_text(coalesce(a.settings #> '{cors,origins}', '[]')))
  from tenancy.resolve(cors_origins.site, cors_origins.app) r
  join tenancy.apps a on a.id = r.app_id
$$;
comment on function tenancy.cors_origins(text, text) is 'Origins from which browsers may call an app; null for an unknown app. For the gateway.';
