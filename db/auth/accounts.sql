create or replace function auth.require_account(email text) returns uuid
language plpgsql stable set search_path = '' as $$
declare
  _id uuid;
begin
  select id into _id from auth.accounts a where a.email = lower(require_account.email) and a.deleted_at is null;
  if _id is null then
    perform rowhouse.fail(404, format('There is no account with the email %L', left(require_account.email, 254)),
      'Let that person sign up first: POST /api/v1/auth/signup.', 'not_found');
  end if;
  return _id;
end
$$;
comment on function auth.require_account(text) is 'The id of the account with this email. RH404 when there is none.';
