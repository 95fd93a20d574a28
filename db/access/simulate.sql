-- Who would gain and who would lose by a change of the rules: it is really made, in a subtransaction that is taken back, and
-- nothing is installed, so that nobody's table is locked.

create or replace function access.simulate(site text, change jsonb, accounts int default 100, records int default 100) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  _site tenancy.sites := access.require_control(simulate.site, '@policies:define');
  _subjects jsonb;
  _compared uuid[];
  _before jsonb;
  _after jsonb;
  _failing jsonb;
  _failing_after jsonb;
  _entities uuid[];
begin
  if simulate.accounts is null or simulate.records is null or simulate.accounts not between 1 and 1000
    or simulate.records not between 1 and 1000 then
    perform rowhouse.fail(400, 'accounts and records are from 1 to 1000', null, 'invalid_max');
  elsif jsonb_typeof(simulate.change) is distinct from 'object' or (select count(*) <> 1 from jsonb_object_keys(simulate.change))
    or not simulate.change ?| array['policy', 'role', 'drop_policy', 'drop_role', 'assign', 'revoke']
  then
    perform rowhouse.fail(400, 'A change is one of policy, role, drop_policy, drop_role, assign and revoke',
      '{"policy": {…}}, {"role": {…}}, {"drop_policy": "crm/night"}, {"drop_role": "crm/author"}, {"assign": {"email": "ann@acme.test", "role": "editor"}}, {"revoke": {"email", "role"}}',
      'invalid_change');
  end if;
  perform access.lock_model(_site.id);
  _subjects := access.sampled_accounts(_site.id, simulate.change, simulate.accounts);
  _compared := access.changed_entities(_site.id, simulate.change);
  begin
    _entities := access.make_change(_site.id, simulate.change);
    perform access.save_rules(e) from data.entities e where e.id = any (_entities) order by e.id;
    _compared := array(select e.id from data.entities e
      where e.id = any (_compared || access.changed_entities(_site.id, simulate.change) || _entities) order by e.id limit 20);
    _after := access.standing(_subjects, _compared, simulate.records);
    _failing_after := access.failing_tests(_site.id);
    raise exception 'taken back' using errcode = 'RH002'; -- as data.try_definition does
  exception when sqlstate 'RH002' then
    null;
  end;
  _failing := access.failing_tests(_site.id);
  _before := access.standing(_subjects, _compared, simulate.records);
  return jsonb_build_object('changes', access.standing_diff(_before, _after), 'fields', access.fields_diff(_before, _after),
    'writes', access.writes_diff(_before, _after),
    'breaks', (select coalesce(jsonb_agg(t), '[]') from jsonb_array_elements(_failing_after) t
      where not exists (select from jsonb_array_elements(_failing) f where f->>'test' = t->>'test')),
    'looked_at', jsonb_build_object('accounts', jsonb_array_length(_subjects),
      'of_accounts', 1 + (select count(*) from tenancy.site_members m where m.site_id = _site.id),
      'entities', cardinality(_compared), 'records_of_an_entity', simulate.records));
end
$$;
comment on function access.simulate(text, jsonb, int, int) is
  'What a change of the rules would do, without making it: {"policy": definition}, {"role": definition}, {"drop_policy": "crm/night"}, '
  '{"drop_role": "crm/author"}, {"assign": {"email", "role"}} or {"revoke": {"email", "role"}}. Returns {"changes": [{account (null: not '
  'logged in), entity, action, gained, lost}, how many of the newest records of an entity come and go; for create {before, after}], '
  '"fields": [{account, entity, field, from, to, records}], as what fields are seen otherwise: full, hidden or a mask, from null in '
  'records that were not seen; "writes": [{account, entity, action, field, from, to, records}], which fields may be written otherwise: '
  'allow or deny in records that may be changed (from null where they could not be), allow, depends or deny in new ones; "breaks": tests '
  'that would fail, "looked_at": {accounts, of_accounts, entities, records_of_an_entity}}: at most accounts of the site (whom the change '
  'names first) and records of an entity (1 to 1,000, 100 unless told) of at most 20 entities are compared. Owners, admins and '
  '@policies:define. RH400, RH403, RH404, RH409 as the change itself.';

