-- The access rules of a site as one document, for files in somebody's git. Everything is called by its name, so that another
-- site may take it over.

create or replace function access.export_rules(site text) returns jsonb
language plpgsql stable security definer set search_path = '' as $$
declare
  _site tenancy.sites := access.require_control(export_rules.site, '@policies:define');
begin
  return access.rules_document(_site.id);
end
$$;
comment on function access.export_rules(text) is
  'The roles, policies, groups (without their members) and tests of a site, conditions as text: {"roles": {"crm/author": {…}}, "policies": {"crm/posts/night": {…}}, "groups": {"sales": {"name", "description", "roles"}}, "tests": {"crm": […]}}. Neither the role admin, delegations, nor ready-made policies, which are part of an entity''s definition. Owners, admins and @policies:define. RH403, RH404.';

create or replace function access.rules_document(site_id uuid) returns jsonb
language sql stable set search_path = '' as $$
  select jsonb_build_object(
    'roles', (select coalesce(jsonb_object_agg(access.role_path(r), access.readable(access.role_definition(r))), '{}') from access.roles r
      where r.site_id = rules_document.site_id and not r.is_internal and not (r.system and r.name = 'admin')),
    'policies', (select coalesce(jsonb_object_agg(access.policy_path(p), access.readable(access.policy_definition(p))), '{}')
      from access.policies p
      where p.site_id = rules_document.site_id and p.entity_id is null),
    'groups', (select coalesce(jsonb_object_agg(g.name, access.group_definition(g)), '{}') from access.groups g
      where g.site_id = rules_document.site_id),
    'tests', (select coalesce(jsonb_object_agg(x.app, x.tests), '{}') from (
      select a.name as app, jsonb_agg(access.test_definition(t) order by t.name) as tests
      from access.tests t join tenancy.apps a on a.id = t.app_id where t.site_id = rules_document.site_id group by a.name) x))
$$;
comment on function access.rules_document(uuid) is 'What access.export_rules returns. Internal.';

create or replace function access.group_definition(grp access.groups) returns jsonb
language sql stable set search_path = '' as $$
  select jsonb_build_object('name', (grp).name) || access.member('description', to_jsonb((grp).description))
    || jsonb_build_object('roles', coalesce((
    select jsonb_agg(case when t.terms = '{}' then to_jsonb(t.role) else jsonb_build_object('role', t.role) || t.terms end order by t.role)
    from (
      select access.role_path(r) as role,
        access.member('valid_from', to_jsonb(a.valid_from)) || access.member('valid_until', to_jsonb(a.valid_until))
        || access.member('condition', access.readable_condition(a.condition)) as terms
      from access.assignments a join access.roles r on r.id = a.role_id where a.group_id = (grp).id) t), '[]'))
$$;
comment on function access.group_definition(access.groups) is 'A group without its members: {name, description, roles}.';

create or replace function access.rules_items(document jsonb) returns table (kind text, name text, definition jsonb)
language sql immutable set search_path = '' as $$
  select left(s.key, -1), d.key, d.value from jsonb_each(document) s, jsonb_each(s.value) d where s.key in ('roles', 'groups')
  union all
  select 'policy', d.key, d.value from jsonb_each(document->'policies') d
  union all
  select 'test', a.key || '/' || (t->>'name'), t from jsonb_each(document->'tests') a, jsonb_array_elements(a.value) t
$$;
comment on function access.rules_items(jsonb) is 'The roles, policies, groups and tests of a document of rules, one by one.';
