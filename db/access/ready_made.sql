-- Rules by name, for an entity's definition: "x-policies": ["authenticated_read", "owner_write"]. Each becomes a policy of the entity.

create or replace function access.ready_made_policies() returns table (name text, definition jsonb)
language sql immutable parallel safe set search_path = '' as $$
  with condition (of, says) as (values
    ('everybody', null::jsonb),
    ('members', '{"$account.roles": {"$contains": "authenticated"}}'),
    ('owners', '{"created_by": "$account.id"}'),
    ('strangers', '{"created_by": {"$ne": "$account.id"}}'))
  select p.name, jsonb_strip_nulls(jsonb_build_object(
    'effect', p.effect, 'actions', p.actions, 'condition', c.says, 'description', p.description))
  from (values
    ('public_read', 'allow', '{read}'::text[], 'everybody', 'Everybody reads, also without logging in.'),
    ('public_create', 'allow', '{create}', 'everybody', 'Everybody creates, also without logging in.'),
    ('authenticated_read', 'allow', '{read}', 'members', 'Every member of the site reads.'),
    ('authenticated_create', 'allow', '{create}', 'members', 'Every member of the site creates.'),
    ('authenticated_write', 'allow', '{create,update,delete}', 'members', 'Every member of the site creates, changes and deletes.'),
    ('owner_read', 'allow', '{read}', 'owners', 'Who created a record reads it.'),
    ('owner_write', 'allow', '{create,update,delete}', 'owners', 'Every member creates, and changes and deletes what they created.'),
    ('owner_only', 'deny', '{read,update,delete}', 'strangers', 'Nobody but who created a record gets at it, whatever their roles.')
  ) p (name, effect, actions, who, description)
  join condition c on c.of = p.who
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
