-- The JSON Schema dialect of entities: which keywords a property may have, and which column it becomes.

create or replace function data.violation(pointer text, message text) returns jsonb
language sql immutable parallel safe as $$
  select jsonb_build_array(jsonb_build_object('pointer', pointer, 'message', message))
$$;
comment on function data.violation(text, text) is 'One problem as a JSON array of {pointer, message}.';

create or replace function data.kind(schema jsonb) returns text
language sql immutable set search_path = '' as $$
  select case
    when t = '["number"]' and kind.schema->>'format' = 'decimal' then 'decimal'
    when t = '["string"]' and kind.schema->>'format' = 'decimal' then 'decimal'
    when t = '["string"]' and kind.schema->>'format' in ('date', 'date-time', 'uuid', 'email') then kind.schema->>'format'
    when t = '["string"]' and not kind.schema ? 'format' then 'string'
    when t is null and kind.schema ? 'enum' then 'string'
    when t is null and kind.schema ? 'x-relation' and coalesce(kind.schema #>> '{x-relation,field}', 'id') = 'id' then 'uuid'
    when t in ('["integer"]', '["number"]', '["boolean"]', '["array"]', '["object"]') and not kind.schema ? 'format' then t->>0
  end
  from (select case jsonb_typeof(kind.schema->'type')
      when 'string' then jsonb_build_array(kind.schema->'type')
      when 'array' then (kind.schema->'type') - 'null'
    end) types (t)
$$;
comment on function data.kind(jsonb) is
  'What a property is: string, email, uuid, date, date-time, integer, number, decimal, boolean, array or object; null when the schema says none of these.';

create or replace function data.sql_type(schema jsonb) returns text
language sql immutable set search_path = '' as $$
  select case data.kind(sql_type.schema)
    when 'string' then 'text'
    when 'email' then 'text'
    when 'uuid' then 'uuid'
    when 'date' then 'date'
    when 'date-time' then 'timestamptz'
    when 'integer' then 'int8'
    when 'number' then 'float8'
    when 'boolean' then 'boolean'
    when 'decimal' then 'numeric' -- no typmod: a column of numeric(10,2) would round before validation could refuse
    else 'jsonb'
  end
$$;
comment on function data.sql_type(jsonb) is 'The PostgreSQL type of the column that a property becomes.';

create or replace function data.is_regex(pattern text) returns boolean
language plpgsql immutable set search_path = '' as $$
begin
  perform '' ~ is_regex.pattern;
  return true;
exception when invalid_regular_expression then
  return false;
end
$$;
comment on function data.is_regex(text) is 'Whether PostgreSQL can compile the regular expression.';

create or replace function data.schema_violations(schema jsonb, pointer text default '', depth int default 0) returns jsonb
language plpgsql immutable set search_path = '' as $$
declare
  _errors jsonb := '[]';
  _kind text := data.kind(schema_violations.schema);
  _key text;
  _value jsonb;
  _allowed text[] := array['type', 'format', 'title', 'description', 'examples', '$comment', 'deprecated', 'default',
    'x-index', 'x-unique', 'x-relation', 'x-renamed-from', 'x-search'];
begin
  if jsonb_typeof(schema_violations.schema) is distinct from 'object' then
    return data.violation(pointer, 'must be an object: a JSON Schema');
  elsif depth > 8 then
    return data.violation(pointer, 'is nested too deeply: 8 levels at most');
  elsif _kind is null then
    return data.violation(pointer, 'has no supported type: use type string (format date, date-time, uuid, email), integer, number (format decimal), boolean, array or object, or enum');
  end if;
  _allowed := _allowed || case
    when _kind in ('string', 'email') then array['enum', 'minLength', 'maxLength', 'pattern']
    when _kind in ('integer', 'number') then array['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum']
    when _kind = 'decimal' then array['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum', 'precision', 'scale']
    when _kind = 'array' then array['items', 'minItems', 'maxItems']
    when _kind = 'object' then array['properties', 'required', 'additionalProperties']
    else '{}'
  end;
  if depth = 0 then
    _allowed := _allowed || array['$schema', '$id', 'x-storage', 'x-cache-ttl', 'x-indexes'];
  end if;
  for _key, _value in select * from jsonb_each(schema_violations.schema) loop
    if not _key = any (_allowed) then
      _errors := _errors || data.violation(pointer || '/' || _key, format('is not supported for %s; supported: %s', _kind, array_to_string(_allowed, ', ')));
    elsif (_key in ('minLength', 'maxLength', 'minItems', 'maxItems', 'precision', 'scale') and _value::text !~ '^[0-9]{1,9}$')
      or (_key in ('precision') and _value::text !~ '^[1-9][0-9]{0,2}$')
      or (_key in ('minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum') and jsonb_typeof(_value) <> 'number')
      or (_key in ('x-index', 'x-unique', 'additionalProperties') and jsonb_typeof(_value) <> 'boolean')
      or (_key in ('x-relation', 'properties') and jsonb_typeof(_value) <> 'object')
    then
      _errors := _errors || data.violation(pointer || '/' || _key, 'has a value of the wrong kind: ' || left(_value::text, 60));
    elsif _key = 'x-renamed-from' and (jsonb_typeof(_value) <> 'string' or depth <> 1)
      or _key = 'x-cache-ttl' and (_value::text !~ '^[1-9][0-9]{0,4}$' or _value > '86400')
      or _key = 'x-storage' and _value not in ('"jsonb"', '"flat"')
    then
      _errors := _errors || data.violation(pointer || '/' || _key, case _key when 'x-storage' then 'is jsonb or flat' when 'x-cache-ttl' then 'is a number of seconds from 1 to 86400' else 'is the former name of a top-level property' end);
    elsif _key = 'enum' and (jsonb_typeof(_value) <> 'array' or _value = '[]'
      or jsonb_path_exists(_value, '$[*] ? (@.type() != "string")'))
    then
      _errors := _errors || data.violation(pointer || '/enum', 'must be a list of strings');
    elsif _key = 'pattern' and (jsonb_typeof(_value) <> 'string' or length(_value #>> '{}') > 1000 or not data.is_regex(_value #>> '{}')) then
      _errors := _errors || data.violation(pointer || '/pattern', 'is not a regular expression that PostgreSQL understands');
    elsif _key = 'required' and (jsonb_typeof(_value) <> 'array' or exists (
      select from jsonb_array_elements(case jsonb_typeof(_value) when 'array' then _value else '[]' end) r
      where jsonb_typeof(r) <> 'string' or not coalesce(schema_violations.schema->'properties' ? (r #>> '{}'), false)))
    then
      _errors := _errors || data.violation(pointer || '/required', 'must be a list of names of properties');
    elsif _key = 'items' then
      _errors := _errors || data.schema_violations(_value, pointer || '/items', depth + 1);
    end if;
  end loop;
  if _errors = '[]' and _kind = 'decimal' and (schema_violations.schema->>'scale')::int > coalesce((schema_violations.schema->>'precision')::int, -1) then
    _errors := data.violation(pointer || '/scale', 'needs a precision that is at least as large');
  end if;
  if depth > 1 and schema_violations.schema ?| array['x-index', 'x-unique', 'x-relation', 'x-search'] then
    _errors := _errors || data.violation(pointer, 'x-index, x-unique, x-relation and x-search are for top-level properties');
  end if;
  if _kind = 'object' and jsonb_typeof(schema_violations.schema->'properties') = 'object' then
    for _key, _value in select * from jsonb_each(schema_violations.schema->'properties') loop
      _errors := _errors || data.schema_violations(_value, pointer || '/properties/' || replace(replace(_key, '~', '~0'), '/', '~1'), depth + 1);
    end loop;
  end if;
  return _errors;
end
$$;
comment on function data.schema_violations(jsonb, text, int) is
  'What is wrong with a schema as the definition of an entity (depth 0) or a property: a JSON array of {pointer, message}.';
