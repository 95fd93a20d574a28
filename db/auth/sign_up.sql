-- A site's own decision: settings {"signup": {"allowed": true, "role": "viewer"}}.
create or replace function auth.require_signup(site text, out site_id uuid, out role text)
language plpgsql stable set search_path = '' as $$
declare
  _signup jsonb;
begin
  select s.id, s.settings -> 'signup' into require_signup.site_id, _signup
  from tenancy.sites s where s.id = (tenancy.resolve(require_signup.site, null)).site_id;
  require_signup.role := coalesce(_signup ->> 'role', 'viewer');
  if require_signup.site_id is null then
    perform rowhouse.fail(404, format('There is no site %L', left(require_signup.site, 80)), 'Check the name.', 'not_found');
  elsif not coalesce((_signup -> 'allowed')::boolean, false) then
    perform rowhouse.fail(403, 'People may not sign themselves up at this site', 'Ask a member of the site to add you.',
      'signup_not_allowed');
  elsif not exists (
    select from access.roles r
    where r.site_id = require_signup.site_id and r.name = require_signup.role and r.app_id is null)
  then
    perform rowhouse.fail(403, 'Signing up at this site does not work: the role it would give is gone',
      'Ask an admin of the site to set another role in settings.signup.role.', 'signup_not_allowed');
  end if;
end
$$;
comment on function auth.require_signup(text) is
  'The site and the role that people who sign themselves up get there. RH404 unknown site, RH403 the site does not allow it. Internal.';

create or replace function auth.sign_up(email text, password text, site text default null) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  _site uuid;
  _role text;
  _account uuid;
  _match record;
begin
  perform auth.check_credentials(sign_up.email, sign_up.password);
  if sign_up.site is not null then
    select r.site_id, r.role into _site, _role from auth.require_signup(sign_up.site) r;
  end if;
  if not exists (select from auth.accounts a where a.email = lower(sign_up.email)) then
    insert into auth.accounts (email, password_hash)
    values (lower(sign_up.email), extensions.crypt(sign_up.password, extensions.gen_salt('bf', 10)))
    on conflict do nothing
    returning id into _account;
  end if;
  if _account is null and _site is not null then
    -- Who has an account elsewhere joins the site with its password, counted as a login is.
    _match := auth.match_password(sign_up.email, sign_up.password);
    if _match.problem #>> '{problem,status}' = '429' then
      return _match.problem;
    end if;
    _account := _match.account_id;
  end if;
  if _account is null then
    return auth.problem(409, 'There is an account with this email already', 'Log in: POST /api/v1/auth/login.', 'email_taken');
  end if;
  if _site is not null and not exists (
    select from tenancy.site_members m where m.site_id = _site and m.account_id = _account)
  then
    insert into tenancy.site_members (site_id, account_id) values (_site, _account) on conflict do nothing;
    perform access.assign(_site, _account, _role);
  end if;
  return auth.open_session(_account, _site);
end
$$;
comment on function auth.sign_up(text, text, text) is
  'Makes an account, a member of a site (name or UUID) that allows it, and opens a session: {"session": …}, or {"problem": …}: 409 email taken, 429 too many failures. An existing account joins the site with its own password. Raises RH400 listing what is wrong, RH403 the site does not allow it, RH404 unknown site. For the gateway.';
