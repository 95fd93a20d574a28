create or replace function auth.log_in(email text, password text, site text default null) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  _match record;
  _site uuid;
begin
  _match := auth.match_password(log_in.email, log_in.password);
  if _match.problem is not null then
    return _match.problem;
  end if;
  if log_in.site is not null then
    select m.site_id into _site from tenancy.site_members m
    where m.account_id = _match.account_id and m.site_id = (tenancy.resolve(log_in.site, null)).site_id;
    if _site is null then
      return auth.problem(404, 'There is no such site that you may see', 'Check the name, or ask a member of the site to add you.',
        'not_found');
    end if;
  end if;
  return auth.open_session(_match.account_id, _site);
end
$$;
comment on function auth.log_in(text, text, text) is
  'Opens a session, for one site (name or UUID) or for all of the account: {"session": …}, or {"problem": {status, message, hint, code}}: 401 email or password is wrong, 404 no site of this account, 429 too many failures. For the gateway.';
