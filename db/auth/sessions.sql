create or replace function auth.refresh_lifetime() returns interval
language sql immutable parallel safe set search_path = '' as $$ select interval '7 days' $$;
comment on function auth.refresh_lifetime() is 'How long a refresh token may wait for its use; each use begins it anew.';

create or replace function auth.session_is_live(session uuid) returns boolean
language sql stable security definer set search_path = '' as $$
  select exists (
    select from auth.sessions s
    where s.id = session_is_live.session and s.ended_at is null and s.expires_at > now())
$$;
comment on function auth.session_is_live(uuid) is
  'Whether a session is neither ended nor expired; false for null. Asked once per request, so that a logout ends access tokens too.';

create or replace function auth.describe_session(session uuid, refresh_token uuid) returns jsonb
language sql stable set search_path = '' as $$
  select jsonb_build_object('session', jsonb_build_object(
    'id', s.id, 'account_id', a.id, 'email', a.email, 'site_id', s.site_id,
    'roles', (
      select coalesce(jsonb_agg(distinct r.name), '[]')
      from access.assignments g join access.roles r on r.id = g.role_id
      where g.account_id = a.id and g.site_id = s.site_id),
    'refresh_token', describe_session.refresh_token,
    'expires_in', extract(epoch from s.expires_at - now())::int))
  from auth.sessions s join auth.accounts a on a.id = s.account_id
  where s.id = describe_session.session
$$;
comment on function auth.describe_session(uuid, uuid) is
  'What the gateway signs into tokens: {"session": {id, account_id, email, site_id, roles, refresh_token, expires_in in seconds}}. Internal.';

create or replace function auth.issue_refresh_token(session uuid) returns uuid
language sql set search_path = '' as $$
  insert into auth.refresh_tokens (session_id, expires_at)
  values (issue_refresh_token.session, now() + auth.refresh_lifetime())
  returning id
$$;
comment on function auth.issue_refresh_token(uuid) is 'The id (jti) of a new refresh token of a session. Internal: callers extend the session.';

-- for share: an account that is deleted at this moment gets no session that its deletion did not see.
create or replace function auth.open_session(account uuid, site uuid) returns jsonb
language plpgsql set search_path = '' as $$
declare
  _session uuid;
begin
  perform from auth.accounts a where a.id = open_session.account and a.deleted_at is null for share;
  if not found then
    return auth.problem(401, 'Email or password is wrong', 'Check both, or sign up.', 'wrong_credentials');
  end if;
  insert into auth.sessions (account_id, site_id, expires_at)
  values (open_session.account, open_session.site, now() + auth.refresh_lifetime())
  returning id into _session;
  return auth.describe_session(_session, auth.issue_refresh_token(_session));
end
$$;
comment on function auth.open_session(uuid, uuid) is 'Opens a session with its first refresh token and describes it. Internal: callers know who it is.';

create or replace function auth.end_session(session uuid, reason text) returns void
language sql set search_path = '' as $$
  update auth.sessions s set ended_at = now(), end_reason = end_session.reason
  where s.id = end_session.session and s.ended_at is null
$$;
comment on function auth.end_session(uuid, text) is 'Ends a session with all its tokens; nothing happens when it has ended already. Internal.';

create or replace function auth.log_out(session uuid) returns void
language sql security definer set search_path = '' as $$ select auth.end_session(log_out.session, 'logout') $$;
comment on function auth.log_out(uuid) is
  'Ends a session: its refresh token at once, its access tokens from their next request on. For the gateway.';

create or replace function auth.accounts_after_deletion() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  update auth.sessions s set ended_at = now(), end_reason = 'account_deleted'
  where s.account_id = new.id and s.ended_at is null;
  return null;
end
$$;
comment on function auth.accounts_after_deletion() is 'Ends every session of an account that was marked as deleted.';

create or replace trigger accounts_after_deletion after update of deleted_at on auth.accounts
for each row when (new.deleted_at is not null) execute function auth.accounts_after_deletion();

create or replace function auth.delete_expired() returns bigint
language plpgsql security definer set search_path = '' as $$
declare
  _sessions bigint;
begin
  delete from auth.sessions s where s.expires_at < now() or s.ended_at < now() - auth.refresh_lifetime();
  get diagnostics _sessions = row_count;
  delete from auth.refresh_tokens t where t.expires_at < now();
  delete from auth.failed_logins f where f.window_ends_at < now();
  return _sessions;
end
$$;
comment on function auth.delete_expired() is
  'Deletes sessions, refresh tokens and counts of failed logins that have no effect any more; the number of sessions. For the worker.';
