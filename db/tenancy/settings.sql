create or replace function tenancy.sites_before_write() returns trigger
language plpgsql set search_path = '' as $$
declare
  _errors jsonb := tenancy.settings_violations('settings', new.settings) || tenancy.settings_violations('branding', new.branding);
begin
  if _errors <> '[]' then
    perform rowhouse.fail(400, 'The site''s settings are not valid', 'errors lists every problem by JSON pointer.', 'invalid_settings',
      _errors);
  end if;
  return new;
end
$$;
comment on function tenancy.sites_before_write() is 'Refuses settings and branding that are not valid (RH400).';

create or replace trigger sites_before_write before insert or update of settings, branding on tenancy.sites
for each row execute function tenancy.sites_before_write();

-- Known settings with the type each must have; a test of the value follows where a type is not enough.
create or replace function tenancy.settings_violations(part text, value jsonb) returns jsonb
language sql immutable set search_path = '' as $$
  with known (part, path, type, pattern) as (values
    ('settings', '/signup', 'object', null), ('settings', '/signup/allowed', 'boolean', null),
    ('settings', '/signup/role', 'string', '^[a-z][a-z0-9_-]{0,60}$'),
    ('settings', '/locale', 'string', '^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$'),
    ('settings', '/audit', 'object', null), ('settings', '/audit/keep_months', 'number', '^(3|12|36|84)$'),
    ('settings', '/time_zone', 'string', '^[A-Za-z0-9_+/-]{1,60}$'),
    ('branding', '/title', 'string', '^.{1,120}$'), ('branding', '/logo_url', 'string', '^https://'),
    ('branding', '/primary_color', 'string', '^#[0-9a-fA-F]{6}$'), ('branding', '/secondary_color', 'string', '^#[0-9a-fA-F]{6}$')),
  given (path, value) as (
    select '', settings_violations.value
    union all
    select '/' || k.key, k.value
    from jsonb_each(case jsonb_typeof(settings_violations.value) when 'object' then settings_violations.value else '{}' end) k
    union all
    select '/' || k.key || '/' || n.key, n.value
    from jsonb_each(case jsonb_typeof(settings_violations.value) when 'object' then settings_violations.value else '{}' end) k,
      jsonb_each(case jsonb_typeof(k.value) when 'object' then k.value else '{}' end) n
  )
  select coalesce(jsonb_agg(jsonb_build_object('pointer', '/' || settings_violations.part || g.path, 'message',
    case
      when g.path = '' then 'must be an object'
      when k.path is null then 'is not a known setting'
      when jsonb_typeof(g.value) <> k.type then 'must be ' || k.type
      else 'does not match ' || k.pattern
    end) order by g.path), '[]')
  from given g
  left join known k on k.part = settings_violations.part and k.path = g.path
  where case
    when g.path = '' then jsonb_typeof(g.value) <> 'object'
    when k.path is null or jsonb_typeof(g.value) <> k.type then true
    else k.pattern is not null and (g.value #>> '{}') !~ k.pattern
  end
$$;
comment on function tenancy.settings_violations(text, jsonb) is
  'What is wrong with a site''s settings or branding: a JSON array of {pointer, message}, empty when nothing is.';
