grant execute on function access.remember_roles(uuid, uuid) to rowhouse_gateway;
grant execute on function access.change_count(uuid, uuid), access.plain_rights(uuid, uuid[]), access.kept_attributes(uuid, uuid) to rowhouse_gateway;
grant select on access.known_roles, access.counted_changes to rowhouse_gateway;

do $$
declare
  _table text;
begin
  foreach _table in array array['role_changes', 'remembered_roles'] loop
    execute format('alter table access.%I enable row level security, force row level security', _table);
    execute format('drop policy if exists owner_all on access.%I', _table);
    execute format('create policy owner_all on access.%I to rowhouse_owner using (true) with check (true)', _table);
  end loop;
end
$$;
