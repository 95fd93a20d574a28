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
begin
  if open_request.account is null or not auth.session_is_live(open_request.session) then
    perform rowhouse.fail(401, 'This session has ended', 'Log in again: POST /api/v1/auth/login.', 'session_ended');
  end if;
  if open_request.site ~ '^[a-z]' and length(open_request.site) <= 28 and length(open_request.app) <= 28 then
    select s.id, s.name, s.role_name, a.id, a.name, a.schema_name, a.definition_version, a.settings
    into open_request.site_id, open_request.site_name, open_request.role_name, open_request.app_id,
      open_request.app_name, open_request.schema_name, open_request.definition_version, open_request.settings
    from tenancy.sites s
    join tenancy.apps a on a.site_id = s.id and a.name = open_request.app
    join tenancy.site_members m on m.site_id = s.id and m.account_id = open_request.account
    where s.name = open_request.site;
  else
    select s.id, s.name, s.role_name, a.id, a.name, a.schema_name, a.definition_version, a.settings
    into open_request.site_id, open_request.site_name, open_request.role_name, open_request.app_id,
      open_request.app_name, open_request.schema_name, open_request.definition_version, open_request.settings
    from tenancy.resolve(open_request.site, open_request.app) r
    join tenancy.sites s on s.id = r.site_id
    join tenancy.apps a on a.id = r.app_id
    join tenancy.site_members m on m.site_id = s.id and m.account_id = open_request.account;
  end if;
  if open_request.site_id is null or open_request.token_site <> open_request.site_id then
    perform rowhouse.fail(404, 'There is no such app that you may see',
      'Check site and app in the address, and that your token was issued for this site.', 'not_found');
  end if;
  if open_request.version <> open_request.definition_version then
    raise exception 'The definition of this app changed' using errcode = 'RH001';
  end if;
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
