-- The way back: a document of rules becomes what a site has. It is tried first and taken back, so that only what really
-- differs is written: the same document twice is no change, however it is written.

create or replace function access.import_rules(site text, rules jsonb, dry_run boolean default false, force boolean default false,
  base text default null) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  _site tenancy.sites := access.require_control(import_rules.site, '@policies:define');
  _before jsonb;
  _failing jsonb;
  _entities uuid[];
  _changes jsonb;
  _broken jsonb;
begin
  perform access.require_control(import_rules.site, '@roles:define');
  if import_rules.rules ? 'groups' then
    perform access.require_control(import_rules.site, '@roles:assign');
  end if;
  perform access.check_rules(import_rules.rules);
  perform access.lock_model(_site.id);
  _before := access.rules_document(_site.id);
  if import_rules.base <> md5(_before::text) then
    perform rowhouse.fail(409, 'The rules of this site have changed since they were compared',
      'Compare again: access.import_rules(site, rules, dry_run => true).', 'changed');
  end if;
  _failing := access.failing_tests(_site.id);
  begin
    _entities := access.apply_rules(_site.id, _before, import_rules.rules);
    _changes := access.rules_diff(_before, access.rules_document(_site.id));
    perform access.save_rules(e) from data.entities e where e.id = any (_entities) order by e.id;
    _broken := access.broken_tests(_site.id, _failing);
    raise exception 'taken back' using errcode = 'RH002'; -- as data.try_definition does
  exception when sqlstate 'RH002' then
    null;
  end;
  if not import_rules.dry_run and _changes <> '[]' then
    _entities := access.apply_rules(_site.id, _before, import_rules.rules, _changes);
    perform access.take_effect(_site.id, _entities, _failing, import_rules.force);
  end if;
  return jsonb_build_object('changes', _changes, 'breaks', _broken, 'base', md5(_before::text), 'applied', not import_rules.dry_run
    and _changes <> '[]');
end
$$;
comment on function access.import_rules(text, jsonb, boolean, boolean, text) is
  'Makes the roles, policies, groups and tests of a site those of a document as access.export_rules gives it; what a section does not name is dropped, a section that is not there stays as it is, and so do the members of groups. All or nothing. Returns {"changes": [{kind, name, change: added, changed or dropped, diff: {added, removed, changed}}], "breaks": tests that would fail and did not, or new ones that fail, "base", "applied"}; with dry_run nothing is kept. base, from a dry run, refuses when the rules have changed since. Owners, admins, and who has @roles:define, @policies:define and, for groups, @roles:assign. RH400, RH403, RH404, RH409 a test would break (unless forced), or base.';

create or replace function access.check_rules(rules jsonb) returns void
language plpgsql immutable set search_path = '' as $$
declare
  _wrong record;
begin
  if jsonb_typeof(check_rules.rules) is distinct from 'object' or length(check_rules.rules::text) > 10000000 then
    perform rowhouse.fail(400, 'A document of rules is an object of at most 10,000,000 characters',
      '{"roles": {}, "policies": {}, "groups": {}, "tests": {}}', 'invalid_rules');
  end if;
  select x.* into _wrong from (
    select '/' || left(s.key, 80) as pointer,
      case when s.key in ('roles', 'policies', 'groups', 'tests') then 'must be an object'
      else 'is not known; rules have roles, policies, groups and tests' end as message
    from jsonb_each(check_rules.rules) s where s.key not in ('roles', 'policies', 'groups', 'tests') or jsonb_typeof(s.value) <> 'object'
    union all
    select '/' || s.key || '/' || replace(left(d.key, 80), '/', '~1'), case
      when s.key = 'tests' then 'must be a list of tests, each with a name of its own'
      else 'must be an object that is called as its own name'
        || case s.key when 'roles' then ' (and app) says' when 'policies' then ' (and scope) says' else ' says' end end
    from jsonb_each(check_rules.rules) s, jsonb_each(case jsonb_typeof(s.value) when 'object' then s.value else '{}' end) d
    where case
      when s.key = 'tests'
        then case jsonb_typeof(d.value)
        when 'array' then exists (select from jsonb_array_elements(d.value) t where jsonb_typeof(t->'name') is distinct from 'string')
        or (select count(*) <> count(distinct t->>'name') from jsonb_array_elements(d.value) t) else true end
      when jsonb_typeof(d.value) <> 'object' then true
      else d.key is distinct from coalesce(nullif(d.value->>case s.key when 'roles' then 'app' else 'scope' end, '') || '/', '')
        || (d.value->>'name') end
  ) x order by x.pointer limit 1;
  if _wrong.pointer is not null then
    perform rowhouse.fail(400, format('The rules are not valid: %s %s', _wrong.pointer, _wrong.message),
      'access.export_rules(site) shows the form.', 'invalid_rules', data.violation(_wrong.pointer, _wrong.message));
  end if;
