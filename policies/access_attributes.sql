grant execute on function access.set_attribute_schema(text, jsonb), access.attribute_schema(text), access.set_attributes(text, text, jsonb),
  access.attributes(text, text),
  access.account(), access.parse_condition(text), access.condition_text(jsonb, int, text)
to rowhouse_account;
-- What predicates of row-level security call.
grant execute on function access.account(), access.account_value(text[]), access.env(), access.value_as(jsonb, text),
  access.values_as(jsonb, text, boolean), access.ip_in(text, text[])
to rowhouse_data, rowhouse_account;
grant select on access.attribute_schemas, access.account_attributes to rowhouse_account;

do $$
declare
  _table text;
begin
  foreach _table in array array['attribute_schemas', 'account_attributes'] loop
    execute format('alter table access.%I enable row level security, force row level security', _table);
    execute format('drop policy if exists owner_all on access.%I', _table);
    execute format('create policy owner_all on access.%I to rowhouse_owner using (true) with check (true)', _table);
    execute format('drop policy if exists member_read on access.%I', _table);
  end loop;
end
$$;
create policy member_read on access.attribute_schemas for select to rowhouse_account
using (site_id = any ((select tenancy.my_site_ids())::uuid[]));
-- An account sees its own attributes, and who administers a site those of its members.
create policy member_read on access.account_attributes for select to rowhouse_account
using (site_id = any ((select tenancy.my_administered_site_ids())::uuid[])
  or account_id = (select auth.account_id()) and site_id = any ((select tenancy.my_site_ids())::uuid[]));
