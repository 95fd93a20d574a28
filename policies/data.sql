grant usage on schema data to rowhouse_account, rowhouse_data;
revoke all on all functions in schema data from public;
grant execute on all functions in schema data to rowhouse_data;
grant execute on function data.define_entity(text, text, jsonb), data.drop_entity(text, text), data.require_entity(text) to rowhouse_account;
grant select on data.entities, data.fields, data.relations to rowhouse_account;

do $$
declare
  _table text;
begin
  foreach _table in array array['entities', 'fields', 'relations'] loop
    execute format('alter table data.%I enable row level security, force row level security', _table);
    execute format('drop policy if exists owner_all on data.%I', _table);
    execute format('create policy owner_all on data.%I to rowhouse_owner using (true) with check (true)', _table);
    execute format('drop policy if exists member_read on data.%I', _table);
    execute format('create policy member_read on data.%I for select to rowhouse_account
      using (site_id = any ((select tenancy.my_site_ids())::uuid[]))', _table);
  end loop;
end
$$;
