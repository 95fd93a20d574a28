-- Which roles, permissions and policies are used. A gateway counts requests in memory, by account, entity and action, and tells
-- once a minute; which rules concerned them is worked out then, so that no request writes or waits. Statements of psql have nobody
-- to count them but themselves: a row written by each was 52 µs to 282 of a list of 20, and makes writers of those who read.

create or replace function access.concerning_sql(entity data.entities, action text) returns text
language sql stable set search_path = '' as $$
  select format('select array_remove(array[%s]::text[], null) from (select $1 as _roles, $2 as _account, $3 as _env) s',
    coalesce(string_agg(format('case when (%s) is true then %L end',
      coalesce(nullif(access.subject_sql(s.subject, case when o.id is null then array[p.role_id] end, s.action, s.effect), ''), 'true'),
      case when o.id is not null then 'policy ' || access.policy_path(o) else 'permission ' || p.id end), ', '), ''))
  from access.rule_sources s
  left join lateral unnest(s.permission_ids) i (id) on true
  left join access.permissions p on p.id = i.id
  left join access.policies o on o.id = s.policy_id
  where s.entity_id = (concerning_sql.entity).id and s.action = concerning_sql.action
    and (o.id is not null or p.id is not null and not p.is_plain)
$$;
comment on function access.concerning_sql(data.entities, text) is
  'A statement that names the policies (policy path) and permissions (permission id) that concern an account doing action, over $1 (its roles), $2 (the account) and $3 (the environment), whatever the record.';

create or replace function access.action_of(operation text) returns text
language sql immutable parallel safe set search_path = '' as $$
  select case
    when operation in ('insert', 'insert_list', 'insert_ids') then 'create'
    when operation in ('get', 'find', 'search', 'aggregate', 'find_union', 'aggregate_union', 'export', 'history') then 'read'
    when operation in ('update', 'update_list', 'update_where', 'replace', 'upsert', 'restore') then 'update'
    when operation in ('delete', 'delete_where', 'purge') then 'delete' end
$$;
comment on function access.action_of(text) is
  'Which action an operation of data.compile, or an export, is counted as; null for others. One about several entities counts for each.';

-- Inlined into the gateway's statement: 12 µs of the 1,200 that a transaction of one insert takes; 70 as a function.
create or replace function access.uses_of(operations jsonb) returns text
language sql stable parallel safe
return (
  select jsonb_agg(distinct jsonb_build_array(o->>'entity', o->>'operation'))::text
  from jsonb_array_elements(case jsonb_typeof(operations) when 'object' then operations->'operations' else operations end) o);
comment on function access.uses_of(jsonb) is
  'What a transaction (data.transaction) that succeeded did, as JSON text for access.note_used: [[entity, operation], …]. For the '
  'gateway.';

create or replace function access.app_asked(app text) returns uuid
language sql stable security definer set search_path = '' as $$
  select a.id from tenancy.apps a where a.id = case when pg_input_is_valid(app_asked.app, 'uuid') then app_asked.app::uuid end
  union all
  select a.id
  from tenancy.sites s
  join tenancy.apps a on a.site_id = s.id and split_part(app_asked.app, '/', 2) in (a.name, a.id::text)
  where split_part(app_asked.app, '/', 1) in (s.name, s.id::text)
  limit 1
$$;
comment on function access.app_asked(text) is
  'The id of an app by its id or by site/app, each by name or id; null where there is none. Internal.';

create or replace function access.note_used(used jsonb) returns void
language plpgsql security definer set search_path = '' as $$
declare
  _before jsonb := access.claims() || jsonb_build_object('env', coalesce(current_setting('rowhouse.env', true), ''));
  _of record;
  _u record;
  _roles uuid[];
  _names text[];
  _found jsonb := '[]';
