grant execute on function
  access.define_test(text, jsonb), access.drop_test(text, text), access.test(text),
  access.history_of(text, text, text), access.diff(text, text, text, int, int), access.rollback(text, text, text, int, boolean),
  access.simulate(text, jsonb, int, int), access.usage(text), access.export_rules(text),
  access.import_rules(text, jsonb, boolean, boolean, text)
to rowhouse_account;
grant execute on function access.note_used(jsonb) to rowhouse_gateway;
grant execute on function access.uses_of(jsonb) to rowhouse_account;
grant select on access.tests to rowhouse_account;

do $$
declare
  _table text;
begin
  foreach _table in array array['tests', 'used'] loop
    execute format('alter table access.%I enable row level security, force row level security', _table);
    execute format('drop policy if exists owner_all on access.%I', _table);
    execute format('create policy owner_all on access.%I to rowhouse_owner using (true) with check (true)', _table);
    execute format('drop policy if exists member_read on access.%I', _table);
    execute format('create policy member_read on access.%I for select to rowhouse_account
      using (site_id = any ((select tenancy.my_administered_site_ids())::uuid[]))', _table);
  end loop;
end
$$;
