-- What the roles and policies of a site mean for one entity: rules, allow or deny, each with the condition on the record that it
-- asks for. Rules that ask the same and show the same fields are one, and have one bit.

create or replace function access.conjuncts(condition jsonb) returns setof jsonb
language sql immutable set search_path = '' as $$
  with recursive part (value) as (
    select jsonb_build_object(k.key, k.value) from jsonb_each(coalesce(condition, '{}')) k
    union all
    select jsonb_build_object(k.key, k.value) from part p, jsonb_array_elements(p.value->'$and') a, jsonb_each(a) k where p.value ? '$and'
  )
  select p.value from part p where not p.value ? '$and'
$$;
comment on function access.conjuncts(jsonb) is 'The conditions of one key each that together are a condition.';

-- Mostly the key tells: to take the condition apart is 0.1 ms. Of the argument itself, a constant by then, PostgreSQL would do that while
-- it plans, whatever the key.
create or replace function access.is_of_record(conjunct jsonb) returns boolean
language sql immutable set search_path = '' as $$
  select case
    when k ~ '^[^$]' then true
    when k ~ '^\$(account|env)\.|^\$action$' and v::text !~ '\$record' then false
    else access.condition_uses(jsonb_build_object(k, v)) && '{record}' end
  from jsonb_each(is_of_record.conjunct) x (k, v)
$$;
comment on function access.is_of_record(jsonb) is 'Whether a condition of one key depends on the record.';

create or replace function access.conjunction(conditions jsonb[]) returns jsonb
language sql immutable set search_path = '' as $$
  select case cardinality(conditions) when 0 then null when 1 then conditions[1]
    else jsonb_build_object('$and', to_jsonb(array(select c from unnest(conditions) c order by c::text))) end
$$;
comment on function access.conjunction(jsonb[]) is 'The condition that all conditions hold; null for none.';

create or replace function access.entity_path(entity data.entities) returns text
language sql stable set search_path = '' as $$ select a.name || '/' || (entity).name from tenancy.apps a where a.id = (entity).app_id $$;
comment on function access.entity_path(data.entities) is 'An entity as permissions name it, app/entity.';

create or replace function access.rules_of(entity data.entities)
returns table (action text, effect text, row_condition jsonb, fields jsonb, subject jsonb, role_ids uuid[], permission_ids uuid[],
  policy_id uuid)
language sql stable set search_path = '' as $$
  with path (path) as (select access.entity_path(entity)),
  given as (
    select p.action as actions, 'allow' as effect, p.own, p.condition,
      p.fields, p.role_id, p.id as permission_id, null::uuid as policy_id, p.is_plain
    from path, access.permissions p
    where p.site_id = entity.site_id and p.entity = any (access.patterns(path)) and p.action in ('create', 'read', 'update', 'delete', '*')
    union all
    select a, p.effect, false, nullif(p.condition, '{}'), p.fields, null, null, p.id, false
    from path, access.effective_policies(entity.site_id, path) p, unnest(p.actions) a
  ),
  each as (
    select x.action, g.effect,
      case when g.own and x.action <> 'create' then access.both_conditions(g.condition, '{"created_by": "$account.id"}')
      else g.condition end as condition,
      access.fields_for(x.action, g.fields, entity.schema) as fields, g.role_id, g.permission_id, g.policy_id, g.is_plain
    from given g, unnest(case g.actions when '*' then array['create', 'read', 'update', 'delete'] else array[g.actions] end) x (action)
    -- A deny of fields says nothing of the record.
    where g.effect = 'allow' or g.fields is null or access.fields_for(x.action, g.fields, entity.schema) is not null
  )
  select e.action, e.effect, access.conjunction(s.of_row), e.fields, access.conjunction(s.of_subject),
    array_agg(distinct e.role_id) filter (where e.role_id is not null),
    array_agg(e.permission_id) filter (where e.permission_id is not null), e.policy_id
  from each e, lateral (
    select coalesce(array_agg(c.value order by c.value::text) filter (where c.is_of_row), '{}') as of_row,
      coalesce(array_agg(c.value order by c.value::text) filter (where not c.is_of_row), '{}') as of_subject
    from (select c, access.is_of_record(c) from access.conjuncts(e.condition) c offset 0) c (value, is_of_row)) s -- each asked once
  -- What is plain is asked of the tables at run time: a new role with it needs nothing to be installed.
  where not (e.is_plain and e.fields is null)
  group by e.action, e.effect, e.fields, e.policy_id, s.of_row, s.of_subject
$$;
comment on function access.rules_of(data.entities) is
  'What permissions that depend on something and policies say about each action on an entity, with conditions on the record apart from those on the account and its circumstances.';

create or replace function access.protects_fields(schema jsonb) returns boolean
language sql immutable set search_path = '' as $$
  select jsonb_path_exists(protects_fields.schema, '$.properties.*."x-pii" ? (@ == true)')
    or jsonb_path_exists(protects_fields.schema, '$.properties.*."x-mask"')
