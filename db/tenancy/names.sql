create or replace function tenancy.check_name(kind text, name text) returns void
language plpgsql immutable set search_path = '' as $$
declare
  _a_kind text := case when check_name.kind ~ '^[aeiou]' then 'an ' else 'a ' end || check_name.kind;
  _reserved text[] := array['www', 'api', 'admin', 'app', 'apps', 'auth', 'graphql', 'health', 'localhost', 'mcp', 'pg',
    'public', 'realtime', 'functions', 'variables', 'analytics', 'files', 'search', 'schema', 'events', 'workflows', 'kv',
    'postgres', 'rowhouse', 'site', 'sites', 'system', 'graphile'];
begin
  if check_name.name is null or check_name.name !~ '^[a-z]([a-z0-9]|-(?=[a-z0-9]))*$'
    or length(check_name.name) not between 2 and 28
  then
    perform rowhouse.fail(400, format('%L is not a valid name for %s', left(check_name.name, 80), _a_kind),
      'Use 2 to 28 lower-case letters, digits and single hyphens; start with a letter and end with a letter or digit.',
      'invalid_name');
  end if;
  if check_name.name = any (_reserved) or check_name.name like 'pg-%' then
    perform rowhouse.fail(400, format('%L is a reserved word and cannot name %s', check_name.name, _a_kind),
      'Choose another name. Reserved: ' || array_to_string(_reserved, ', ') || ', and names that start with pg-.',
      'reserved_name');
  end if;
end
$$;
comment on function tenancy.check_name(text, text) is
  'Raises RH400 unless name may name an organization, site or app: 2 to 28 lower-case letters, digits, single hyphens, no reserved word.';

create or replace function tenancy.free_schema_name(site text, app text) returns name
language plpgsql set search_path = '' as $$
declare
  _base text := replace(free_schema_name.site || '_' || free_schema_name.app, '-', '_');
  _name text := _base;
  _n int := 1;
begin
  perform pg_advisory_xact_lock(hashtextextended('tenancy.schema_name', 0));
  while exists (select from pg_catalog.pg_namespace where nspname = _name) loop
    _n := _n + 1;
    _name := _base || '_' || _n;
  end loop;
  return _name;
end
$$;
comment on function tenancy.free_schema_name(text, text) is
  'A schema name nobody has: acme/prod-crm and acme-prod/crm both ask for acme_prod_crm, the second gets acme_prod_crm_2.';
