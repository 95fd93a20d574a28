grant usage on schema access to rowhouse_account, rowhouse_data;
revoke all on all functions in schema access from public;
grant execute on function access.allows(uuid, text, text), access.require(uuid, text, text), access.rights_key(uuid, text[], text) to rowhouse_data, rowhouse_account;
grant execute on function access.assign_role(text, text, text), access.revoke_role(text, text, text),
  access.create_role(text, text, text[]) to rowhouse_account;
grant select on access.roles, access.permissions, access.assignments to rowhouse_account;

do $$
declare
  _table text;
begin
  foreach _table in array array['roles', 'permissions', 'assignments'] loop
    execute format('alter table access.%I enable row level security, force row level security', _table);
    execute format('drop policy if exists owner_all on access.%I', _table);
    execute format('create policy owner_all on access.%I to rowhouse_owner using (true) with check (true)', _table);
    execute format('drop policy if exists member_read on access.%I', _table);
    execute format('create policy member_read on access.%I for select to rowhouse_account
      using (site_id = any ((select tenancy.my_site_ids())::uuid[]))', _table);
  end loop;
end
$$;
