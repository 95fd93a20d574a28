-- What a role or policy was: its versions, what changed between two, and the way back.

create or replace function access.require_kind(site text, kind text) returns tenancy.sites
language plpgsql stable set search_path = '' as $$
begin
  if require_kind.kind is null or require_kind.kind not in ('role', 'policy') then
    perform rowhouse.fail(400, format('%L has no versions', left(require_kind.kind, 40)), 'Kinds: role, policy.', 'invalid_kind');
  end if;
  return access.require_control(require_kind.site, case require_kind.kind when 'role' then '@roles:define' else '@policies:define' end);
end
$$;
comment on function access.require_kind(text, text) is 'The site, when the current account may define its roles, or its policies. RH400, RH403, RH404.';

create or replace function access.history_of(site text, kind text, name text)
returns table (version int, at timestamptz, by text, definition jsonb)
language plpgsql stable security definer set search_path = '' as $$
declare
  _site tenancy.sites := access.require_kind(history_of.site, history_of.kind);
begin
  return query
    select v.version, v.created_at, (select a.email from auth.accounts a where a.id = v.created_by), access.readable(v.definition)
    from access.versions v
    where v.site_id = _site.id and v.kind = history_of.kind and v.name = history_of.name order by v.version desc limit 1000;
  if not found then
    perform rowhouse.fail(404, format('There never was a %s %L here', history_of.kind, left(history_of.name, 80)),
      'Names: editor, crm/author; of policies night, crm/night, crm/posts/night.', 'not_found');
  end if;
end
$$;
comment on function access.history_of(text, text, text) is
  'The versions of a role (crm/author) or policy (crm/posts/night) of a site, newest first, the last 1,000: when, by whom (null: the operator) and the definition, conditions as text; null where it was dropped. Of kind role or policy. Owners, admins, and @roles:define or @policies:define. RH400, RH403, RH404.';

create or replace function access.readable(definition jsonb) returns jsonb
language sql stable set search_path = '' as $$
  select definition
    || case when jsonb_typeof(definition->'permissions') = 'array' then jsonb_build_object('permissions', (
        select coalesce(jsonb_agg(case when p ? 'condition'
          and jsonb_typeof(p) = 'object' then jsonb_set(p, '{condition}', access.readable_condition(p->'condition')) else p end order by n),
          '[]')
        from jsonb_array_elements(definition->'permissions') with ordinality x (p, n))) else '{}' end
    || case when definition ? 'condition' then jsonb_build_object('condition', access.readable_condition(definition->'condition'))
      else '{}' end
$$;
comment on function access.readable(jsonb) is 'A definition of a role or policy with its conditions as text; null for null.';

-- What does not come back from its text as it is stays a filter.
create or replace function access.readable_condition(condition jsonb) returns jsonb
language plpgsql stable set search_path = '' as $$
declare
  _text text;
begin
  if jsonb_typeof(condition) is distinct from 'object' or condition = '{}' then
    return condition;
  end if;
  _text := access.condition_text(condition);
  if access.condition_text(access.parse_condition(_text)) <> _text then
    return condition;
  end if;
  return to_jsonb(_text);
exception when sqlstate 'RH000' then
  return condition;
end
$$;
comment on function access.readable_condition(jsonb) is 'A condition as text, where access.parse_condition reads the same from it; else as it is.';

create or replace function access.require_version(site_id uuid, kind text, name text, version int) returns jsonb
language plpgsql stable set search_path = '' as $$
declare
  _v access.versions;
begin
  select v.* into _v from access.versions v
  where v.site_id = require_version.site_id and v.kind = require_version.kind and v.name = require_version.name
    and v.version = require_version.version;
  if _v.id is null then
    perform rowhouse.fail(404,
      format('There is no version %s of the %s %L', require_version.version, require_version.kind, left(require_version.name, 80)),
      'access.history_of(site, kind, name) lists the versions.', 'not_found');
  end if;
  return _v.definition;
end
$$;
comment on function access.require_version(uuid, text, text, int) is 'The definition that a role or policy had in a version; null where it was dropped. RH404.';

create or replace function access.diff(site text, kind text, name text, "from" int, "to" int) returns jsonb
language plpgsql stable security definer set search_path = '' as $$
declare
  _site tenancy.sites := access.require_kind(diff.site, diff.kind);
