-- Rules by name, for an entity's definition: "x-policies": ["authenticated_read", "owner_write"]. Each becomes a policy of the entity.

create or replace function access.ready_made_policies() returns table (name text, definition jsonb)
language sql immutable parallel safe as $$
  values
    ('public_read', '{"effect": "allow", "actions": ["read"], "description": "Everybody reads, also without logging in."}'::jsonb),
    ('public_create', '{"effect": "allow", "actions": ["create"], "description": "Everybody creates, also without logging in."}'),
    ('authenticated_read',
      '{"effect": "allow", "actions": ["read"], "condition": {"$account.roles": {"$contains": "authenticated"}}, "description": "Every member of the site reads."}'),
    ('authenticated_create',
      '{"effect": "allow", "actions": ["create"], "condition": {"$account.roles": {"$contains": "authenticated"}}, "description": "Every member of the site creates."}'),
    ('authenticated_write',
      '{"effect": "allow", "actions": ["create", "update", "delete"], "condition": {"$account.roles": {"$contains": "authenticated"}}, "description": "Every member of the site creates, changes and deletes."}'),
    ('owner_read',
      '{"effect": "allow", "actions": ["read"], "condition": {"created_by": "$account.id"}, "description": "Who created a record reads it."}'),
    ('owner_write',
      '{"effect": "allow", "actions": ["create", "update", "delete"], "condition": {"created_by": "$account.id"}, "description": "Every member creates, and changes and deletes what they created."}'),
    ('owner_only',
      '{"effect": "deny", "actions": ["read", "update", "delete"], "condition": {"created_by": {"$ne": "$account.id"}}, "description": "Nobody but who created a record gets at it, whatever their roles."}')
$$;
comment on function access.ready_made_policies() is 'The rules that an entity''s definition may ask for by name, each as access.define_policy takes it.';

create or replace function access.ready_made_violations(schema jsonb) returns jsonb
language sql immutable set search_path = '' as $$
  select case
    when not ready_made_violations.schema ? 'x-policies' then '[]'
    when jsonb_typeof(ready_made_violations.schema->'x-policies') <> 'array' then data.violation('/x-policies', 'must be a list of names')
    else coalesce((
      select jsonb_agg(jsonb_build_object('pointer', '/x-policies/' || (p.n - 1), 'message',
        'is not known: ' || (select string_agg(m.name, ', ' order by m.name) from access.ready_made_policies() m)) order by p.n)
      from jsonb_array_elements(ready_made_violations.schema->'x-policies') with ordinality p (value, n)
      where jsonb_typeof(p.value) <> 'string' or p.value #>> '{}' not in (select m.name from access.ready_made_policies() m)), '[]') end
$$;
comment on function access.ready_made_violations(jsonb) is 'What is wrong with the x-policies of an entity''s schema: a JSON array of {pointer, message}.';

-- Before the entity is compiled; whoever defines policies at this moment waits (data.lock_definitions). Who may define entities,
-- and not policies, would else give themselves the records.
create or replace function access.save_ready_made(entity data.entities) returns void
language plpgsql set search_path = '' as $$
declare
  _app text := split_part(access.entity_path(entity), '/', 1);
  _names text[] := array(select m.name from access.ready_made_policies() m);
  _were access.policies[] := access.policies_called(entity.site_id, _names);
  _changed text;
begin
  delete from access.policies p where p.entity_id = entity.id and not coalesce(entity.schema->'x-policies' ? p.name, false);
  insert into access.policies (site_id, scope, name, description, effect, entities, actions, condition, entity_id)
  select entity.site_id, access.entity_path(entity), m.name, m.definition->>'description', m.definition->>'effect',
    array[access.entity_path(entity)], array(select jsonb_array_elements_text(m.definition->'actions')),
    coalesce(m.definition->'condition', '{}'), entity.id
  from access.ready_made_policies() m where entity.schema->'x-policies' ? m.name
  on conflict (site_id, scope, name) do nothing;
  if _were = access.policies_called(entity.site_id, _names) then
    return;
  elsif access.may_control(entity.site_id, '@policies', 'define', _app) then
    perform access.refuse_policy_gains(entity.site_id, _names, _were);
    return;
  end if;
  select string_agg(distinct substring(g.policy from '[^/]*$'), ', ') into _changed
  from access.policy_gains(entity.site_id, _names, _were, true) g;
  if _changed is not null then
    perform rowhouse.fail(403,
      format('This definition changes who may do more with records of %s: %s', access.entity_path(entity), _changed),
      'Only owners and admins of the site may change x-policies so, or who has the permission @policies:define and what it allows.',
      'forbidden', data.violation('/x-policies', 'cannot be changed so by you'));
  end if;
end
$$;
comment on function access.save_ready_made(data.entities) is
  'Writes the policies that an entity''s definition asks for by name and removes those it no longer does. One that was defined otherwise under that name stays. RH403 when that allows more or denies less, for who may not define policies; for who may, and is no owner or admin, when it is more than they hold.';

drop function if exists access.changes_ready_made(data.entities);
