-- Which rules about an entity are in effect, and which are not because others stand further in.

create or replace function access.overridden_policies(site_id uuid, entity text) returns jsonb
language sql stable set search_path = '' as $$
  select coalesce(jsonb_agg(jsonb_build_object('policy', access.policy_path(p), 'effect', p.effect)
      || case when i.id = p.id then '{"disabled": true}' else jsonb_build_object('overridden_by', access.policy_path(i)) end
    order by p.name, length(p.scope)), '[]')
  from access.policies p,
    lateral (
      select o.* from access.policies o
      where o.site_id = p.site_id and o.name = p.name
        and o.scope in ('', split_part(overridden_policies.entity, '/', 1), overridden_policies.entity)
      order by length(o.scope) desc limit 1) i
  where p.site_id = overridden_policies.site_id
    and p.scope in ('', split_part(overridden_policies.entity, '/', 1), overridden_policies.entity)
    and p.entities && access.patterns(overridden_policies.entity) and (i.id <> p.id or not p.enabled)
$$;
comment on function access.overridden_policies(uuid, text) is
  'The policies about an entity app/entity that are not in effect: [{policy, effect, overridden_by: the one of that name furthest in, or disabled}].';

create or replace function access.effective(entity text) returns jsonb
language plpgsql stable security definer set search_path = '' as $$
declare
  _entity data.entities := data.require_entity(effective.entity);
  _path text := access.entity_path(_entity);
begin
  if not access.may_ask(_entity.site_id) then
    perform rowhouse.fail(403, 'Only owners, admins and who has @policies:define may see all rules',
      'Ask about yourself: access.explain(email, entity, action).', 'forbidden');
  end if;
  return jsonb_build_object('entity', effective.entity,
    'permissions', (
      select coalesce(jsonb_agg(jsonb_build_object('role', access.role_path(r), 'permission', access.permission_text(p))
          || access.member('condition', to_jsonb(access.condition_text(p.condition))) || access.member('fields', p.fields)
        order by access.role_path(r), access.permission_text(p)), '[]')
      from access.permissions p join access.roles r on r.id = p.role_id
      where p.site_id = _entity.site_id and p.entity = any (access.patterns(_path)) and not r.is_internal),
    'policies', (
      select coalesce(jsonb_agg(access.policy_definition(p)
          || jsonb_build_object('policy', access.policy_path(p), 'says', access.condition_text(p.condition))
          || access.member('overrides', (
            select jsonb_agg(access.policy_path(o) order by length(o.scope)) from access.policies o
            where o.site_id = p.site_id and o.name = p.name and length(o.scope) < length(p.scope)
              and o.scope in ('', split_part(_path, '/', 1))))
        order by p.effect desc, p.priority desc, p.name), '[]')
      from access.effective_policies(_entity.site_id, _path) p),
    'not_in_effect', access.overridden_policies(_entity.site_id, _path));
end
$$;
comment on function access.effective(text) is
  'All rules about an entity (acme/crm/posts) as they are in effect: {"permissions": [{role, permission, condition, fields}], "policies": '
  '[each as access.define_policy takes it, what it is called in policy, its condition as text in says, and in overrides those of the '
  'same name further out], "not_in_effect": [{policy, effect, overridden_by or disabled}]}, denials first and by priority. Owners, '
  'admins and @policies:define. RH400, RH403, RH404.';
