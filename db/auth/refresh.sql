-- Exactly one use of a token wins: the second waits for the row, then finds it used. Re-use means that two
-- parties hold the token and nobody knows which is the thief, so the whole family ends. Nothing here raises,
-- for that end must be committed.
create or replace function auth.refresh(token uuid) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  _ended constant jsonb := auth.problem(401, 'This session has ended', 'Log in again: POST /api/v1/auth/login.', 'session_ended');
  _session auth.sessions;
  _token auth.refresh_tokens;
begin
  update auth.refresh_tokens t set used_at = now()
  where t.id = refresh.token and t.used_at is null and t.expires_at > now()
  returning t.* into _token;
  if _token.id is null then
    perform auth.end_session(t.session_id, 'reuse') from auth.refresh_tokens t
    where t.id = refresh.token and t.used_at is not null;
    return _ended;
  end if;
  update auth.sessions s set expires_at = now() + auth.refresh_lifetime()
  where s.id = _token.session_id and s.ended_at is null and s.expires_at > now()
  returning s.* into _session;
  if _session.id is null then
    return _ended;
  end if;
  if _session.site_id is not null and not exists (
    select from tenancy.site_members m where m.site_id = _session.site_id and m.account_id = _session.account_id)
  then
    perform auth.end_session(_session.id, 'membership_ended');
    return _ended;
  end if;
  return auth.describe_session(_session.id, auth.issue_refresh_token(_session.id));
end
$$;
comment on function auth.refresh(uuid) is
  'Changes a refresh token (its jti), good for one use, for the next: {"session": …} with the roles of today, or {"problem": …} 401. Using a token twice ends its session. For the gateway.';