begin
  for _of in
    with uses as materialized (
      select * from jsonb_to_recordset(note_used.used) as u (app text, entity text, operation text, account uuid, env text,
        requests int) limit 1000
    ), apps as materialized (
      select u.app as asked, access.app_asked(u.app) as id from uses u group by u.app
    )
    select e as entity, o.action, access.entity_path(e) as path, access.concerning_sql(e, o.action) as sql, jsonb_agg(u) as uses
    from uses u
    join apps p on p.asked = u.app
    join data.entities e on e.app_id = p.id and e.name = u.entity
    join auth.accounts a on a.id = u.account
    cross join lateral access.action_of(u.operation) o (action)
    where o.action is not null and u.requests > 0
    group by e, o.action
  loop
    for _u in select u.* from jsonb_to_recordset(_of.uses) u (account uuid, env text, requests int) loop
      perform access.claim(jsonb_build_object('account', _u.account, 'site', (_of.entity).site_id));
      perform set_config('rowhouse.env', coalesce(_u.env, ''), true);
      _roles := access.roles_of((_of.entity).site_id, _u.account);
      execute _of.sql into _names using _roles, access.account(), access.env();
      _found := _found || (
        with permission as (
          select p, p.role_id from access.permissions p
          where p.role_id = any (_roles) and p.entity = any (access.patterns(_of.path)) and p.action in (_of.action, '*')
            and (p.is_plain or 'permission ' || p.id = any (_names))
        ),
        used (kind, name) as (
          select 'permission', access.role_path(r) || ' ' || access.permission_text(m.p)
          from permission m
          join access.roles r on r.id = m.role_id
          where not r.is_internal
          union
          select 'role', access.role_path(r)
          from permission m
          join access.held_roles h on h.held_id = m.role_id
          join access.roles r on r.id = h.role_id
          where r.id = any (_roles) and not r.is_internal
          union
          select 'policy', substr(n, 8) from unnest(_names) n where n like 'policy %'
        )
        select coalesce(jsonb_agg(jsonb_build_object('site', (_of.entity).site_id, 'account', _u.account, 'kind', x.kind, 'name', x.name,
          'requests', _u.requests)), '[]')
        from used x);
    end loop;
  end loop;
  perform access.claim(_before);
  perform set_config('rowhouse.env', _before->>'env', true);
  -- In one order, so that two gateways do not wait for each other in a circle.
  insert into access.used as x (site_id, account_id, kind, name, requests)
  select f.site, f.account, f.kind, f.name, sum(f.requests)
  from jsonb_to_recordset(_found) f (site uuid, account uuid, kind text, name text, requests bigint)
  group by f.site, f.account, f.kind, f.name order by f.site, f.kind, f.name, f.account
  on conflict (site_id, kind, name, account_id) do update set requests = x.requests + excluded.requests, last_at = now();
end
$$;
comment on function access.note_used(jsonb) is
  'Counts requests for access.usage: a JSON array of at most 1,000 of {app (its id, or site/app), entity, operation, account, env, '
  'requests}. For the gateway.';

create or replace function access.usage(site text) returns jsonb
language plpgsql stable security definer set search_path = '' as $$
declare
  _site tenancy.sites := access.require_control(usage.site, '@policies:define');
