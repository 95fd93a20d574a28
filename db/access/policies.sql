-- Attribute policies: an effect on entities and actions, under a condition over the account, the record, the environment and the
-- action. A site's policies reach its apps and entities; one of the same name further in takes the place of the one further out.

drop function if exists access.define_policy(text, jsonb);
create or replace function access.define_policy(site text, definition jsonb, force boolean default false) returns access.policies
language plpgsql security definer set search_path = '' as $$
declare
  _site tenancy.sites := access.require_control(define_policy.site, '@policies:define');
  _failing jsonb;
  _saved record;
begin
  perform access.lock_model(_site.id);
  _failing := access.failing_tests(_site.id);
  _saved := access.save_policy(_site.id, define_policy.definition);
  perform access.take_effect(_site.id, _saved.entities, _failing, define_policy.force);
  return _saved.policy;
end
$$;
comment on function access.define_policy(text, jsonb, boolean) is
  'Creates or replaces a policy: {"name", "scope": "" (the site), an app or app/entity, "effect": "allow" or "deny", "priority", "entities": ["crm/*"], "actions": ["read"], "condition": a filter or its text, "fields", "enabled", "description"}. Deny wins over every allow; priority orders what is named as the reason. In effect from everybody''s next statement. Owners, admins, and who has @policies:define: these allow no more than they hold themselves and lift no denial that concerns them. RH400 lists what is wrong by JSON pointer; RH403, RH404, RH409 a test of access that passed would fail (unless forced).';

drop function if exists access.save_policy(uuid, jsonb, uuid);
create or replace function access.save_policy(site_id uuid, definition jsonb, out policy access.policies, out entities uuid[])
language plpgsql set search_path = '' as $$
#variable_conflict use_column
declare
  _errors jsonb := access.policy_violations(save_policy.definition);
  _scope text := coalesce(definition->>'scope', '');
  _app text := nullif(split_part(_scope, '/', 1), '');
  _policy access.policies;
  _before uuid[];
  _were access.policies[] := access.policies_called(save_policy.site_id, array[definition->>'name']);
