create or replace function data.apply(plan uuid, allow_loss boolean default false) returns data.entities
language plpgsql security definer set search_path = '' set client_min_messages = warning as $$
declare
  _plan data.plans;
  _entity data.entities;
begin
  select e.* into _entity from data.plans p join data.entities e on e.id = p.entity_id
  where p.id = apply.plan and tenancy.knows_site(e.site_id);
  if _entity.id is not null then
    _entity := data.require_entity_for_change(data.entity_path(_entity));
    -- Only now, when nobody else can apply it.
    select p.* into _plan from data.plans p where p.id = apply.plan for update;
  end if;
  if _plan.id is null then
    perform rowhouse.fail(404, 'There is no such plan', 'select data.plan(entity, schema) makes one and returns its id as plan.',
      'not_found');
  elsif _plan.applied_at is not null then
    perform rowhouse.fail(409, 'This plan was applied already', 'data.plan(entity, schema) makes a new one.', 'plan_applied');
  elsif (_entity.version, _entity.storage) <> (_plan.base_version, _plan.base_storage) then
    perform rowhouse.fail(409, format('%s has changed since this plan was made: it has version %s now', _entity.name, _entity.version),
      'Plan again: data.plan(entity, schema).', 'plan_outdated');
  end if;
  perform access.require_checkable(_entity, _plan.schema, _plan.changes->'renames', _plan.changes->'changes');
  if _plan.loses_data and not coalesce(apply.allow_loss, false) then
    perform rowhouse.fail(409, format('This plan would lose data of %s: %s', _entity.name, (select string_agg(c->>'message', '; ')
      from jsonb_array_elements(_plan.changes->'changes') c where (c->>'loses_data')::boolean)),
      'select data.apply(plan, allow_loss => true) does it nevertheless.', 'would_lose_data');
  end if;
  _entity := data.redefine(_entity, _plan.schema, _plan.changes->'renames', _plan.changes->'changes',
    array(select jsonb_array_elements_text(_plan.changes->'statements')));
  update data.plans p set applied_at = now() where p.id = _plan.id;
  return _entity;
end
$$;
comment on function data.apply(uuid, boolean) is
  'Does exactly what a plan of data.plan or data.plan_rollback says, once. Owners, admins and @entities:define. RH403, also when it is tried on records or fields that you do not see, whoever made the plan; RH404; RH409 when it was applied already, the entity has changed since, records do not fit, or data would be lost and allow_loss is not true; RH503 when the entity is in use without a pause.';