$$;
comment on function access.protects_fields(jsonb) is 'Whether an entity''s schema marks a property with x-pii or x-mask.';

-- A condition on a field that the entity does not have: of a rule for many entities it is never true, of one for this entity it
-- is an error.
create or replace function access.applies_to(entity data.entities, condition jsonb, policy_id uuid, permission_ids uuid[]) returns boolean
language plpgsql stable set search_path = '' as $$
declare
  _errors jsonb := access.condition_violations(entity.site_id, entity.id, applies_to.condition);
  _path text := access.entity_path(entity);
  _by text;
begin
  if applies_to.condition is null or _errors = '[]' then
    return true;
  end if;
  select coalesce(
    (select format('the policy %s', access.policy_path(p)) from access.policies p
      where p.id = applies_to.policy_id and _path = any (p.entities)),
    (select format('the role %s', access.role_path(r)) from access.permissions p join access.roles r on r.id = p.role_id
      where p.id = any (applies_to.permission_ids) and p.entity = _path limit 1)) into _by;
  if _by is not null then
    perform rowhouse.fail(409,
      format('%s of %s has a condition that does not fit %s: %s %s', upper(left(_by, 1)) || substr(_by, 2), 'this site', _path,
      _errors #>> '{0,pointer}', _errors #>> '{0,message}'),
      'Change that condition, or keep the field. Who asks is $account (in text also current_user), circumstances are $env (env).',
      'condition_does_not_fit',
      _errors);
  end if;
  return false;
end
$$;
comment on function access.applies_to(data.entities, jsonb, uuid, uuid[]) is
  'Whether a rule''s condition can be asked of an entity''s records. RH409 when the rule names the entity and it cannot.';

-- A rename must not take a record out from under a denial: what held for the entity before goes on holding, or the rename fails.
create or replace function access.refuse_lost_denials(entity data.entities) returns void
language plpgsql stable set search_path = '' as $$
declare
  _policy text;
  _errors jsonb;
begin
  select access.policy_path(p), x.errors into _policy, _errors
  from access.rules_of(entity) r join access.policies p on p.id = r.policy_id,
    lateral (select access.condition_violations(entity.site_id, entity.id, r.row_condition)) x (errors)
  where r.effect = 'deny' and r.row_condition is not null and x.errors <> '[]'
    and exists (select from access.rule_sources s where s.entity_id = entity.id and s.policy_id = p.id)
  limit 1;
  if found then
    perform rowhouse.fail(409,
      format('The policy %s would no longer protect %s: %s %s', _policy, access.entity_path(entity), _errors #>> '{0,pointer}',
      _errors #>> '{0,message}'),
      'Keep the field, or first define a policy of the same name in the scope of this entity.', 'condition_does_not_fit', _errors);
  end if;
end
$$;
comment on function access.refuse_lost_denials(data.entities) is 'Raises RH409 when a denial that holds for an entity, with its definition of before, has a condition that its new one cannot answer.';

create or replace function access.rules_digest(entity_id uuid) returns text
language sql stable set search_path = '' as $$
  select md5(coalesce(string_agg(to_jsonb(s)::text || to_jsonb(r)::text, '' order by to_jsonb(s)::text), ''))
  from access.rule_sources s join access.rules r using (entity_id, action, effect, number)
  where s.entity_id = rules_digest.entity_id
$$;
comment on function access.rules_digest(uuid) is 'A digest of the rules of an entity, to tell whether they have changed.';

create or replace function access.save_rules(entity data.entities) returns void
language plpgsql set search_path = '' as $$
begin
  delete from access.rules r where r.entity_id = entity.id;
  with said as materialized (
    select r.* from access.rules_of(entity) r
  ),
  -- Each condition is looked at once, whoever says it: 0.3 ms.
  doubted as materialized (
    select c.row_condition from (select distinct s.row_condition from said s where s.row_condition is not null) c
    where access.condition_violations(entity.site_id, entity.id, c.row_condition) <> '[]'
  ),
  found as materialized (
    select r.*, dense_rank() over (partition by r.action, r.effect order by r.row_condition::text nulls first, r.fields::text nulls first)
      -- 1 is the plain permission.
      + case r.effect when 'allow' then 1 else 0 end as number
    from said r
    where r.row_condition is null or r.row_condition not in (select d.row_condition from doubted d)
      or access.applies_to(entity, r.row_condition, r.policy_id, r.permission_ids)
  ),
  rules as (
    insert into access.rules (entity_id, site_id, action, effect, number, row_condition, fields)
    select distinct on (f.action, f.effect, f.number) entity.id, entity.site_id, f.action, f.effect, f.number, f.row_condition, f.fields
    from found f
  )
  insert into access.rule_sources (entity_id, site_id, action, effect, number, subject, role_ids, permission_ids, policy_id)
  select entity.id, entity.site_id, f.action, f.effect, f.number, f.subject, f.role_ids, f.permission_ids, f.policy_id from found f;
end
$$;
comment on function access.save_rules(data.entities) is 'Writes the rules of an entity anew from the roles and policies of its site. RH409.';
