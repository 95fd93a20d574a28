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
    when t in ('["string"]', '["integer"]', '["number"]', '["boolean"]', '["array"]', '["object"]') then t->>0
    when t is null and kind.schema ?| array['enum', 'const']
      then data.kind_of_values(coalesce(kind.schema->'enum', jsonb_build_array(kind.schema->'const')))
    when t is null and kind.schema ? 'x-relation' and coalesce(kind.schema #>> '{x-relation,field}', 'id') = 'id' then 'uuid'
    when t is null and kind.schema ?| array['$ref', 'oneOf', 'anyOf', 'allOf', 'not', 'if'] or jsonb_array_length(t) > 1 then 'any'
  end
  from (select case jsonb_typeof(kind.schema->'type')
      when 'string' then jsonb_build_array(kind.schema->'type')
      when 'array' then (kind.schema->'type') - 'null'
    end) types (t)
$$;
comment on function data.kind(jsonb) is
  'What a property is: string, email, uuid, date, date-time, integer, number, decimal, boolean, array, object, or any (several types, or only combinations of schemas); null when the schema says none of these.';

create or replace function data.kind_of_values(list jsonb) returns text
language sql immutable set search_path = '' as $$
  select case
    when bool_and(jsonb_typeof(v) = 'string') then 'string'
    when bool_and(jsonb_typeof(v) = 'boolean') then 'boolean'
    when bool_and(jsonb_typeof(v) = 'number' and v #>> '{}' ~ '^-?\d{1,18}$') then 'integer'
    when bool_and(jsonb_typeof(v) = 'number') then 'number'
    else 'any' end
  from jsonb_array_elements(case jsonb_typeof(list) when 'array' then list else '[]' end) v where v <> 'null'
$$;
comment on function data.kind_of_values(jsonb) is 'The kind of a property that says its values (enum, const) and no type.';

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

drop function if exists data.is_regex(text);
create or replace function data.regex_error(pattern text) returns text
language plpgsql immutable set search_path = '' as $$
begin
  perform '' ~ regex_error.pattern;
  return null;
exception
  when invalid_regular_expression then
    return regexp_replace(sqlerrm, '^[^:]*: *', '');
  -- (a{1,200}){1,200} asks for 1.6 GB
  when internal_error or program_limit_exceeded or out_of_memory then
    return 'too complex: repeat less within what is repeated';
end
$$;
comment on function data.regex_error(text) is 'Why PostgreSQL cannot compile a regular expression; null when it can.';
