drop function if exists access.define_role(text, jsonb);
create or replace function access.define_role(site text, definition jsonb, force boolean default false) returns access.roles
language plpgsql security definer set search_path = '' as $$
declare
  _site tenancy.sites := access.require_control(define_role.site, '@roles:define');
  _failing jsonb;
  _saved record;
begin
  perform access.lock_model(_site.id);
  _failing := access.failing_tests(_site.id);
  _saved := access.save_role(_site.id, define_role.definition);
  perform access.take_effect(_site.id, _saved.entities, _failing, define_role.force);
  return _saved.role;
end
$$;
comment on function access.define_role(text, jsonb, boolean) is
  'Creates or replaces a role: {"name", "app", "description", "inherits": [roles], "permissions": [...], "data_filters": {entity: condition}}. A permission is a text, posts:update:own, or {"permission": text, "condition": a filter or its text, "fields": {"readable", "writable", "unmasked": [fields], "masked": {field: mask}}}; data_filters narrow all permissions on an entity. In effect from everybody''s next statement. Owners, admins, and who has @roles:define, with permissions that they hold themselves. RH400 lists what is wrong by JSON pointer; RH403, RH404, RH409 the role admin, or a test of access that passed would fail (unless forced).';

create or replace function access.save_role(site_id uuid, definition jsonb, out role access.roles, out entities uuid[])
language plpgsql set search_path = '' as $$
#variable_conflict use_column
declare
  _errors jsonb := access.role_violations(save_role.definition);
  _role access.roles;
  _app tenancy.apps;
  _entities uuid[];
  _parents uuid[];
  _path text;
  _held uuid[];
