grant usage on schema access to rowhouse_account, rowhouse_data, rowhouse_gateway;
revoke all on all functions in schema access from public;
-- What row-level security and the generated functions call, as whoever reads or writes.
grant execute on function access.allows(uuid, text, text), access.require(uuid, text, text), access.rights_key(uuid, text[], text),
  access.any_special(uuid, text[]),
  access.require_bits(bigint, bigint[], text, text), access.refuse_row(text, text), access.refuse_unseen(text, text),
  access.refuse_record(text, text, uuid), access.check_guesses(uuid, jsonb),
  access.deny(text, text, uuid, text, text), access.denial(text, text, uuid), access.refuse(text, text), access.require_right(uuid, text),
  access.account(), access.env(), access.my_public_entities()
to rowhouse_data, rowhouse_account;
grant usage on schema access to rowhouse_worker;
grant execute on function access.end_delegations(uuid), access.forget_guesses() to rowhouse_worker;
grant execute on function access.roles_of(uuid, uuid), access.is_public(uuid, uuid), access.graphql_shares(uuid),
  access.maskable_entities(uuid)
to rowhouse_gateway;
grant execute on function access.maskable_fields(uuid) to rowhouse_account;
grant select on access.open_public_requests to rowhouse_gateway;
grant execute on function
  access.create_role(text, text, text[]), access.define_role(text, jsonb, boolean), access.drop_role(text, text, boolean),
  access.grant_permission(text, text, text, jsonb, jsonb, boolean), access.revoke_permission(text, text, text, boolean),
  access.assign_role(text, text, text, timestamptz, timestamptz, jsonb), access.revoke_role(text, text, text),
  access.create_group(text, text, text), access.drop_group(text, text), access.add_to_group(text, text, text),
  access.remove_from_group(text, text, text),
  access.assign_role_to_group(text, text, text, timestamptz, timestamptz, jsonb), access.revoke_role_from_group(text, text, text),
  access.delegate(text, text, text, timestamptz, text[]), access.revoke_delegation(uuid),
  access.define_policy(text, jsonb, boolean), access.drop_policy(text, text, text, boolean),
  access.effective(text), access.allows(text, text, uuid), access.allows(text, text, text), access.allows_each(text, jsonb, text, text),
  access.explain(text, text, text, uuid), access.who_can(text, text, uuid, int, text), access.what_can(text, text),
  access.list_roles(text), access.get_role(text, text), access.put_role(text, text, jsonb), access.list_policies(text, text),
  access.get_policy(text, text),
  access.put_policy(text, text, jsonb), access.delete_policy(text, text), access.list_assignments(text, text), access.list_groups(text),
  access.refuse_members(jsonb, text[]), access.member(text, jsonb), access.my_control_site_ids(text), access.my_definer_entity_ids(),
  access.share(text, text, text, jsonb, text[], timestamptz, text, jsonb), access.revoke_share(text, text, text), access.list_shares(text),
  access.get_share(text, text, text), access.put_share(text, text, text, jsonb), access.accept_share(text, text),
  access.decline_share(text, text),
  access.open_share(uuid), access.open_share_search(uuid), access.require_share(uuid), access.shared_query(text, text, jsonb, text[]),
  access.export_share(text, text, text, jsonb, text[], boolean), access.compile_share(text, text, text, jsonb), access.my_shares(text),
  access.openapi_shares(uuid), access.note_guess(text, text, text), access.unseen_key_names(uuid), access.refuse_telling(uuid, text[]),
  access.list_guesses(text), access.forgive_guesses(text, text)
to rowhouse_account;
grant select on access.roles, access.role_parents, access.permissions, access.assignments, access.groups, access.group_members,
  access.policies, access.versions
to rowhouse_account;

do $$
declare
  _table text;
