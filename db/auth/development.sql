create or replace function auth.open_development_session(email text, site text, hours int default 12) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  _account uuid := auth.require_account(open_development_session.email);
  _site uuid;
  _session uuid;
begin
  if not auth.is_operator() then
    perform rowhouse.fail(403, 'Only the operator may open a session for somebody', 'Log in instead.', 'forbidden');
  end if;
  if open_development_session.site is not null then
    select m.site_id into _site from tenancy.site_members m
    where m.account_id = _account and m.site_id = (tenancy.resolve(open_development_session.site, null)).site_id;
    if _site is null then
      perform rowhouse.fail(404, format('%s is not a member of a site %L', left(open_development_session.email, 254),
        left(open_development_session.site, 80)), 'Add them: select tenancy.add_member(site, email, role).', 'not_found');
    end if;
  end if;
  insert into auth.sessions (account_id, site_id, expires_at)
  values (_account, _site, now() + make_interval(hours => open_development_session.hours))
  returning id into _session;
  return auth.describe_session(_session, null);
end
$$;
comment on function auth.open_development_session(text, text, int) is
  'Opens a session without refresh token and without password, for rowhouse token. Operators only. RH403, RH404 no such account or member.';
