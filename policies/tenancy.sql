grant usage on schema rowhouse, tenancy to rowhouse_account, rowhouse_data, rowhouse_gateway;
revoke all on all functions in schema rowhouse, tenancy from public;
revoke all on all procedures in schema tenancy from public;
grant execute on function rowhouse.fail(int, text, text, text, jsonb) to rowhouse_account, rowhouse_data, rowhouse_gateway;
grant execute on function rowhouse.env() to rowhouse_account, rowhouse_data, rowhouse_gateway;
grant execute on function tenancy.site_id() to rowhouse_account, rowhouse_data, rowhouse_gateway;
grant execute on function
  tenancy.create_organization(text, text), tenancy.add_organization_member(text, text, text),
  tenancy.remove_organization_member(text, text),
  tenancy.drop_organization(text, text),
  tenancy.create_site(text, text, text), tenancy.drop_site(text, text), tenancy.update_site_settings(text, jsonb, jsonb),
  tenancy.add_member(text, text, text), tenancy.set_member_role(text, text, text), tenancy.remove_member(text, text),
  tenancy.create_app(text, text, text), tenancy.drop_app(text, text), tenancy.update_app_settings(text, jsonb),
  tenancy.add_domain(text, text, text)
to rowhouse_account;
grant execute on procedure tenancy.leave() to rowhouse_account;
grant execute on function
  tenancy.open_request(uuid, uuid, text, text), tenancy.refuse_request(), tenancy.resolve(text, text), tenancy.site_of_host(text),
  tenancy.cors_origins(text, text), tenancy.open_control(uuid)
to rowhouse_gateway;

grant select on tenancy.open_requests to rowhouse_gateway;

grant usage on schema tenancy to rowhouse_worker;
grant execute on function tenancy.list_unverified_domains(), tenancy.verify_domain(uuid, text[]) to rowhouse_worker;

grant select on tenancy.organizations, tenancy.organization_members, tenancy.sites, tenancy.site_members, tenancy.apps,
  tenancy.domains to rowhouse_account;

do $$
declare
  _table text;
begin
  foreach _table in array array['organizations', 'organization_members', 'sites', 'site_members', 'apps', 'domains'] loop
    execute format('alter table tenancy.%I enable row level security, force row level security', _table);
    execute format('drop policy if exists owner_all on tenancy.%I', _table);
    execute format('create policy owner_all on tenancy.%I to rowhouse_owner using (true) with check (true)', _table);
    execute format('drop policy if exists member_read on tenancy.%I', _table);
  end loop;
end
$$;

-- Sets of ids, computed once per statement. With a site in the claims only that site is seen.
create policy member_read on tenancy.sites for select to rowhouse_account
using (id = any ((select tenancy.open_site_ids())::uuid[]));
create policy member_read on tenancy.site_members for select to rowhouse_account
using (site_id = any ((select tenancy.my_site_ids())::uuid[]));
create policy member_read on tenancy.apps for select to rowhouse_account
using (site_id = any ((select tenancy.open_site_ids())::uuid[]));
create policy member_read on tenancy.domains for select to rowhouse_account
using (site_id = any ((select tenancy.my_site_ids())::uuid[]));
create policy member_read on tenancy.organizations for select to rowhouse_account
using (id = any ((select tenancy.my_organization_ids())::uuid[]));
create policy member_read on tenancy.organization_members for select to rowhouse_account
using (organization_id = any ((select tenancy.my_organization_ids())::uuid[]));
grant execute on function tenancy.my_site_ids(), tenancy.open_site_ids(), tenancy.refuse_stranger(), tenancy.my_administered_site_ids(),
  tenancy.my_organization_ids(), tenancy.my_fellow_ids() to rowhouse_account;
