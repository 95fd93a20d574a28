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

drop function if exists tenancy.open_request(uuid, uuid, text, text, bigint, uuid);
create function tenancy.open_request(
  session uuid, account uuid, site text, app text, version bigint default null, token_site uuid default null,
  out site_id uuid, out site_name text, out role_name text, out app_id uuid, out app_name text,
  out schema_name text, out definition_version bigint, out settings jsonb
)
language plpgsql stable security definer set search_path = '' as $$
declare
  _r record;
begin
  -- One query for the usual case: every request passes here, and each further statement costs it about 10 µs.
  if open_request.site ~ '^[a-z]' and length(open_request.site) <= 28 and length(open_request.app) <= 28 then
    select s.id as site_id, s.name as site_name, s.role_name, a.id as app_id, a.name as app_name, a.schema_name,
      a.definition_version, a.settings
    into _r
    from auth.sessions e, tenancy.sites s, tenancy.apps a, tenancy.site_members m
    where e.id = open_request.session and e.account_id = open_request.account and e.ended_at is null and e.expires_at > now()
      and s.name = open_request.site and a.site_id = s.id and a.name = open_request.app
      and m.site_id = s.id and m.account_id = open_request.account;
  else
    select s.id as site_id, s.name as site_name, s.role_name, a.id as app_id, a.name as app_name, a.schema_name,
      a.definition_version, a.settings
    into _r
    from tenancy.resolve(open_request.site, open_request.app) r
    join tenancy.sites s on s.id = r.site_id
    join tenancy.apps a on a.id = r.app_id
    join tenancy.site_members m on m.site_id = s.id and m.account_id = open_request.account
    where auth.session_is_live(open_request.session);
  end if;
  if not found or open_request.token_site <> _r.site_id then
    if open_request.account is null or not auth.session_is_live(open_request.session) then
      perform rowhouse.fail(401, 'This session has ended', 'Log in again: POST /api/v1/auth/login.', 'session_ended');
    end if;
    perform rowhouse.fail(404, 'There is no such app that you may see',
      'Check site and app in the address, and that your token was issued for this site.', 'not_found');
  end if;
  if open_request.version <> _r.definition_version then
    raise exception 'The definition of this app changed' using errcode = 'RH001';
  end if;
  site_id := _r.site_id;
  site_name := _r.site_name;
  role_name := _r.role_name;
  app_id := _r.app_id;
  app_name := _r.app_name;
  schema_name := _r.schema_name;
  definition_version := _r.definition_version;
  settings := _r.settings;
end
$$;
comment on function tenancy.open_request(uuid, uuid, text, text, bigint, uuid) is
  'Checks that a session is live and its account a member of the site, and returns what a request needs. RH401 session ended; RH404 no such app, or not for this account or token; RH001 the app''s definition is no longer the expected version. For the gateway.';

create or replace function tenancy.cors_origins(site text, app text) returns text[]
language sql stable security definer set search_path = '' as $$
  select array(select jsonb_array_elements_text(coalesce(a.settings #> '{cors,origins}', '[]')))
  from tenancy.resolve(cors_origins.site, cors_origins.app) r
  join tenancy.apps a on a.id = r.app_id
$$;
comment on function tenancy.cors_origins(text, text) is 'Origins from which browsers may call an app; null for an unknown app. For the gateway.';
