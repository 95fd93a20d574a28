-- The roles, policies, assignments and groups of a site as JSON, and by their addresses: what REST serves.

create or replace function access.refuse_members(body jsonb, known text[]) returns void
language plpgsql immutable set search_path = '' as $$
begin
  if jsonb_typeof(body) is distinct from 'object' or exists (select from jsonb_object_keys(body) k where k <> all (known)) then
    perform rowhouse.fail(400, 'The body is not as it should be', format('An object with %s.', array_to_string(known, ', ')),
      'invalid_body');
  end if;
end
$$;
comment on function access.refuse_members(jsonb, text[]) is 'Raises RH400 unless body is an object with no members but the known ones.';

drop function if exists access.described_role(access.roles);
create or replace function access.described_role(role access.roles, in_full boolean) returns jsonb
language sql stable set search_path = '' as $$
  select d || case when in_full then '{}' else jsonb_build_object('permissions', (
      select coalesce(jsonb_agg(t order by t), '[]')
      from (select distinct coalesce(p->>'permission', p #>> '{}') as t from jsonb_array_elements(d->'permissions') p) x)) end
    || jsonb_build_object('role', access.role_path(role), 'system', (role).system, 'version', (role).version)
  from access.role_definition(role) d
$$;
comment on function access.described_role(access.roles, boolean) is 'A role as access.define_role takes it, or without conditions and field rules, with what it is called, whether every site has it, and its version.';

create or replace function access.may_read_conditions(site_id uuid) returns boolean
language sql stable set search_path = '' as $$
  select access.may_control(may_read_conditions.site_id, '@roles', 'define')
    or access.may_control(may_read_conditions.site_id, '@policies', 'define')
$$;
comment on function access.may_read_conditions(uuid) is 'Whether the account of the claims may read under which conditions roles permit something: who may define roles or policies.';

create or replace function access.list_roles(site text) returns jsonb
language plpgsql stable security definer set search_path = '' as $$
declare
  _site tenancy.sites := tenancy.require_site(list_roles.site);
  _in_full boolean := access.may_read_conditions(_site.id);
begin
  return jsonb_build_object('data', (
    select coalesce(jsonb_agg(access.described_role(r, _in_full) order by access.role_path(r)), '[]')
    from access.roles r where r.site_id = _site.id and not r.is_internal));
end
$$;
comment on function access.list_roles(text) is 'The roles of a site: {"data": [{role, name, app, permissions, inherits, description, system, version}]}. Its members; under which conditions and with which fields, who may define roles or policies. RH404.';

create or replace function access.get_role(site text, role text) returns jsonb
language plpgsql stable security definer set search_path = '' as $$
declare
  _site tenancy.sites := tenancy.require_site(get_role.site);
begin
  return (
    select access.described_role(r, access.may_read_conditions(_site.id))
    from access.roles r where r.id = access.require_role(_site.id, get_role.role));
end
$$;
comment on function access.get_role(text, text) is 'A role of a site, editor or crm/editor, as access.list_roles shows it. Its members. RH404.';

create or replace function access.put_role(site text, role text, definition jsonb) returns jsonb
language plpgsql set search_path = '' as $$
declare
  _name text := substring(put_role.role from '[^/]*$');
  _app text := nullif(left(put_role.role, greatest(length(put_role.role) - length(_name) - 1, 0)), '');
begin
  if coalesce(definition->>'name', _name) <> _name or coalesce(definition->>'app', _app) is distinct from _app then
    perform rowhouse.fail(400, 'The role in the body is another than the one in the address', 'Leave name and app out, or repeat them.',
      'id_mismatch');
  end if;
  perform access.define_role(put_role.site,
    case jsonb_typeof(definition) when 'object' then definition || jsonb_build_object('name', _name) || access.member('app', to_jsonb(_app))
    else definition end);
  return access.get_role(put_role.site, put_role.role);
end
$$;
comment on function access.put_role(text, text, jsonb) is 'Creates or replaces the role called editor or crm/editor by access.define_role, and returns it. RH400, RH403, RH404, RH409.';

create or replace function access.described_policy(policy access.policies) returns jsonb
language sql stable set search_path = '' as $$
  select access.policy_definition(policy)
    || jsonb_build_object('policy', access.policy_path(policy), 'version', (policy).version, 'ready_made', (policy).entity_id is not null)
$$;
comment on function access.described_policy(access.policies) is 'A policy as access.define_policy takes it, with what it is called, its version, and whether an entity''s definition asked for it.';

create or replace function access.list_policies(site text, entity text default null) returns jsonb
language plpgsql stable security definer set search_path = '' as $$
declare
  _site tenancy.sites := access.require_control(list_policies.site, '@policies:define');
begin
  return jsonb_build_object('data', (
    select coalesce(jsonb_agg(access.described_policy(p) order by p.scope, p.name), '[]') from access.policies p
    where p.site_id = _site.id
      and (list_policies.entity is null or p.id in (select x.id from access.effective_policies(_site.id, list_policies.entity) x))));
end
$$;
comment on function access.list_policies(text, text) is
  'The policies of a site, or those in effect for an entity (crm/posts): {"data": [{policy, name, scope, effect, priority, entities, actions, condition, enabled, version, ready_made}]}. Owners, admins and @policies:define. RH403, RH404.';

create or replace function access.get_policy(site text, policy text) returns jsonb
language plpgsql stable security definer set search_path = '' as $$
declare
  _site tenancy.sites := access.require_control(get_policy.site, '@policies:define');
  _policy jsonb := (select access.described_policy(p) from access.policies p
    where p.site_id = _site.id and access.policy_path(p) = get_policy.policy);
begin
  if _policy is null then
    perform rowhouse.fail(404, format('Site %L has no policy %L', _site.name, left(get_policy.policy, 80)),
      'access.list_policies lists them.', 'not_found');
  end if;
  return _policy;
end
$$;
comment on function access.get_policy(text, text) is 'A policy by what it is called: office_hours, crm/office_hours or crm/posts/office_hours. Owners, admins and @policies:define. RH403, RH404.';

create or replace function access.put_policy(site text, policy text, definition jsonb) returns jsonb
language plpgsql set search_path = '' as $$
declare
  _name text := substring(put_policy.policy from '[^/]*$');
  _scope text := left(put_policy.policy, greatest(length(put_policy.policy) - length(_name) - 1, 0));
begin
  if coalesce(definition->>'name', _name) <> _name or coalesce(definition->>'scope', _scope) <> _scope then
    perform rowhouse.fail(400, 'The policy in the body is another than the one in the address', 'Leave name and scope out, or repeat them.',
      'id_mismatch');
  end if;
  perform access.define_policy(put_policy.site,
    case jsonb_typeof(definition) when 'object' then definition || jsonb_build_object('name', _name, 'scope', _scope) else definition end);
  return access.get_policy(put_policy.site, put_policy.policy);
end
$$;
comment on function access.put_policy(text, text, jsonb) is
  'Creates or replaces the policy called office_hours, crm/office_hours or crm/posts/office_hours by access.define_policy, and returns it. RH400, RH403, RH404.';

create or replace function access.delete_policy(site text, policy text) returns void
language sql set search_path = '' as $$
  select access.drop_policy(delete_policy.site, n, left(delete_policy.policy, greatest(length(delete_policy.policy) - length(n) - 1, 0)))
  from substring(delete_policy.policy from '[^/]*$') n
$$;
comment on function access.delete_policy(text, text) is 'Drops the policy called office_hours, crm/office_hours or crm/posts/office_hours. RH403, RH404.';

create or replace function access.list_assignments(site text, account text default null) returns jsonb
language plpgsql stable security definer set search_path = '' as $$
declare
  _site tenancy.sites := tenancy.require_site(list_assignments.site);
  _account uuid := case when list_assignments.account is not null then auth.require_account(list_assignments.account) end;
begin
  if _account is distinct from auth.account_id() then
    perform access.require_control(list_assignments.site, '@roles:assign');
  end if;
  return jsonb_build_object('data', (
    select coalesce(jsonb_agg(jsonb_strip_nulls(jsonb_build_object('id', a.id, 'account', c.email, 'group', g.name,
        'role', case when r.is_internal then r.description else access.role_path(r) end, 'valid_from', a.valid_from, 'valid_until',
        a.valid_until, 'condition', a.condition,
        'delegated_by', (select d.email from auth.accounts d where d.id = a.delegator_id))) order by c.email, g.name, r.name, a.id), '[]')
    from access.assignments a join access.roles r on r.id = a.role_id
    left join auth.accounts c on c.id = a.account_id left join access.groups g on g.id = a.group_id
    where a.site_id = _site.id
      and (_account is null or a.account_id = _account or a.group_id = any (access.member_groups(_site.id, _account)))));
end
$$;
comment on function access.list_assignments(text, text) is
  'Who holds which role of a site: {"data": [{id, account or group, role, valid_from, valid_until, condition, delegated_by}]}, all or an account''s (its email), with those of its groups. Owners, admins and @roles:assign; everybody their own. RH403, RH404.';

create or replace function access.list_groups(site text) returns jsonb
language plpgsql stable security definer set search_path = '' as $$
declare
  _site tenancy.sites := access.require_control(list_groups.site, '@roles:assign');
begin
  return jsonb_build_object('data', (
    select coalesce(jsonb_agg(jsonb_strip_nulls(jsonb_build_object('name', g.name, 'description', g.description,
        'members', (select coalesce(jsonb_agg(a.email order by a.email), '[]') from access.group_members m
          join auth.accounts a on a.id = m.account_id where m.group_id = g.id),
        'roles', (select coalesce(jsonb_agg(access.role_path(r) order by access.role_path(r)), '[]') from access.assignments s
          join access.roles r on r.id = s.role_id where s.group_id = g.id))) order by g.name), '[]')
    from access.groups g where g.site_id = _site.id));
end
$$;
comment on function access.list_groups(text) is 'The groups of a site: {"data": [{name, description, members (emails), roles}]}. Owners, admins and @roles:assign. RH403, RH404.';
