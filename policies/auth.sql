grant usage on schema auth to rowhouse_account, rowhouse_data, rowhouse_gateway;
revoke all on all functions in schema auth from public;
grant execute on function auth.account_id(), auth.is_operator() to rowhouse_account, rowhouse_data, rowhouse_gateway;

alter table auth.accounts enable row level security, force row level security;
drop policy if exists owner_all on auth.accounts;
create policy owner_all on auth.accounts to rowhouse_owner using (true) with check (true);
-- A person sees their own account and the people of their sites, without the password's hash.
revoke all on auth.accounts from rowhouse_account;
grant select (id, email, kind, created_at) on auth.accounts to rowhouse_account;
drop policy if exists self_and_fellows_read on auth.accounts;
create policy self_and_fellows_read on auth.accounts for select to rowhouse_account
using (id = (select auth.account_id()) or id = any ((select tenancy.my_fellow_ids())::uuid[]));

-- Sessions, tokens and keys: nobody reads the tables; the gateway calls these functions.
grant execute on function auth.sign_up(text, text, text), auth.log_in(text, text, text), auth.refresh(uuid),
  auth.log_out(uuid), auth.session_is_live(uuid), auth.delete_expired(), auth.list_signing_keys(),
  auth.offer_signing_key(text, jsonb, bytea)
to rowhouse_gateway;
grant usage on schema auth to rowhouse_worker;
grant execute on function auth.delete_expired() to rowhouse_worker;

do $$
declare
  _table text;
begin
  foreach _table in array array['sessions', 'refresh_tokens', 'failed_logins', 'signing_keys'] loop
    execute format('alter table auth.%I enable row level security, force row level security', _table);
    execute format('drop policy if exists owner_all on auth.%I', _table);
    execute format('create policy owner_all on auth.%I to rowhouse_owner using (true) with check (true)', _table);
  end loop;
end
$$;