begin
  foreach _table in array array['roles', 'role_parents', 'held_roles', 'permissions', 'assignments', 'groups', 'group_members', 'policies',
    'versions', 'rules', 'rule_sources', 'mask_keys', 'shares'] loop
    execute format('alter table access.%I enable row level security, force row level security', _table);
    execute format('drop policy if exists owner_all on access.%I', _table);
    execute format('create policy owner_all on access.%I to rowhouse_owner using (true) with check (true)', _table);
    execute format('drop policy if exists member_read on access.%I', _table);
    execute format('create policy member_read on access.%I for select to rowhouse_account
      using (site_id = any ((select %s)::uuid[]))', _table,
      -- Conditions tell what a site protects, and from whom.
      case when _table in ('policies', 'versions', 'rules', 'rule_sources', 'mask_keys', 'shares')
        then 'access.my_control_site_ids(''@policies:define'')' else 'tenancy.my_site_ids()' end);
  end loop;
end
$$;
-- What a role may do is no secret, under which condition on records is.
alter policy member_read on access.permissions using (
  site_id = any ((select tenancy.my_site_ids())::uuid[]) and (condition is null and fields is null
    or site_id = any ((select access.my_control_site_ids('@roles:define'))::uuid[])
    or site_id = any ((select access.my_control_site_ids('@policies:define'))::uuid[])));
-- What conditions were compiled into: for nobody but the owner.
alter table access.installed enable row level security, force row level security;
drop policy if exists owner_all on access.installed;
create policy owner_all on access.installed to rowhouse_owner using (true) with check (true);
-- Who guessed is told by access.list_guesses.
alter table access.guesses enable row level security, force row level security;
drop policy if exists owner_all on access.guesses;
create policy owner_all on access.guesses to rowhouse_owner using (true) with check (true);

-- Who holds what is for those who assign it: REST refuses it to others, and so do GraphQL and psql, but for what is one's own.
drop policy if exists member_read on access.assignments;
create policy member_read on access.assignments for select to rowhouse_account
using (site_id = any ((select access.my_assigner_site_ids())::uuid[])
  or site_id = any ((select tenancy.my_site_ids())::uuid[])
    and ((select auth.account_id()) in (account_id, delegator_id) or group_id = any ((select access.my_group_ids())::uuid[])));
drop policy if exists member_read on access.groups;
create policy member_read on access.groups for select to rowhouse_account
using (site_id = any ((select access.my_assigner_site_ids())::uuid[]) or id = any ((select access.my_group_ids())::uuid[]));
drop policy if exists member_read on access.group_members;
create policy member_read on access.group_members for select to rowhouse_account
using (site_id = any ((select access.my_assigner_site_ids())::uuid[])
  or account_id = (select auth.account_id()) and group_id = any ((select access.my_group_ids())::uuid[]));
grant execute on function access.my_assigner_site_ids(), access.my_group_ids() to rowhouse_account;

-- Masks and field rules stand in views, which call them as their reader; the key of the mask hash only the views' owner reads.
grant execute on function access.mask_redact(text), access.mask_hash(text, bytea), access.mask_last_four(text), access.mask_email(text),
  access.mask_year(text),
  access.mask_year(date), access.mask_year(timestamptz), access.mask_template(text, text),
  access.require_seen(uuid, text[]), access.plan_seen(uuid, text[]), access.sees_all(uuid), access.sees_view(text), access.sees_whole(uuid, boolean),
  access.seen_condition(uuid, jsonb, text), access.source_field(data.entities, jsonb), access.seen_view(data.entities, text, text),
  access.unseen(uuid), access.named(jsonb), access.own_names(text[], jsonb),
  access.checked_change(text, jsonb, jsonb, text[], text[], text[], jsonb),
  access.check_joint(text, jsonb, jsonb, jsonb, text[], text[]), access.is_same(text, jsonb, jsonb),
  access.refuse_names(text[]), access.told_errors(jsonb, text[]),
  access.refuse_fields(text, text[], text), access.is_mask(text), access.detect_pii(text)
to rowhouse_data, rowhouse_account;
grant select on access.mask_keys to rowhouse_data;
drop policy if exists data_read on access.mask_keys;
create policy data_read on access.mask_keys for select to rowhouse_data using (site_id = (select tenancy.site_id())
  or (select auth.is_operator()));

-- Those made before there were barriers, and before their sorts had views.
select access.build_share(s) from access.shares s where s.accepted_at is not null order by s.id;
select access.renew_views();
select access.renew_write_rules();
select access.renew_guess_checks();