begin
  return access.definition_diff(access.require_version(_site.id, diff.kind, diff.name, diff."from"),
    access.require_version(_site.id, diff.kind, diff.name, diff."to"));
end
$$;
comment on function access.diff(text, text, text, int, int) is
  'What changed between two versions of a role or policy: {"added": {member: value}, "removed": {member: value}, "changed": {member: {from, to}, or {added, removed} of a list}}, conditions as text. Owners, admins, and @roles:define or @policies:define. RH400, RH403, RH404.';

create or replace function access.definition_diff(old jsonb, new jsonb) returns jsonb
language sql stable set search_path = '' as $$
  select jsonb_build_object('added', coalesce(jsonb_object_agg(k, n) filter (where o is null), '{}'),
    'removed', coalesce(jsonb_object_agg(k, o) filter (where n is null), '{}'),
    'changed', coalesce(jsonb_object_agg(k, case when jsonb_typeof(o) = 'array' and jsonb_typeof(n) = 'array' then jsonb_build_object(
        'added', (select coalesce(jsonb_agg(e), '[]') from jsonb_array_elements(n) e where not o @> jsonb_build_array(e)),
        'removed', (select coalesce(jsonb_agg(e), '[]') from jsonb_array_elements(o) e where not n @> jsonb_build_array(e)))
      else jsonb_build_object('from', o, 'to', n) end) filter (where o is not null and n is not null), '{}'))
  from (
    select k, x.o->k as o, x.n->k as n
    from (select coalesce(access.readable(definition_diff.old), '{}') as o, coalesce(access.readable(definition_diff.new), '{}') as n) x,
      lateral (select jsonb_object_keys(x.o || x.n) as k) keys
  ) d
  where o is distinct from n
$$;
comment on function access.definition_diff(jsonb, jsonb) is 'What is added, removed and changed between two definitions.';

create or replace function access.rollback(site text, kind text, name text, version int, force boolean default false) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  _site tenancy.sites := access.require_kind(rollback.site, rollback.kind);
  _failing jsonb;
  _entities uuid[];
begin
  perform access.lock_model(_site.id);
  _failing := access.failing_tests(_site.id);
  _entities := access.put_definition(_site.id, rollback.kind, rollback.name,
    access.require_version(_site.id, rollback.kind, rollback.name, rollback.version));
  perform access.take_effect(_site.id, _entities, _failing, rollback.force);
  return (
    select jsonb_build_object('version', v.version, 'definition', access.readable(v.definition)) from access.versions v
    where v.site_id = _site.id and v.kind = rollback.kind and v.name = rollback.name order by v.version desc limit 1);
end
$$;
comment on function access.rollback(text, text, text, int, boolean) is
  'Gives a role or policy the definition it had in a version (drops it, where that version is its end), as a new version: {version, definition}. Assignments that went with a dropped role do not come back. Owners, admins, and @roles:define or @policies:define. RH400, RH403, RH404, RH409 a test of access that passed would fail (unless forced), or the definition does not fit any more.';

create or replace function access.put_definition(site_id uuid, kind text, name text, definition jsonb) returns uuid[]
language plpgsql set search_path = '' as $$
declare
  _exists boolean;
begin
  _exists := case put_definition.kind when 'role' then (access.find_role(put_definition.site_id, put_definition.name)).id is not null
    else exists (select from access.policies p
      where p.site_id = put_definition.site_id and access.policy_path(p) = put_definition.name) end;
  if put_definition.definition is not null then
    return case put_definition.kind when 'role' then (access.save_role(put_definition.site_id, put_definition.definition)).entities
      else (access.save_policy(put_definition.site_id, put_definition.definition)).entities end;
  elsif not _exists then
    return '{}';
  elsif put_definition.kind = 'role' then
    return access.remove_role(put_definition.site_id, put_definition.name);
  end if;
  return access.remove_policy(put_definition.site_id, regexp_replace(put_definition.name, '^.*/', ''),
    coalesce(substring(put_definition.name from '^(.*)/'), ''));
end
$$;
comment on function access.put_definition(uuid, text, text, jsonb) is
  'Writes a role or policy, or deletes it where the definition is null; returns the entities for which that has to be put into effect. Internal. RH400, RH404, RH409.';