end
$$;
comment on function access.check_rules(jsonb) is 'Raises RH400 unless a document of rules has the right form; what is in its definitions is checked where they are written.';

create or replace function access.rules_diff(old jsonb, new jsonb) returns jsonb
language sql stable set search_path = '' as $$
  select coalesce(jsonb_agg(jsonb_build_object('kind', kind, 'name', name,
    'change', case when o.definition is null then 'added' when n.definition is null then 'dropped' else 'changed' end,
    'diff', access.definition_diff(o.definition, n.definition)) order by kind, name), '[]')
  from access.rules_items(old) o full join access.rules_items(new) n using (kind, name)
  where o.definition is distinct from n.definition
$$;
comment on function access.rules_diff(jsonb, jsonb) is 'What differs between two documents of rules: [{kind, name, change, diff}].';

create or replace function access.rules_to_apply(site_id uuid, before jsonb, rules jsonb, changes jsonb)
  returns table (kind text, name text, definition jsonb)
language sql stable set search_path = '' as $$
  select kind, name, w.definition
  from (select i.* from access.rules_items(before) i where rules ? case i.kind when 'policy' then 'policies' else i.kind || 's' end) b
  full join access.rules_items(rules) w using (kind, name)
  where b.definition is distinct from w.definition
    and (changes is null or changes @> jsonb_build_array(jsonb_build_object('kind', kind, 'name', name)))
    and not (w.definition is null and kind = 'role' and (access.find_role(rules_to_apply.site_id, name)).system)
  -- What is needed first comes first: roles, policies, groups, tests; and roles go when nothing names them any more.
  order by case when w.definition is not null then array_position('{role,policy,group,test}', kind)
    else 10 - array_position('{role,policy,group,test}', kind) end, name
$$;
comment on function access.rules_to_apply(uuid, jsonb, jsonb, jsonb) is
  'What a document of rules says otherwise than the site''s (of changes only, when given), in the order in which it can be written; null for what is to be dropped. Roles that every site has are not.';

-- Roles may be new and inherit from each other: all are there, and none inherits, before the first is written.
create or replace function access.apply_rules(site_id uuid, before jsonb, rules jsonb, changes jsonb default null) returns uuid[]
language plpgsql set search_path = '' as $$
#variable_conflict use_column
declare
  _item record;
  _items jsonb := (select jsonb_agg(to_jsonb(i))
    from access.rules_to_apply(apply_rules.site_id, apply_rules.before, apply_rules.rules, apply_rules.changes) i);
  _entities uuid[] := '{}';
  _held jsonb := (select jsonb_object_agg(h.role_id, h.held) from (
    select r.role_id, jsonb_agg(r.held_id) as held from access.held_roles r where r.site_id = apply_rules.site_id group by r.role_id) h);
  _message text;
  _detail text;
  _hint text;
  _code text;
begin
  delete from access.role_parents p using jsonb_to_recordset(_items) i (kind text, name text)
  where i.kind = 'role' and p.role_id = (access.find_role(apply_rules.site_id, i.name)).id;
  insert into access.roles (site_id, app_id, name)
  select apply_rules.site_id, a.id, i.definition->>'name'
  from jsonb_to_recordset(_items) i (kind text, name text, definition jsonb)
  left join tenancy.apps a on a.site_id = apply_rules.site_id and a.name = i.definition->>'app'
  where i.kind = 'role' and access.role_violations(i.definition) = '[]' and (a.id is not null) = (i.definition ? 'app')
  on conflict do nothing;
  for _item in select i.kind, i.name, nullif(i.definition, 'null') as definition
    from jsonb_to_recordset(_items) i (kind text, name text, definition jsonb)
  loop
    begin
      _entities := _entities || access.put_rule(apply_rules.site_id, _item.kind, _item.name, _item.definition);
    exception when sqlstate 'RH000' then
      get stacked diagnostics _message = message_text, _detail = pg_exception_detail, _hint = pg_exception_hint, _code = returned_sqlstate;
      raise exception using errcode = _code, message = format('%s %s: %s', _item.kind, left(_item.name, 200), _message), detail = _detail,
        hint = _hint;
    end;
  end loop;
  -- Not one by one: each was taken to pieces before.
  perform access.refuse_other_names(r, array(select h::uuid from jsonb_array_elements_text(_held->r.id::text) h))
  from access.roles r where r.site_id = apply_rules.site_id and _held ? r.id::text;
  return _entities;
