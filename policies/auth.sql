grant usage on schema auth to rowhouse_account, rowhouse_data, rowhouse_gateway;
revoke all on all functions in schema auth from public;
grant execute on function auth.account_id(), auth.is_operator() to rowhouse_account, rowhouse_data, rowhouse_gateway;

alter table auth.accounts enable row level security, force row level security;
drop policy if exists owner_all on auth.accounts;
create policy owner_all on auth.accounts to rowhouse_owner using (true) with check (true);
-- A person sees their own account and the people of their sites, without the password's hash.
grant select (id, email, kind, attributes, created_at) on auth.accounts to rowhouse_account;
drop policy if exists self_and_fellows_read on auth.accounts;
create policy self_and_fellows_read on auth.accounts for select to rowhouse_account
using (id = (select auth.account_id()) or id = any ((select tenancy.my_fellow_ids())::uuid[]));