begin
  if _errors <> '[]' then
    perform rowhouse.fail(400, format('The role is not valid: %s %s', _errors #>> '{0,pointer}', _errors #>> '{0,message}'),
      '{"name": "content_editor", "permissions": ["posts:read", "posts:update:own"], "inherits": ["viewer"], "data_filters": {"posts": "status = ''draft''"}}',
      'invalid_role', _errors);
  elsif definition ? 'app' then
    _app := tenancy.require_app((select s.name from tenancy.sites s where s.id = save_role.site_id) || '/' || (definition->>'app'));
  end if;
  _path := coalesce(_app.name || '/', '') || (definition->>'name');
  _role := access.find_role(save_role.site_id, _path);
  if _role.system and _role.name = 'admin' then
    perform rowhouse.fail(409, 'The role admin is what it is in every site', 'Define another role; it may inherit from admin.',
      'system_role');
  elsif exists (select from access.permissions p where p.role_id = _role.id) then
    perform access.save_first_version(save_role.site_id, 'role', _path, access.role_definition(_role));
  end if;
  _entities := access.concerned_entities(array[_role.id]);
  _held := array(select h.held_id from access.held_roles h where h.role_id = _role.id);
  insert into access.roles as r (site_id, app_id, name, description) values (save_role.site_id, _app.id, definition->>'name',
    definition->>'description')
  on conflict (site_id, app_id, name) do update set description = excluded.description, version = r.version + 1
  returning r.* into _role;
  _parents := array(select access.require_role(save_role.site_id, p)
    from jsonb_array_elements_text(coalesce(definition->'inherits', '[]')) p);
  delete from access.role_parents p where p.role_id = _role.id;
  insert into access.role_parents (role_id, parent_id, site_id) select distinct _role.id, p, save_role.site_id from unnest(_parents) p;
  if exists (
    with recursive above (id) as (
      select unnest(_parents)
      union
      select p.parent_id from above a join access.role_parents p on p.role_id = a.id)
    select from above where id = _role.id)
  then
    perform rowhouse.fail(400, format('%s would inherit from itself', _path), 'A role and those it inherits from form no circle.',
      'invalid_role',
      data.violation('/inherits', 'leads back to this role'));
  end if;
  perform access.rebuild_held_roles(save_role.site_id);
  perform access.refuse_other_names(_role, _held);
  perform access.save_permissions(_role, _app.name, definition);
  perform access.save_version(save_role.site_id, 'role', _path, access.role_definition(_role));
  role := _role;
  entities := _entities || access.concerned_entities(array[_role.id]);
end
$$;
comment on function access.save_role(uuid, jsonb) is 'Writes a role, and tells for which entities it has to be put into effect. Internal: callers check who may define roles and hold the lock of the model. RH400, RH403 more than the caller holds, RH404, RH409.';

create or replace function access.role_violations(definition jsonb) returns jsonb
language sql stable set search_path = '' as $$
  select coalesce(jsonb_agg(jsonb_build_object('pointer', x.pointer, 'message', x.message) order by x.pointer), '[]')
  from (
    select '' as pointer, 'must be an object' as message where jsonb_typeof(definition) is distinct from 'object'
    union all
    select '/' || k.key, case
      when k.key not in ('name', 'app', 'description', 'inherits', 'permissions', 'data_filters')
        then 'is not known; a role has name, app, description, inherits, permissions and data_filters'
      when k.key in ('name', 'app', 'description') then 'must be a text'
      when k.key = 'data_filters' then 'must be an object of conditions by entity'
      else 'must be a list of at most 500' end
    from jsonb_each(case jsonb_typeof(definition) when 'object' then definition else '{}' end) k
    where not case
      when k.key in ('name', 'app', 'description') then jsonb_typeof(k.value) = 'string'
      when k.key = 'data_filters' then jsonb_typeof(k.value) = 'object'
      when k.key in ('inherits', 'permissions')
        then case jsonb_typeof(k.value) when 'array' then jsonb_array_length(k.value) <= 500 else false end
      else false end
    union all
    select '/name', 'must be up to 60 lower-case letters, digits, _ and -, beginning with a letter'
    where jsonb_typeof(definition) = 'object' and coalesce(definition->>'name', '') !~ '^[a-z][a-z0-9_-]{0,60}$'
    union all
    select '/permissions/' || (p.n - 1), 'must be a text or {"permission", "condition", "fields"}'
    from jsonb_array_elements(case jsonb_typeof(definition->'permissions') when 'array' then definition->'permissions'
      else '[]' end) with ordinality p (value, n)
    where not (jsonb_typeof(p.value) = 'string'
      or jsonb_typeof(p.value) = 'object' and jsonb_typeof(p.value->'permission') = 'string'
        and p.value - 'permission' - 'condition' - 'fields' = '{}')
    union all
    select '/inherits/' || (p.n - 1), 'must be the name of a role'
    from jsonb_array_elements(case jsonb_typeof(definition->'inherits') when 'array' then definition->'inherits'
      else '[]' end) with ordinality p (value, n)
    where jsonb_typeof(p.value) <> 'string'
  ) x
$$;
comment on function access.role_violations(jsonb) is 'What is wrong with the form of a role''s definition: a JSON array of {pointer, message}.';

create or replace function access.save_permissions(role access.roles, app text, definition jsonb) returns void
language plpgsql set search_path = '' as $$
declare
  _p record;
  _filter record;
  _t record;
  _condition jsonb;
  _fields jsonb;
  _unused text;
  _kept uuid[] := '{}';
  _id uuid;
  _held access.permissions[] := access.held_permissions(role);
begin
  for _p in select p.value, p.n - 1 as n
    from jsonb_array_elements(coalesce(definition->'permissions', '[]')) with ordinality p (value, n) loop
    _t := access.parse_permission(coalesce(_p.value->>'permission', _p.value #>> '{}'), save_permissions.app);
    _condition := access.condition_of(role.site_id, _p.value->'condition', format('/permissions/%s/condition', _p.n));
    for _filter in select f.key, f.value from jsonb_each(coalesce(definition->'data_filters', '{}')) f loop
      if access.covers((access.parse_permission(_filter.key || ':read', save_permissions.app)).entity, _t.entity) then
        _condition := access.both_conditions(_condition, access.condition_of(role.site_id, _filter.value, '/data_filters/' || _filter.key));
      end if;
    end loop;
    _fields := access.fields_of(_p.value->'fields', format('/permissions/%s/fields', _p.n));
    insert into access.permissions as x (site_id, role_id, entity, action, own, condition, fields)
    values (role.site_id, role.id, _t.entity, _t.action, _t.own, _condition, _fields)
    on conflict (role_id, entity, action, own, md5(coalesce(condition::text, '')),
      md5(coalesce(fields::text, ''))) do update set action = excluded.action
    returning x.id into _id;
    _kept := _kept || _id;
  end loop;
  select f.key into _unused from jsonb_object_keys(coalesce(definition->'data_filters', '{}')) f (key)
  where not exists (select from access.permissions x where x.id = any (_kept)
    and access.covers((access.parse_permission(f.key || ':read', save_permissions.app)).entity, x.entity));
  if _unused is not null then
    perform rowhouse.fail(400, format('The role has no permission on %L that a filter could narrow', left(_unused, 80)),
      'Name the entity as its permissions do; a filter narrows permissions on exactly what it names.', 'invalid_role',
      data.violation('/data_filters/' || _unused, 'narrows no permission'));
  end if;
  delete from access.permissions x where x.role_id = role.id and not x.id = any (_kept);
  perform access.refuse_escalation(role, _held);
end
$$;
comment on function access.save_permissions(access.roles, text, jsonb) is 'Writes the permissions of a role''s definition and removes those it no longer has. RH400, RH403 more than the caller holds.';

-- A filter on posts must narrow *:read too, else the role would see all posts by the wider permission.
create or replace function access.covers(filtered text, permitted text) returns boolean
language sql immutable set search_path = '' as $$ select filtered = permitted or filtered = '*' $$;
comment on function access.covers(text, text) is 'Whether a filter on one pattern of entities narrows a permission on another.';

create or replace function access.condition_of(site_id uuid, condition jsonb, pointer text) returns jsonb
language plpgsql stable set search_path = '' as $$
declare
  _filter jsonb;
  _errors jsonb;
begin
  if condition is null or condition in ('null', '{}') then
    return null;
  end if;
  _filter := case jsonb_typeof(condition) when 'string' then access.parse_condition(condition #>> '{}') else condition end;
  select jsonb_agg(e || jsonb_build_object('pointer', condition_of.pointer || (e->>'pointer'))) into _errors
  from jsonb_array_elements(access.condition_violations(condition_of.site_id, null, _filter)) e;
  if _errors is not null then
    perform rowhouse.fail(400, format('A condition is not valid: %s %s', _errors #>> '{0,pointer}', _errors #>> '{0,message}'),
      'A condition is a filter, {"region": {"$in": "$account.attributes.regions"}}, or its text, region in current_user.attributes.regions.',
      'invalid_condition', _errors);
  end if;
  return _filter;
end
$$;
comment on function access.condition_of(uuid, jsonb, text) is 'A condition, given as a filter or as text, as a filter; null for one that is always true. RH400 with pointers under pointer.';

create or replace function access.both_conditions(one jsonb, other jsonb) returns jsonb
language sql immutable set search_path = '' as $$
  select case when one is null then other when other is null then one else jsonb_build_object('$and', jsonb_build_array(one, other)) end
$$;
comment on function access.both_conditions(jsonb, jsonb) is 'The condition that both conditions hold; null is always true.';

create or replace function access.fields_of(fields jsonb, pointer text) returns jsonb
language plpgsql immutable set search_path = '' as $$
declare
  _wrong text;
begin
  if fields is null or fields in ('null', '{}') then
    return null;
  end if;
  select k.key into _wrong from jsonb_each(case jsonb_typeof(fields) when 'object' then fields else '{"": 0}' end) k
  where not case
    when k.key in ('readable', 'writable', 'unmasked') then jsonb_typeof(k.value) = 'array'
      and not jsonb_path_exists(k.value, 'strict $[*] ? (@.type() != "string")')
    when k.key = 'masked' then jsonb_typeof(k.value) = 'object' and not exists (
      select
      from jsonb_each(case jsonb_typeof(k.value) when 'object' then k.value else '{}' end) m
      where jsonb_typeof(m.value) <> 'string' or not access.is_mask(m.value #>> '{}'))
    else false end;
  if _wrong is not null or length(fields::text) > 20000 then
    perform rowhouse.fail(400, 'The field rules of a permission are not valid',
      '{"readable": ["title"], "writable": ["title"], "unmasked": ["email"], "masked": {"phone": "last_four"}}',
      'invalid_role', data.violation(pointer || coalesce('/' || nullif(_wrong, ''), ''),
        'must be lists of fields (readable, writable, unmasked) or masks by field (masked): redact, hash, last_four, email, year, null, or a template such as ***-{last4}'));
  end if;
  return fields;
end
$$;
comment on function access.fields_of(jsonb, text) is 'The field rules of a permission, when they have the right form; null for none. RH400.';

create or replace function access.role_definition(role access.roles) returns jsonb
language sql stable set search_path = '' as $$
  select jsonb_build_object('name', (role).name)
    || access.member('app', (select to_jsonb(a.name) from tenancy.apps a where a.id = (role).app_id))
    || access.member('description', to_jsonb((role).description))
    || access.member('inherits',
      (select jsonb_agg(access.role_path(r) order by access.role_path(r)) from access.role_parents p
      join access.roles r on r.id = p.parent_id where p.role_id = (role).id))
    || jsonb_build_object('permissions', coalesce((select jsonb_agg(case when p.condition is null
      and p.fields is null then to_jsonb(access.permission_text(p))
        else jsonb_build_object('permission', access.permission_text(p)) || access.member('condition', p.condition)
          || access.member('fields', p.fields) end
      order by access.permission_text(p), p.condition::text, p.fields::text) from access.permissions p where p.role_id = (role).id), '[]'))
$$;
comment on function access.role_definition(access.roles) is 'A role as access.define_role takes it.';

create or replace function access.member(name text, value jsonb) returns jsonb
language sql immutable parallel safe set search_path = '' as $$ select case when value is null then '{}'
  else jsonb_build_object(name, value) end $$;
comment on function access.member(text, jsonb) is 'An object of one member, or of none when its value is null.';

drop function if exists access.grant_permission(text, text, text, jsonb, jsonb);
create or replace function access.grant_permission(site text, role text, permission text, condition jsonb default null,
  fields jsonb default null, force boolean default false) returns void
language plpgsql security definer set search_path = '' as $$
declare
  _site tenancy.sites := access.require_control(grant_permission.site, '@roles:define');
  _role access.roles;
  _definition jsonb;
begin
  perform access.lock_model(_site.id);
  select r.* into _role from access.roles r where r.id = access.require_role(_site.id, grant_permission.role);
  _definition := access.role_definition(_role);
  perform access.define_role(grant_permission.site, jsonb_set(_definition, '{permissions}', (_definition->'permissions')
    || jsonb_build_array(jsonb_build_object('permission', permission) || access.member('condition', nullif(condition, 'null'))
      || access.member('fields', nullif(fields, 'null')))), grant_permission.force);
end
$$;
comment on function access.grant_permission(text, text, text, jsonb, jsonb, boolean) is
  'Adds a permission to a role of a site: access.grant_permission(''acme'', ''anonymous'', ''crm/posts:read'', ''{"status": "published"}''). In effect from everybody''s next statement. Owners, admins and @roles:define. RH400, RH403, RH404, RH409 the role admin, or a test would fail that passed (unless forced).';

drop function if exists access.revoke_permission(text, text, text);
create or replace function access.revoke_permission(site text, role text, permission text, force boolean default false) returns void
language plpgsql security definer set search_path = '' as $$
declare
  _site tenancy.sites := access.require_control(revoke_permission.site, '@roles:define');
  _role access.roles;
  _definition jsonb;
  _kept jsonb;
begin
  perform access.lock_model(_site.id);
  select r.* into _role from access.roles r where r.id = access.require_role(_site.id, revoke_permission.role);
  _definition := access.role_definition(_role);
  select coalesce(jsonb_agg(p), '[]') into _kept
  from jsonb_array_elements(_definition->'permissions') p
  where coalesce(p->>'permission', p #>> '{}') <> revoke_permission.permission;
  if jsonb_array_length(_kept) = jsonb_array_length(_definition->'permissions') then
    perform rowhouse.fail(404, format('The role %s has no permission %L', revoke_permission.role, left(revoke_permission.permission, 80)),
      'Its permissions: ' || coalesce((select string_agg(coalesce(p->>'permission', p #>> '{}'), ', ')
        from jsonb_array_elements(_definition->'permissions') p), 'none') || '.', 'not_found');
  end if;
  perform access.define_role(revoke_permission.site, jsonb_set(_definition, '{permissions}', _kept), revoke_permission.force);
end
$$;
comment on function access.revoke_permission(text, text, text, boolean) is
  'Takes a permission, with every condition it stands under, from a role. In effect from everybody''s next statement. Owners, admins and @roles:define. RH403, RH404 lists the permissions it has, RH409 the role admin, or a test would fail that passed (unless forced).';