end
$$;
comment on function access.apply_rules(uuid, jsonb, jsonb, jsonb) is
  'Writes what a document of rules says and the site has not (of changes only, when given), and returns the entities for which that has to be put into effect. Internal. RH400, RH403, RH404, RH409.';

create or replace function access.put_rule(site_id uuid, kind text, name text, definition jsonb) returns uuid[]
language plpgsql set search_path = '' as $$
declare
  _app tenancy.apps;
begin
  if put_rule.kind in ('role', 'policy') then
    return access.put_definition(put_rule.site_id, put_rule.kind, put_rule.name, put_rule.definition);
  elsif put_rule.kind = 'group' then
    perform access.put_group(put_rule.site_id, put_rule.name, put_rule.definition);
    return '{}';
  end if;
  select a.* into _app from tenancy.apps a where a.site_id = put_rule.site_id and a.name = split_part(put_rule.name, '/', 1);
  if _app.id is null then
    perform rowhouse.fail(404, format('This site has no app %L', left(split_part(put_rule.name, '/', 1), 80)),
      'Tests are kept by the name of their app.', 'not_found');
  elsif put_rule.definition is null then
    delete from access.tests t where t.app_id = _app.id and t.name = substr(put_rule.name, length(_app.name) + 2);
  else
    perform access.save_test(_app, put_rule.definition);
  end if;
  return '{}';
end
$$;
comment on function access.put_rule(uuid, text, text, jsonb) is 'Writes or deletes (null) a role, policy, group or test. Internal. RH400, RH403, RH404, RH409.';

create or replace function access.put_group(site_id uuid, name text, definition jsonb) returns void
language plpgsql set search_path = '' as $$
declare
  _group uuid := (select g.id from access.groups g where g.site_id = put_group.site_id and g.name = put_group.name);
  _roles jsonb := coalesce(definition->'roles', '[]');
begin
  perform access.require_group_roles(_group);
  if put_group.definition is null then
    perform access.refuse_group_change(put_group.site_id, _group, null, false);
    delete from access.groups g where g.id = _group;
    return;
  elsif put_group.name !~ '^[a-z][a-z0-9_-]{0,60}$' or put_group.definition - 'name' - 'description' - 'roles' <> '{}'
    or jsonb_typeof(_roles) <> 'array'
    or coalesce(jsonb_typeof(definition->'description'), 'string') <> 'string' or length(definition->>'description') > 1000
    or exists (select from jsonb_array_elements(_roles) r where case jsonb_typeof(r) when 'string' then false
      when 'object' then jsonb_typeof(r->'role') is distinct from 'string'
        or r - 'role' - 'valid_from' - 'valid_until' - 'condition' <> '{}'
        or not pg_input_is_valid(coalesce(r->>'valid_from', 'now'), 'timestamptz')
          or not pg_input_is_valid(coalesce(r->>'valid_until', 'now'), 'timestamptz') else true end)
  then
    perform rowhouse.fail(400, 'The group is not valid',
      '{"name": "sales", "description": "…", "roles": ["crm/author", {"role": "editor", "valid_until": "2030-01-01", "condition": "env.weekday < 6"}]}',
      'invalid_group');
  end if;
  insert into access.groups (site_id, name, description) values (put_group.site_id, put_group.name, definition->>'description')
  on conflict on constraint groups_site_id_name_key do update set description = excluded.description returning id into _group;
  perform access.refuse_own_assignment(a.site_id, null, _group, a.role_id) from access.assignments a where a.group_id = _group;
  delete from access.assignments a where a.group_id = _group
    and not a.role_id = any (array(select (access.find_role(put_group.site_id, coalesce(r->>'role', r #>> '{}'))).id
      from jsonb_array_elements(_roles) r));
  perform access.save_assignment(put_group.site_id, null, _group, access.require_role(put_group.site_id, coalesce(r->>'role', r #>> '{}')),
    (r->>'valid_from')::timestamptz, (r->>'valid_until')::timestamptz, r->'condition')
  from jsonb_array_elements(_roles) r;
end
$$;
comment on function access.put_group(uuid, text, jsonb) is 'Writes a group and its roles, or deletes it (null). Internal; who may not give a role may not change a group that has it. RH400, RH403, RH404.';