begin
  if _errors <> '[]' then
    perform rowhouse.fail(400, format('The policy is not valid: %s %s', _errors #>> '{0,pointer}', _errors #>> '{0,message}'),
      '{"name": "office_hours", "effect": "deny", "entities": ["crm/*"], "actions": ["update"], "condition": "env.weekday in (''sat'', ''sun'')"}',
      'invalid_policy', _errors);
  elsif _app is not null then
    perform tenancy.require_app((select s.name from tenancy.sites s where s.id = save_policy.site_id) || '/' || _app);
  end if;
  perform access.save_first_version(p.site_id, 'policy', access.policy_path(p), access.policy_definition(p))
  from access.policies p where p.site_id = save_policy.site_id and p.scope = _scope and p.name = definition->>'name';
  _before := access.policy_entities(save_policy.site_id, definition->>'name');
  insert into access.policies as p (site_id, scope, name, description, effect, priority, entities, actions, condition, fields, enabled,
    entity_id)
  values (save_policy.site_id, _scope, definition->>'name', definition->>'description', definition->>'effect',
    coalesce((definition->>'priority')::int, 0),
    case when strpos(_scope, '/') > 0 then array[_scope] else array(
      select (access.parse_permission(e || ':read', _app)).entity
      from jsonb_array_elements_text(coalesce(definition->'entities', '["*"]')) e) end,
    array(select jsonb_array_elements_text(coalesce(definition->'actions', '["*"]'))),
    coalesce(access.condition_of(save_policy.site_id, definition->'condition', '/condition'), '{}'),
    access.fields_of(definition->'fields', '/fields'), coalesce((definition->>'enabled')::boolean, true), null)
  on conflict (site_id, scope, name) do update set description = excluded.description, effect = excluded.effect,
  priority = excluded.priority,
    entities = excluded.entities, actions = excluded.actions, condition = excluded.condition, fields = excluded.fields,
    enabled = excluded.enabled,
    entity_id = excluded.entity_id, version = p.version + 1, updated_at = now()
  returning p.* into _policy;
  perform access.refuse_policy_gains(save_policy.site_id, array[_policy.name], _were);
  perform access.save_version(_policy.site_id, 'policy', access.policy_path(_policy), access.policy_definition(_policy));
  policy := _policy;
  entities := _before || access.policy_entities(save_policy.site_id, _policy.name);
end
$$;
comment on function access.save_policy(uuid, jsonb) is 'Writes a policy, and tells for which entities it has to be put into effect. Internal: callers check who may define policies and hold the lock of the model. RH400, RH403 more than the caller holds, RH404.';

drop function if exists access.drop_policy(text, text, text);
create or replace function access.drop_policy(site text, name text, scope text default '', force boolean default false) returns void
language plpgsql security definer set search_path = '' as $$
declare
  _site tenancy.sites := access.require_control(drop_policy.site, '@policies:define');
  _failing jsonb;
begin
  perform access.lock_model(_site.id);
  _failing := access.failing_tests(_site.id);
  perform access.take_effect(_site.id, access.remove_policy(_site.id, drop_policy.name, drop_policy.scope), _failing, drop_policy.force);
end
$$;
comment on function access.drop_policy(text, text, text, boolean) is
  'Drops a policy; one of the same name further out is in effect again. Owners, admins, and who has @policies:define, but no denial that concerns them. RH403, RH404 lists the policies there are, RH409 a test of access that passed would fail (unless forced).';

create or replace function access.remove_policy(site_id uuid, name text, scope text) returns uuid[]
language plpgsql set search_path = '' as $$
declare
  _policy access.policies;
  _entities uuid[];
  _were access.policies[] := access.policies_called(remove_policy.site_id, array[remove_policy.name]);
begin
  select p.* into _policy
  from access.policies p
  where p.site_id = remove_policy.site_id and p.scope = remove_policy.scope and p.name = remove_policy.name;
  if _policy.id is null then
    perform rowhouse.fail(404, format('This site has no policy %L', left(remove_policy.name, 80)),
      coalesce('Policies: '
        || (select string_agg(access.policy_path(p), ', ' order by p.scope, p.name) from access.policies p
        where p.site_id = remove_policy.site_id), 'There are none yet.'), 'not_found');
  end if;
  perform access.save_first_version(_policy.site_id, 'policy', access.policy_path(_policy), access.policy_definition(_policy));
  _entities := access.policy_entities(_policy.site_id, _policy.name);
  delete from access.policies p where p.id = _policy.id;
  perform access.refuse_policy_gains(_policy.site_id, array[_policy.name], _were);
  perform access.save_version(_policy.site_id, 'policy', access.policy_path(_policy), null);
  return _entities;
end
$$;
comment on function access.remove_policy(uuid, text, text) is 'Deletes a policy and returns the entities for which that has to be put into effect. Internal. RH403 a denial that concerns the caller, RH404.';

create or replace function access.policy_path(policy access.policies) returns text
language sql immutable set search_path = '' as $$ select case (policy).scope when '' then '' else (policy).scope || '/' end
  || (policy).name $$;
comment on function access.policy_path(access.policies) is 'What a policy is called: office_hours, crm/office_hours or crm/posts/office_hours.';

create or replace function access.policy_definition(policy access.policies) returns jsonb
language sql immutable set search_path = '' as $$
  select jsonb_build_object('name', (policy).name, 'scope', (policy).scope, 'effect', (policy).effect, 'priority', (policy).priority,
    'entities', to_jsonb((policy).entities), 'actions', to_jsonb((policy).actions), 'condition', (policy).condition, 'enabled',
    (policy).enabled)
    || access.member('description', to_jsonb((policy).description)) || access.member('fields', (policy).fields)
$$;
comment on function access.policy_definition(access.policies) is 'A policy as access.define_policy takes it.';

create or replace function access.effective_policies(site_id uuid, entity text) returns setof access.policies
language sql stable set search_path = '' as $$
  select p.* from (
    select distinct on (p.name) p from access.policies p
    where p.site_id = effective_policies.site_id
      and p.scope in ('', split_part(effective_policies.entity, '/', 1), effective_policies.entity)
    order by p.name, length(p.scope) desc
  ) x (p), lateral (select (x.p).*) p
  where p.enabled and p.entities && access.patterns(effective_policies.entity)
$$;
comment on function access.effective_policies(uuid, text) is 'The policies that concern an entity app/entity of a site: of each name, the one that stands furthest in, when it is enabled.';

create or replace function access.policy_entities(site_id uuid, name text) returns uuid[]
language sql stable set search_path = '' as $$
  select coalesce(array_agg(distinct e.id), '{}') from access.policies p
  join tenancy.apps a on a.site_id = p.site_id join data.entities e on e.app_id = a.id
  where p.site_id = policy_entities.site_id and p.name = policy_entities.name
    and (p.entities && access.patterns(a.name || '/' || e.name) or p.scope in (a.name, a.name || '/' || e.name))
$$;
comment on function access.policy_entities(uuid, text) is 'The entities that policies of a name in a site concern, in whatever scope they stand.';

create or replace function access.policy_violations(definition jsonb) returns jsonb
language sql stable set search_path = '' as $$
  with d (d) as (select case jsonb_typeof(definition) when 'object' then definition else '{}' end)
  select coalesce(jsonb_agg(jsonb_build_object('pointer', x.pointer, 'message', x.message) order by x.pointer), '[]')
  from (
    select '' as pointer, 'must be an object' as message where jsonb_typeof(definition) is distinct from 'object'
    union all
    select '/' || k.key,
      'is not known; a policy has name, scope, effect, priority, entities, actions, condition, fields, enabled and description'
    from d, jsonb_object_keys(d) k (key)
    where k.key not in ('name', 'scope', 'effect', 'priority', 'entities', 'actions', 'condition', 'fields', 'enabled', 'description')
    union all
    select '/name', 'must be up to 60 lower-case letters, digits, _ and -, beginning with a letter'
    from d
    where coalesce(d->>'name', '') !~ '^[a-z][a-z0-9_-]{0,60}$'
    union all
    select '/scope', 'must be empty (the site), an app or app/entity' from d
    where d ? 'scope' and coalesce(d->>'scope', '-') !~ '^([a-z][a-z0-9-]*(/[a-z][a-z0-9_]*)?)?$'
    union all
    select '/effect', 'must be allow or deny' from d where coalesce(d->>'effect', '') not in ('allow', 'deny')
    union all
    select '/fields/' || k, 'is for what a policy allows; one that denies takes "readable" (fields to hide) and "writable" (fields to lock)'
    from d, jsonb_object_keys(case jsonb_typeof(d->'fields') when 'object' then d->'fields' else '{}' end) k
    where d->>'effect' = 'deny' and k in ('masked', 'unmasked')
    union all
    select '/priority', 'must be a whole number' from d where d ? 'priority' and not pg_input_is_valid(coalesce(d->>'priority', ''), 'int')
    union all
    select '/enabled', 'must be true or false' from d where d ? 'enabled' and jsonb_typeof(d->'enabled') <> 'boolean'
    union all
    select '/description', 'must be a text' from d where d ? 'description' and jsonb_typeof(d->'description') <> 'string'
    union all
    select '/' || k, 'must be a list of 1 to 100 texts' from d, unnest(array['entities', 'actions']) k
    where d ? k and not case jsonb_typeof(d->k) when 'array' then jsonb_array_length(d->k) between 1 and 100
      and not jsonb_path_exists(d->k, 'strict $[*] ? (@.type() != "string")') else false end
    union all
    select '/actions/' || (a.n - 1), 'must be create, read, update, delete or *' from d,
      jsonb_array_elements(case jsonb_typeof(d->'actions') when 'array' then d->'actions' else '[]' end) with ordinality a (value, n)
    where a.value #>> '{}' not in ('create', 'read', 'update', 'delete', '*')
  ) x
$$;
comment on function access.policy_violations(jsonb) is 'What is wrong with the form of a policy: a JSON array of {pointer, message}.';

create or replace function access.save_version(site_id uuid, kind text, name text, definition jsonb) returns void
language sql set search_path = '' as $$
  insert into access.versions (site_id, kind, name, version, definition, created_by)
  select save_version.site_id, save_version.kind, save_version.name, coalesce(max(v.version), 0) + 1, save_version.definition,
    auth.account_id()
  from access.versions v where v.site_id = save_version.site_id and v.kind = save_version.kind and v.name = save_version.name
$$;
comment on function access.save_version(uuid, text, text, jsonb) is 'Keeps a definition of a role or policy as its next version; null for its end.';

create or replace function access.save_first_version(site_id uuid, kind text, name text, definition jsonb) returns void
language sql set search_path = '' as $$
  select access.save_version(save_first_version.site_id, save_first_version.kind, save_first_version.name, save_first_version.definition)
  where not exists (select from access.versions v
    where v.site_id = save_first_version.site_id and v.kind = save_first_version.kind and v.name = save_first_version.name)
$$;
comment on function access.save_first_version(uuid, text, text, jsonb) is 'Keeps what a role or policy was before its first change, where nothing is kept of it yet.';
