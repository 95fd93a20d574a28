-- Who may define policies, and is no owner or admin, allows by them no more than they hold themselves, and lifts no denial that
-- they are under: else they would give themselves rights. What counts is what is in effect before and after: one of the same
-- name further in, disabled or weaker, lifts a denial as well as dropping it does.

-- Policies name entities by app, by name, by both or not at all: what matches one path of a kind matches all of that kind, those
-- too that nobody has defined yet. ~ stands for a name that no policy has.
create or replace function access.policy_paths(policies access.policies[]) returns text[]
language sql immutable set search_path = '' as $$
  with named (app, entity) as (
    select split_part(n, '/', 1), split_part(n, '/', 2)
    from unnest(policies) p, unnest(p.entities || case when p.scope = '' then '{}' when p.scope ~ '/' then array[p.scope] else array[p.scope || '/*'] end) n
    where n <> '*'
  )
  select array(
    select n.app || '/' || n.entity from named n where n.app <> '*' and n.entity <> '*'
    union
    select a.app || '/' || e.entity
    from (select n.app from named n where n.entity = '*' union select '~') a, (select n.entity from named n where n.app = '*' union select '~') e)
$$;
comment on function access.policy_paths(access.policies[]) is
  'Paths app/entity of every kind that policies tell apart, with ~ for any other name.';

create or replace function access.policy_effects(policies access.policies[], paths text[])
returns table (path text, policy text, name text, action text, effect text, condition jsonb, fields jsonb)
language sql stable set search_path = '' as $$
  select x.path, access.policy_path(x.p), (x.p).name, a.action, (x.p).effect, nullif((x.p).condition, '{}'), (x.p).fields
  from (
    select distinct on (t.path, p.name) t.path, p
    from unnest(policy_effects.paths) t (path)
    join unnest(policy_effects.policies) p on p.scope in ('', split_part(t.path, '/', 1), t.path)
    order by t.path, p.name, length(p.scope) desc
  ) x, unnest(array['create', 'read', 'update', 'delete']) a (action)
  where (x.p).enabled and (x.p).entities && access.patterns(x.path) and (x.p).actions && array[a.action, '*']
$$;
comment on function access.policy_effects(access.policies[], text[]) is
  'What policies say of each action on entities (paths app/entity), of each name the one that stands furthest in.';

create or replace function access.as_permission(entity text, action text, condition jsonb, fields jsonb) returns access.permissions
language sql immutable set search_path = '' as $$
  select jsonb_populate_record(null::access.permissions, jsonb_build_object(
    'entity', as_permission.entity, 'action', as_permission.action, 'own', false, 'condition', as_permission.condition, 'fields', as_permission.fields))
$$;
comment on function access.as_permission(text, text, jsonb, jsonb) is 'What a policy allows as the permission that would allow the same.';

create or replace function access.covers_denial(wide_condition jsonb, wide_fields jsonb, condition jsonb, fields jsonb) returns boolean
language sql immutable set search_path = '' as $$
  select array(select access.conjuncts(wide_condition)) <@ array(select access.conjuncts(covers_denial.condition))
    and (wide_fields is null or covers_denial.fields is not null and not exists (
      select from unnest(array['readable', 'writable']) k
      where not coalesce(wide_fields->k ? '*', false) and not coalesce(covers_denial.fields->k, '[]') <@ coalesce(wide_fields->k, '[]')))
$$;
comment on function access.covers_denial(jsonb, jsonb, jsonb, jsonb) is
  'Whether a denial with a wide condition (or none) and field rules denies all that another does.';

-- Of roles that come and go with time and circumstances nothing is certain.
create or replace function access.denial_concerns(site_id uuid, condition jsonb, action text) returns boolean
language plpgsql stable set search_path = '' as $$
declare
  _subject jsonb := access.conjunction(array(
    select c from access.conjuncts(denial_concerns.condition) c
    where access.condition_uses(c) <@ '{account}' and not (c::text ~ '\$account\.roles' and exists (
      select from access.assignments a
      where a.site_id = denial_concerns.site_id and (a.delegator_id is not null or num_nonnulls(a.valid_from, a.valid_until, a.condition) > 0)
        and (a.account_id = auth.account_id() or a.group_id = any (access.member_groups(denial_concerns.site_id, auth.account_id())))))));
  _roles uuid[];
begin
  if _subject is null then
    return true;
  end if;
  _roles := access.roles_of(denial_concerns.site_id, auth.account_id());
  return access.holds(access.subject_sql(_subject, null, denial_concerns.action, 'deny'), _roles,
    access.subject(denial_concerns.site_id, auth.account_id()) || jsonb_build_object('roles', (
      select coalesce(jsonb_agg(r.name order by r.name), '[]') from access.roles r where r.id = any (_roles) and not r.is_internal)), access.env());
end
$$;
comment on function access.denial_concerns(uuid, jsonb, text) is
  'Whether a denial under a condition may concern the account of the claims: not where what it asks of the account is false.';

