create or replace function auth.account_id() returns uuid
language sql stable parallel safe as $$
  select nullif(current_setting('rowhouse.account', true), '')::uuid
$$;
comment on function auth.account_id() is 'The account of this transaction''s claims, or null.';

-- session_user cannot be changed by SET ROLE, and a role set on top of it gives the operator''s powers up.
create or replace function auth.is_operator() returns boolean
language sql stable parallel safe set search_path = '' as $$
  select auth.account_id() is null
    and current_setting('role') in ('none', 'rowhouse_owner')
    and pg_has_role(session_user, 'rowhouse_owner', 'usage')
$$;
comment on function auth.is_operator() is
  'True for the database''s operator (superuser or owner of the installation) who has not entered a site as an account.';
