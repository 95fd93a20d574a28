create or replace function auth.check_credentials(email text, password text) returns void
language plpgsql immutable set search_path = '' as $$
declare
  _errors jsonb := '[]';
begin
  if check_credentials.email is null or length(check_credentials.email) > 254 or lower(check_credentials.email) !~
    '^[a-z0-9.!#$%&''*+/=?^_`{|}~-]{1,64}@[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$'
  then
    _errors := _errors || '{"pointer": "/email", "message": "must be an email address of at most 254 characters"}'::jsonb;
  end if;
  if check_credentials.password is null or length(check_credentials.password) < 8
    or octet_length(check_credentials.password) > 72
  then
    _errors := _errors || '{"pointer": "/password", "message": "must have at least 8 characters and at most 72 bytes"}'::jsonb;
  end if;
  if _errors <> '[]' then
    perform rowhouse.fail(400, 'An account cannot be made of this email and password', 'errors lists what to change.',
      'invalid_credentials', _errors);
  end if;
end
$$;
comment on function auth.check_credentials(text, text) is
  'Raises RH400, listing every problem, unless email is an address and password has 8 characters to 72 bytes (bcrypt reads no more).';

create or replace function auth.problem(status int, message text, hint text, code text, retry_after int default null)
returns jsonb
language sql immutable set search_path = '' as $$
  select jsonb_strip_nulls(jsonb_build_object('problem', jsonb_build_object('status', problem.status,
    'message', problem.message, 'hint', problem.hint, 'code', problem.code, 'retry_after', problem.retry_after)))
$$;
comment on function auth.problem(int, text, text, text, int) is
  'An error as a result, for functions that must commit what they noted (a failed attempt, the end of a session) and not raise.';

-- The attempt is counted before the password is looked at: the row lock lets one guess per email run at a
-- time, so guesses in parallel cannot pass the limit. bcrypt of cost 10 takes about 60 ms, known email or not.
create or replace function auth.match_password(email text, password text, out account_id uuid, out problem jsonb)
language plpgsql set search_path = '' as $$
declare
  _limit constant int := 10;
  _window constant interval := '15 minutes';
  _nobody constant text := '$2a$10$abcdefghijklmnopqrstuuE9Ymd3rZ1wF8YxVd0yHhKxJcQZp8W1W';
  _key bytea := sha256(convert_to(lower(coalesce(match_password.email, '')), 'UTF8'));
  _attempts auth.failed_logins;
  _account auth.accounts;
begin
  insert into auth.failed_logins as f (email_hash, attempts, window_ends_at) values (_key, 1, now() + _window)
  on conflict (email_hash) do update set
    attempts = case when f.window_ends_at <= now() then 1 else least(f.attempts, _limit) + 1 end,
    window_ends_at = case when f.window_ends_at <= now() then excluded.window_ends_at else f.window_ends_at end
  returning f.* into _attempts;
  if _attempts.attempts > _limit then
    match_password.problem := auth.problem(429, 'Too many failed attempts for this email', 'Wait, then try again.',
      'too_many_attempts', ceil(extract(epoch from _attempts.window_ends_at - now()))::int);
    return;
  end if;
  select a.* into _account from auth.accounts a
  where a.email = lower(match_password.email) and a.deleted_at is null;
  if extensions.crypt(left(coalesce(match_password.password, ''), 72), coalesce(_account.password_hash, _nobody))
    = _account.password_hash and octet_length(match_password.password) <= 72
  then
    delete from auth.failed_logins f where f.email_hash = _key;
    match_password.account_id := _account.id;
  else
    match_password.problem := auth.problem(401, 'Email or password is wrong', 'Check both, or sign up.', 'wrong_credentials');
  end if;
end
$$;
comment on function auth.match_password(text, text) is
  'The account with this email and password, or the problem: 401, the same for an unknown email and a wrong password; 429 after 10 failures of an email within 15 minutes. Internal.';