-- At any time and under any circumstances: what is not allowed to somebody no denial keeps from them.
create or replace function access.may_ever(site_id uuid, path text, action text) returns boolean
language sql stable set search_path = '' as $$
  with pattern (entity) as (
    select p.entity
    from (
      select a.role_id from access.assignments a
      where a.site_id = may_ever.site_id and (a.valid_until is null or a.valid_until > now())
        and (a.account_id = auth.account_id() or a.group_id = any (access.member_groups(may_ever.site_id, auth.account_id())))
      union
      select r.id from access.roles r where r.site_id = may_ever.site_id and r.app_id is null and r.system and r.name in ('authenticated', 'anonymous')
    ) given
    join access.held_roles h on h.role_id = given.role_id join access.permissions p on p.role_id = h.held_id
    where p.action in (may_ever.action, '*')
    union
    select e from access.policies p, unnest(p.entities) e
    where p.site_id = may_ever.site_id and p.effect = 'allow' and p.enabled and p.actions && array[may_ever.action, '*']
  )
  select exists (
    select from pattern x, lateral (select split_part(x.entity, '/', 1) as app, split_part(x.entity, '/', 2) as entity) p,
      lateral (select split_part(may_ever.path, '/', 1) as app, split_part(may_ever.path, '/', 2) as entity) w
    where x.entity = '*' or x.entity !~ '@' and (p.app in ('*', w.app) or w.app = '~') and (p.entity in ('*', w.entity) or w.entity = '~'))
$$;
comment on function access.may_ever(uuid, text, text) is
  'Whether some permission of the account of the claims, at whatever time and under whatever condition, or some policy allows an action on entities of a path, before denials.';

-- Strictly: whatever anybody gains; else what its author has not got.
create or replace function access.policy_gains(site_id uuid, names text[], before access.policies[], strictly boolean)
returns table (path text, action text, policy text, effect text)
language plpgsql stable set search_path = '' as $$
declare
  _after access.policies[] := array(select p from access.policies p where p.site_id = policy_gains.site_id);
  _before access.policies[] := policy_gains.before || array(select p from unnest(_after) p where p.name <> all (policy_gains.names));
  _paths text[] := access.policy_paths(_before || _after);
  _held access.permissions[] := array(
    select p from access.permissions p where not policy_gains.strictly and p.role_id = any (access.own_roles(policy_gains.site_id)));
begin
  return query
    with old as materialized (select * from access.policy_effects(_before, _paths)),
    new as materialized (select * from access.policy_effects(_after, _paths))
    select n.path, n.action, n.policy, n.effect
    from new n, lateral (select access.as_permission(n.path, n.action, n.condition, n.fields) as p) wanted
    where n.effect = 'allow' and n.name = any (policy_gains.names)
      and not exists (select from unnest(_held) h where access.covers_permission(h, wanted.p))
      and not exists (
        select from old o where (o.path, o.action, o.effect) = (n.path, n.action, 'allow')
          and access.covers_permission(access.as_permission(o.path, o.action, o.condition, o.fields), wanted.p))
    union all
    select o.path, o.action, o.policy, o.effect
    from old o
    where o.effect = 'deny' and o.name = any (policy_gains.names)
      and not exists (
        select from new n where (n.path, n.action, n.effect) = (o.path, o.action, 'deny')
          and access.covers_denial(n.condition, n.fields, o.condition, o.fields))
      and (policy_gains.strictly
        or access.may_ever(policy_gains.site_id, o.path, o.action) and access.denial_concerns(policy_gains.site_id, o.condition, o.action));
end
$$;
comment on function access.policy_gains(uuid, text[], access.policies[], boolean) is
  'What policies of names allow now that neither the account of the claims holds nor they allowed before (before: these policies as they were), and which of their denials that concern it are gone or weaker; strictly, whatever they allow more and deny less. Entities as paths app/entity, with ~ for any other name. Internal.';

create or replace function access.refuse_policy_gains(site_id uuid, names text[], before access.policies[]) returns void
language plpgsql stable set search_path = '' as $$
declare
  _allowed text;
  _lifted text;
begin
  if access.administers(refuse_policy_gains.site_id) then
    return;
  end if;
  with gain as (
    select g.effect, g.policy, case when g.path = '~/~' then '*' else replace(g.path, '~', '*') end || ':' || g.action as what
    from access.policy_gains(refuse_policy_gains.site_id, refuse_policy_gains.names, refuse_policy_gains.before, false) g
  )
  select string_agg(g.what, ', ' order by g.what) filter (where g.effect = 'allow'),
    string_agg(format('%s (of %s)', g.what, g.policy), ', ' order by g.what) filter (where g.effect = 'deny')
  into _allowed, _lifted
  from (select distinct on (g.effect, g.what) g.* from gain g order by g.effect, g.what limit 8) g;
  if _allowed is not null then
    perform rowhouse.fail(403, format('The policy would allow what you do not hold yourself: %s', _allowed),
      'Who may define policies allows what a role of theirs permits, under the same condition or a narrower one. Ask an owner or admin of the site.',
      'forbidden');
  elsif _lifted is not null then
    perform rowhouse.fail(403, format('This would lift a denial that concerns you: %s', _lifted),
      'Add to what is denied, or ask an owner or admin of the site.', 'forbidden');
  end if;
end
$$;
comment on function access.refuse_policy_gains(uuid, text[], access.policies[]) is
  'Raises RH403 when policies of names, as they are now, allow more than the account of the claims holds or lift a denial that concerns it; before: these policies as they were. Owners and admins of the site may.';

create or replace function access.policies_called(site_id uuid, names text[]) returns access.policies[]
language sql stable set search_path = '' as $$
  select array(select p from access.policies p where p.site_id = policies_called.site_id and p.name = any (policies_called.names))
$$;
comment on function access.policies_called(uuid, text[]) is 'The policies of these names in a site, in whatever scope they stand.';
