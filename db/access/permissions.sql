-- Permissions as text: [app/]entity:action[:own], with * for all; @entities:define and the like are of the control plane.

create or replace function access.parse_permission(permission text, app text, out entity text, out action text, out own boolean)
language plpgsql immutable set search_path = '' as $$
declare
  _m text[] := regexp_match(permission, '^(?:([a-z][a-z0-9-]*|\*)/)?(@?[a-z][a-z0-9_]*|\*):([a-z][a-z_]*|\*)(:own)?$');
begin
  if _m is null or length(permission) > 200
    or _m[2] not like '@%' and _m[3] not in ('create', 'read', 'update', 'delete', '*')
    or _m[2] like '@%' and (_m[4] is not null or not access.is_control_action(_m[2], _m[3]))
  then
    perform rowhouse.fail(400, format('%L is not a permission', left(permission, 80)),
      'A permission is app/entity:action or entity:action, with * for all, and :own for records that one has created: crm/contacts:read, crm/*:update, posts:delete:own, *:*. Actions: create, read, update, delete. Of the control plane: '
        || access.control_permissions() || '.', 'invalid_permission');
  elsif parse_permission.app is not null and _m[1] is not null and _m[1] <> parse_permission.app then
    perform rowhouse.fail(400, format('%L is not of the app %s', left(permission, 80), parse_permission.app),
      'A role of an app has permissions in that app only.', 'invalid_permission');
  end if;
  entity := case
    when coalesce(_m[1], parse_permission.app) is null then case when _m[2] = '*' or _m[2] like '@%' then _m[2] else '*/' || _m[2] end
    when coalesce(_m[1], parse_permission.app) = '*' then case when _m[2] = '*' then '*' else '*/' || _m[2] end
    else coalesce(_m[1], parse_permission.app) || '/' || _m[2] end;
  action := _m[3];
  own := _m[4] is not null;
end
$$;
comment on function access.parse_permission(text, text) is
  'A permission text as the pattern of entities it is about, its action, and whether it is for own records only; app completes names without one. RH400.';

create or replace function access.control_permissions() returns text
language sql immutable parallel safe as $$
  select '@entities:define, @roles:define, @roles:assign, @policies:define, @shares:define, @members:manage, @settings:update, @audit:read, @variables:read, @variables:write, @functions:deploy'
$$;
comment on function access.control_permissions() is 'The permissions of the control plane, for a hint.';

create or replace function access.is_control_action(resource text, action text) returns boolean
language sql immutable parallel safe as $$
  select is_control_action.action = '*' and strpos(access.control_permissions(), is_control_action.resource || ':') > 0
    or (is_control_action.resource || ':' || is_control_action.action) = any (string_to_array(access.control_permissions(), ', '))
$$;
comment on function access.is_control_action(text, text) is 'Whether a control-plane resource (@entities) knows an action.';

create or replace function access.patterns(entity text) returns text[]
language sql immutable parallel safe
return array['*', patterns.entity, split_part(patterns.entity, '/', 1) || '/*', '*/' || split_part(patterns.entity, '/', 2)];
comment on function access.patterns(text) is 'The patterns that match an entity app/entity: *, crm/*, */posts and crm/posts itself.';

create or replace function access.permission_text(permission access.permissions) returns text
language sql stable set search_path = '' as $$
  select regexp_replace((permission).entity, '^\*/', '') || ':' || (permission).action || case when (permission).own then ':own' else '' end
$$;
comment on function access.permission_text(access.permissions) is 'A permission as it is written: crm/posts:update:own.';

-- Becomes a part of what asks.
create or replace function access.plain_permissions(roles uuid[], site_id uuid, entity text, action text) returns table (id uuid)
language sql stable parallel safe as $$
  select p.id from access.permissions p
  where p.role_id = any (plain_permissions.roles) and p.site_id = plain_permissions.site_id and p.is_plain
    and p.action in (plain_permissions.action, '*') and p.entity = any (access.patterns(plain_permissions.entity))
$$;
comment on function access.plain_permissions(uuid[], uuid, text, text) is
  'The permissions of roles on an entity app/entity of a site that depend on nothing.';

-- Called where the search path is pinned already: pinning it costs as much as a call. 9 µs, 13 as a function of SQL.
create or replace function access.holds_plainly(roles uuid[], site_id uuid, entity text, action text) returns boolean
language plpgsql stable parallel safe as $$
begin
  return exists (
    select from access.plain_permissions(holds_plainly.roles, holds_plainly.site_id, holds_plainly.entity, holds_plainly.action));
end
$$;
comment on function access.holds_plainly(uuid[], uuid, text, text) is 'Whether one of roles has a permission on an entity app/entity of a site that depends on nothing.';

-- Called once per statement from the policies of entities for which nothing special was said, as (select access.allows(…)): 2 µs where the
-- gateway knows what the roles may do, else 13; as one expression of SQL 20.
create or replace function access.allows(site_id uuid, entity text, action text) returns boolean
language plpgsql stable security definer parallel safe set search_path = '' as $$
declare
  _rights text := access.rights();
begin
  if allows.site_id = tenancy.site_id() and (case
    when _rights is null then access.holds_plainly(access.role_ids(), allows.site_id, allows.entity, allows.action)
    else access.grants_right(_rights, allows.entity, allows.action) end)
  then
    return true;
  end if;
  return auth.is_operator();
end
$$;
comment on function access.allows(uuid, text, text) is
  'Whether the account of the claims may do action (create, read, update, delete) on every record of entity app/entity of a site, by any of its roles there, before conditions and policies. Always true for the operator.';

create or replace function access.require(site_id uuid, entity text, action text) returns boolean
language plpgsql stable security definer parallel safe set search_path = '' as $$
begin
  if not access.allows(require.site_id, require.entity, require.action) then
    perform access.refuse(require.entity, require.action);
  end if;
  return true;
end
$$;
comment on function access.require(uuid, text, text) is
  'True when access.allows says so; else raises RH403 with the caller''s roles and the permission that is missing.';
