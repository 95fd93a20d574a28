-- Which properties of an entity are searched: "x-search": true or {"weight": "A"}, and the entity's "x-search": {"language"}.

create or replace function data.search_violations(schema jsonb) returns jsonb
language plpgsql stable set search_path = '' as $$
declare
  _errors jsonb := '[]';
  _language jsonb := search_violations.schema->'x-search'->'language';
  _key text;
  _property jsonb;
  _value jsonb;
  _fields int := 0;
begin
  for _key, _property in select * from jsonb_each(search_violations.schema->'properties') where value ? 'x-search' loop
    _value := _property->'x-search';
    if _value not in ('true', 'false')
      and (jsonb_typeof(_value) <> 'object' or (_value - 'weight'::text) <> '{}' or coalesce(_value->>'weight', '') !~ '^[ABCD]$')
    then
      _errors := _errors || data.violation(format('/properties/%s/x-search', _key),
        'must be true, false or {"weight": "A"} (A, B, C or D; true is D)');
    elsif data.kind(_property) not in ('string', 'email', 'array', 'object')
      or data.kind(_property) = 'array' and coalesce(data.kind(_property->'items'), 'string') not in ('string', 'email')
    then
      _errors := _errors || data.violation(format('/properties/%s/x-search', _key),
        'is for text: a string, a list of strings, or an object with strings');
    end if;
    _fields := _fields + (_value <> 'false')::int;
  end loop;
  if search_violations.schema ? 'x-search' then
    if jsonb_typeof(search_violations.schema->'x-search') <> 'object' or (search_violations.schema->'x-search') - 'language'::text <> '{}'
      or jsonb_typeof(_language) is distinct from 'string'
    then
      _errors := _errors || data.violation('/x-search', 'must be {"language": "english"}');
    elsif not exists (select from pg_catalog.pg_ts_config c
      where c.cfgname = _language #>> '{}' and c.cfgnamespace = 'data'::regnamespace)
    then
      _errors := _errors || data.violation('/x-search/language', 'is not installed; languages: ' || (
        select string_agg(c.cfgname, ', ' order by c.cfgname) from pg_catalog.pg_ts_config c where c.cfgnamespace = 'data'::regnamespace));
    elsif _fields = 0 then
      _errors := _errors || data.violation('/x-search', 'needs a property with "x-search": true');
    end if;
  end if;
  return _errors;
end
$$;
comment on function data.search_violations(jsonb) is 'What is wrong with the x-search of an entity''s schema: a JSON array of {pointer, message}.';

create or replace function data.search_fields(entity_id uuid) returns table (field data.fields, weight text)
language sql stable set search_path = '' as $$
  select f, coalesce(f.schema->'x-search'->>'weight', 'D')
  from data.fields f
  where f.entity_id = search_fields.entity_id and f.schema ? 'x-search' and f.schema->'x-search' <> 'false'
  order by 2, f.position
$$;
comment on function data.search_fields(uuid) is 'The searched fields of an entity with their weights, the heaviest first.';

create or replace function data.search_configuration(entity data.entities) returns text
language sql stable set search_path = '' as $$
  select quote_literal('data.' || quote_ident(coalesce(entity.schema->'x-search'->>'language', 'simple'))) || '::pg_catalog.regconfig'
$$;
comment on function data.search_configuration(data.entities) is 'The text search configuration of an entity, as an SQL literal.';

create or replace function data.is_searched(entity_id uuid) returns boolean
language sql stable set search_path = '' as $$
  select exists (select from data.search_fields(is_searched.entity_id)) and exists (
    select from data.entities e
    join tenancy.apps a on a.id = e.app_id
    join pg_catalog.pg_namespace n on n.nspname = a.schema_name
    join pg_catalog.pg_proc p on p.pronamespace = n.oid and p.proname = e.name || '_search'
    where e.id = is_searched.entity_id and p.proargtypes[0] = 'pg_catalog.text'::regtype and p.proargtypes[1] = 'pg_catalog.int8'::regtype)
$$;
comment on function data.is_searched(uuid) is 'Whether an entity has fields with x-search, and its records are all there to be found.';

create or replace function data.require_searched(entity data.entities) returns void
language plpgsql stable set search_path = '' as $$
begin
  if data.is_searched(entity.id) then
    return;
  elsif exists (select from data.search_fields(entity.id)) then
    perform rowhouse.fail(503, format('The search of %s is being prepared', entity.name),
      'It has many records. data.operations tells how far it is.', 'search_in_preparation');
  else
    perform rowhouse.fail(400, format('%s cannot be searched: none of its properties has x-search', entity.name),
      'Add "x-search": true, or {"weight": "A"}, to the properties that q shall look into, and define the entity again.', 'not_searchable');
  end if;
end
$$;
comment on function data.require_searched(data.entities) is 'Raises RH400 for an entity without x-search, and says how to add it.';