begin
  return jsonb_build_object(
    'since', (select min(u.first_at) from access.used u where u.site_id = _site.id),
    'roles', (
      select coalesce(jsonb_agg(jsonb_build_object('name', x.name, 'holders', x.holders, 'never_used_by', x.idle)
        || access.used_of(_site.id, 'role', x.name) order by x.name), '[]')
      from (
        select access.role_path(r) as name, count(distinct h.account_id) as holders,
          coalesce((array_agg(distinct a.email order by a.email) filter (where a.email is not null and not exists (
            select
            from access.used u
            where u.site_id = _site.id and u.kind = 'role' and u.name = access.role_path(r) and u.account_id = a.id)))[:20], '{}') as idle
        from access.roles r
        left join lateral access.holders(r) h on true
        left join auth.accounts a on a.id = h.account_id
        where r.site_id = _site.id and not r.is_internal group by r.id, r) x),
    'permissions', (
      select coalesce(jsonb_agg(jsonb_build_object('role', x.role, 'permission', x.permission)
        || access.used_of(_site.id, 'permission', x.role || ' ' || x.permission) order by x.role, x.permission), '[]')
      from (select distinct access.role_path(r) as role, access.permission_text(p) as permission
        from access.permissions p
        join access.roles r on r.id = p.role_id
        where r.site_id = _site.id and not r.is_internal and p.entity !~ '(^|/)@') x),
    'policies', (
      select coalesce(jsonb_agg(jsonb_build_object('name', access.policy_path(p), 'effect', p.effect, 'enabled', p.enabled,
        'in_effect', exists (select from access.rule_sources s where s.policy_id = p.id))
          || access.used_of(_site.id, 'policy', access.policy_path(p)) order by access.policy_path(p)), '[]')
      from access.policies p where p.site_id = _site.id),
    'expired', (
      select coalesce(jsonb_agg(jsonb_build_object('account', (select c.email from auth.accounts c where c.id = a.account_id),
        'group', (select g.name from access.groups g where g.id = a.group_id),
        'role', (select access.role_path(r) from access.roles r where r.id = coalesce(a.source_role_id, a.role_id)), 'valid_until',
        a.valid_until) order by a.valid_until), '[]')
      from access.assignments a where a.site_id = _site.id and a.valid_until <= now()));
end
$$;
comment on function access.usage(text) is
  'What of a site''s rules is used: {"since", "roles": [{name, holders (members assigned now, directly or by a group), requests, last_used, '
  'never_used_by (up to 20 holders)}], "permissions": [{role, permission, requests, last_used}], "policies": [{name, effect, enabled, '
  'in_effect (for some entity), requests, last_used}], "expired" assignments: [{account, group, role, valid_until}]}. Counted are requests '
  'for records over REST and GraphQL that succeeded, by the gateway, told once a minute: a role or permission counts where the account held '
  'it and it was about that entity and action, a policy where its conditions on account and circumstances held then. A query of GraphQL '
  'counts once for each entity that it asks for, a mutation for what it writes; a search, a union, an export of an app and a transaction '
  'once for each of their entities and what is done with it. Whether a record fulfilled the rest is not known; psql is not counted, and '
  'a killed gateway loses up to a minute. Owners, admins and '
  '@policies:define. RH403, RH404.';

create or replace function access.used_of(site_id uuid, kind text, name text) returns jsonb
language sql stable set search_path = '' as $$
  select jsonb_build_object('requests', coalesce(sum(u.requests), 0), 'last_used', max(u.last_at)) from access.used u
  where u.site_id = used_of.site_id and u.kind = used_of.kind and u.name = used_of.name
$$;
comment on function access.used_of(uuid, text, text) is 'How often a role, permission or policy was used, and when last. Internal.';

create or replace function access.holders(role access.roles) returns table (account_id uuid)
language sql stable set search_path = '' as $$
  select m.account_id
  from access.held_roles h
  join access.assignments a on a.role_id = h.role_id and a.site_id = (holders.role).site_id
  join tenancy.site_members m on m.site_id = a.site_id
    and (m.account_id = a.account_id or m.account_id in (select g.account_id from access.group_members g where g.group_id = a.group_id))
  where h.held_id = (holders.role).id and (a.valid_from is null or a.valid_from <= now())
    and (a.valid_until is null or a.valid_until > now())
  union
  select m.account_id
  from tenancy.site_members m
  where m.site_id = (holders.role).site_id and (holders.role).system and (holders.role).name in ('authenticated', 'anonymous')
$$;
comment on function access.holders(access.roles) is 'The members who were assigned a role, or one that inherits it, directly or by a group, and for whom that is valid now.';