create or replace function access.change_role(site_id uuid, change jsonb) returns uuid
language sql stable set search_path = '' as $$
  select (access.find_role(change_role.site_id, coalesce(change->>'drop_role', change #>> '{assign,role}', change #>> '{revoke,role}',
    coalesce((change #>> '{role,app}') || '/', '') || (change #>> '{role,name}')))).id
$$;
comment on function access.change_role(uuid, jsonb) is 'The role that a change is about, when it exists.';

create or replace function access.changed_entities(site_id uuid, change jsonb) returns uuid[]
language sql stable set search_path = '' as $$
  select case when change ?| array['policy', 'drop_policy']
    then access.policy_entities(changed_entities.site_id,
      coalesce(change #>> '{policy,name}', regexp_replace(change->>'drop_policy', '^.*/', '')))
    else (
      select coalesce(array_agg(distinct e.id), '{}')
      from access.held_roles h join access.permissions p on p.role_id = h.held_id
      join tenancy.apps a on a.site_id = p.site_id join data.entities e on e.app_id = a.id
      where h.role_id = access.change_role(changed_entities.site_id, change)
        and p.entity = any (access.patterns(a.name || '/' || e.name))) end
$$;
comment on function access.changed_entities(uuid, jsonb) is 'The entities that a change of the rules may concern, as these are now.';

create or replace function access.make_change(site_id uuid, change jsonb) returns uuid[]
language plpgsql set search_path = '' as $$
declare
  _terms jsonb := coalesce(change->'assign', change->'revoke');
  _account uuid;
  _role uuid;
begin
  if change ? 'role' then
    return access.put_definition(make_change.site_id, 'role', '', change->'role');
  elsif change ? 'policy' then
    return access.put_definition(make_change.site_id, 'policy', '', change->'policy');
  elsif change ? 'drop_role' then
    return access.remove_role(make_change.site_id, change->>'drop_role');
  elsif change ? 'drop_policy' then
    return access.remove_policy(make_change.site_id, regexp_replace(change->>'drop_policy', '^.*/', ''),
      coalesce(substring(change->>'drop_policy' from '^(.*)/'), ''));
  end if;
  _account := access.require_member_account(make_change.site_id, _terms->>'email');
  _role := access.require_role(make_change.site_id, _terms->>'role');
  if change ? 'assign' then
    insert into access.assignments (site_id, account_id, role_id) values (make_change.site_id, _account, _role)
    on conflict on constraint assignments_account_id_group_id_site_id_role_id_key do update set valid_from = null, valid_until = null,
    condition = null, condition_sql = null;
  else
    delete from access.assignments a where a.site_id = make_change.site_id and a.account_id = _account and a.role_id = _role;
  end if;
  return '{}';
end
$$;
comment on function access.make_change(uuid, jsonb) is 'Makes a change that access.simulate takes, and returns the entities whose rules it changes. Internal: only to be taken back. RH400, RH404, RH409.';

create or replace function access.require_member_account(site_id uuid, email text) returns uuid
language plpgsql stable set search_path = '' as $$
declare
  _id uuid := (select a.id from auth.accounts a join tenancy.site_members m on m.account_id = a.id
    where m.site_id = require_member_account.site_id and a.email = lower(require_member_account.email) and a.deleted_at is null);
begin
  if _id is null then
    perform rowhouse.fail(404, format('%s is not a member of this site', coalesce(left(require_member_account.email, 80), 'nobody')),
      'Add them first: tenancy.add_member(site, email, role).', 'not_found');
  end if;
  return _id;
end
$$;
comment on function access.require_member_account(uuid, text) is 'The account of a member of a site by email. RH404.';

create or replace function access.sampled_accounts(site_id uuid, change jsonb, max int) returns jsonb
language sql stable set search_path = '' as $$
  select jsonb_agg(x order by x.n, x.email) from (
    select a.id, a.email, case
        when a.email = lower(coalesce(change #>> '{assign,email}', change #>> '{revoke,email}')) then 1
        when exists (
          select from access.assignments s join access.held_roles h on h.role_id = s.role_id
          where s.site_id = sampled_accounts.site_id and h.held_id = access.change_role(sampled_accounts.site_id, change)
            and (s.account_id = a.id or s.group_id in (select g.group_id from access.group_members g where g.account_id = a.id))) then 2
        else 4 end as n
    from tenancy.site_members m join auth.accounts a on a.id = m.account_id
    where m.site_id = sampled_accounts.site_id and a.deleted_at is null
    union all
    select null, null, 3
    order by n, email limit sampled_accounts.max) x
$$;
comment on function access.sampled_accounts(uuid, jsonb, int) is 'The accounts that a change is compared for, whom it concerns first, and nobody logged in.';
