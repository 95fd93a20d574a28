-- Which keywords an entity's schema may have. Common ones are compiled (validation.sql), the others interpreted
-- (json_schema_apply.sql): data.interpreted_part says which. Nothing is passed over in silence.

create or replace function data.schema_keywords() returns text[]
language sql immutable parallel safe as $$
  select '{type,enum,const,title,description,default,deprecated,readOnly,writeOnly,examples,$comment,format,contentEncoding,contentMediaType,contentSchema,
    multipleOf,maximum,exclusiveMaximum,minimum,exclusiveMinimum,maxLength,minLength,pattern,maxItems,minItems,uniqueItems,maxContains,minContains,
    maxProperties,minProperties,required,dependentRequired,$ref,allOf,anyOf,oneOf,not,if,then,else,dependentSchemas,prefixItems,items,contains,
    properties,patternProperties,additionalProperties,propertyNames,unevaluatedItems,unevaluatedProperties}'::text[]
$$;
comment on function data.schema_keywords() is 'The keywords of JSON Schema 2020-12 that the schema of an entity may have.';

create or replace function data.allowed_keywords(kind text, depth int) returns text[]
language sql immutable parallel safe set search_path = '' as $$
  select array['type', 'format', 'title', 'description', 'examples', '$comment', 'deprecated', 'default', 'readOnly', 'writeOnly', 'enum',
    'const',
      'allOf', 'anyOf', 'oneOf', 'not', 'if', 'then', 'else', '$ref', 'x-index', 'x-unique', 'x-relation', 'x-renamed-from', 'x-convert',
      'x-convert-back', 'x-search', 'x-computed', 'x-rollup', 'x-alias', 'x-pii', 'x-mask']
    || case
      when kind in ('string', 'email', 'uuid', 'date', 'date-time')
        then array['minLength', 'maxLength', 'pattern', 'contentEncoding', 'contentMediaType', 'contentSchema']
      when kind in ('integer', 'number') then array['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum', 'multipleOf']
      when kind = 'decimal' then array['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum', 'multipleOf', 'precision', 'scale']
      when kind = 'array' then array['items', 'minItems', 'maxItems', 'uniqueItems', 'prefixItems', 'contains', 'minContains',
        'maxContains', 'unevaluatedItems']
      when kind = 'object'
        then array['properties', 'required', 'additionalProperties', 'patternProperties', 'propertyNames', 'dependentRequired',
        'dependentSchemas', 'minProperties', 'maxProperties', 'unevaluatedProperties']
      when kind = 'any' then data.schema_keywords()
      else '{}' end
    || case depth when 0 then array['$schema', '$id', '$defs', 'x-storage', 'x-cache-ttl', 'x-audit', 'x-rules', 'x-indexes', 'x-policies']
      || data.option_keywords() else '{}' end
$$;
comment on function data.allowed_keywords(text, int) is 'The keywords that a property of this kind may have; depth 0 is the entity itself.';

create or replace function data.needed_defs(part jsonb, defs jsonb) returns jsonb
language sql immutable parallel safe set search_path = '' as $$
  with recursive needed (name) as (
    select m[1] from regexp_matches(part::text, '"\$ref": "#/\$defs/([A-Za-z0-9._-]+)"', 'g') m
    union
    select m[1] from needed n, regexp_matches((defs->n.name)::text, '"\$ref": "#/\$defs/([A-Za-z0-9._-]+)"', 'g') m
  )
  select jsonb_object_agg(n.name, defs->n.name) from needed n where defs ? n.name
$$;
comment on function data.needed_defs(jsonb, jsonb) is 'Those of the definitions defs that part refers to, directly or through others; null for none.';

create or replace function data.interpreted_part(schema jsonb, kind text, defs jsonb) returns jsonb
language sql immutable parallel safe set search_path = '' as $$
  with keys (list) as (
    select array['allOf', 'anyOf', 'oneOf', 'not', 'if', 'then', 'else', '$ref']
      || case kind
        when 'array' then array['prefixItems', 'contains', 'minContains', 'maxContains', 'unevaluatedItems', 'enum', 'const']
          || case when schema ? 'prefixItems' then array['items'] else '{}' end
        when 'object' then array['patternProperties', 'propertyNames', 'dependentSchemas', 'minProperties', 'maxProperties',
            'unevaluatedProperties', 'enum', 'const']
          || case when jsonb_typeof(schema->'additionalProperties') = 'object'
            or schema ?| array['patternProperties', 'unevaluatedProperties'] then array['additionalProperties'] else '{}' end
        when 'any' then array(select unnest(data.schema_keywords())
          except select unnest('{title,description,default,deprecated,readOnly,writeOnly,examples,$comment}'::text[]))
        else '{}' end
  ), part (p) as (
    select jsonb_object_agg(k.key, k.value) from keys, jsonb_each(schema) k where k.key = any (keys.list)
  )
  -- What is compiled beside it counts as evaluated.
  select p || case when kind = 'object' and schema ? 'properties'
    and p ?| array['additionalProperties', 'unevaluatedProperties', 'patternProperties']
        then jsonb_build_object('properties', (select jsonb_object_agg(k, true) from jsonb_object_keys(schema->'properties') k))
          else '{}' end
      || case when kind = 'array' and p ? 'unevaluatedItems' and schema ? 'items'
        and not p ? 'items' then '{"items": true}' else '{}' end::jsonb
      || coalesce((select jsonb_build_object('$defs', d) from data.needed_defs(p, defs) d where d is not null), '{}')
  from part
  where p is not null
$$;
comment on function data.interpreted_part(jsonb, text, jsonb) is
  'The part of a schema of this kind that is interpreted rather than compiled, as a schema of its own; null when there is none.';

create or replace function data.part_violations(part jsonb, pointer text) returns jsonb
language sql immutable set search_path = '' as $$
  with nodes as materialized (
    select n.path, n.node from data.schema_nodes(jsonb_build_object('schema', part), 64) n where jsonb_typeof(n.node) = 'object'
  ), faults (place, rank, message) as (
    select e->>'pointer', 2, e->>'message' from jsonb_array_elements((data.read_schema(part, true)).problems) e
    union
    select data.pointer(n.path[2:] || k.key), 1, case k.key when '$ref' then 'is not supported in an entity unless it is #/$defs/name'
      else 'is not supported here; supported: ' || array_to_string(data.schema_keywords(), ', ') end
    from nodes n, jsonb_each(n.node) k
    where k.key <> all (data.schema_keywords()) and not (k.key = '$defs' and cardinality(n.path) = 1) or k.key = '$ref'
      and k.value #>> '{}' !~ '^#/\$defs/[A-Za-z0-9._-]+$'
  )
  select case when part is null then '[]'
    else coalesce(jsonb_agg(jsonb_build_object('pointer', case when place ~ '^/\$defs(/|$)' then place else pointer || place end,
    'message', message) order by place), '[]') end
  from (select distinct on (place) * from faults order by place, rank) f
$$;
comment on function data.part_violations(jsonb, text) is 'What of an interpreted part of an entity''s schema is wrong or not supported.';

create or replace function data.keyword_violation(key text, value jsonb, schema jsonb, kind text, depth int) returns text
language sql immutable set search_path = '' as $$
  select case
    when key <> all (data.allowed_keywords(kind, depth)) then
      format('is not supported for %s; supported: %s', kind, array_to_string(data.allowed_keywords(kind, depth), ', '))
    when key in ('minLength', 'maxLength', 'minItems', 'maxItems', 'precision', 'scale') and value::text !~ '^[0-9]{1,9}$'
      or key in ('precision') and value::text !~ '^[1-9][0-9]{0,2}$'
      or key in ('x-index', 'x-unique') and jsonb_typeof(value) <> 'boolean' and not (key = 'x-unique' and depth = 0)
      or key in ('x-relation', 'properties') and jsonb_typeof(value) <> 'object'
      then 'has a value of the wrong kind: ' || left(value::text, 60)
    when key = 'x-storage' and value not in ('"jsonb"', '"flat"') then 'is jsonb or flat'
    when key = 'x-cache-ttl' and (value::text !~ '^[1-9][0-9]{0,4}$' or value > '86400') then 'is a number of seconds from 1 to 86400'
    when key = 'x-audit'
      and not (jsonb_typeof(value) = 'boolean' or value in ('{"reads": true}', '{"reads": false}')) then 'is true, false or {"reads": true}'
    when key = 'x-alias' and (jsonb_typeof(value) <> 'string' or depth <> 1) then 'is the name of another top-level property'
    when key in ('x-computed', 'x-rollup') and depth <> 1 then 'is for top-level properties'
    when key = 'x-renamed-from' and (jsonb_typeof(value) <> 'string' or depth <> 1) then 'is the former name of a top-level property'
    when key in ('x-convert', 'x-convert-back')
      and (jsonb_typeof(value) <> 'string' or depth <> 1) then 'is an expression, for a top-level property'
    when key in ('x-convert', 'x-convert-back')
      and (schema ?| array['x-computed', 'x-rollup', 'x-alias', 'x-pii', 'x-mask'] or kind in ('array', 'object', 'any'))
      then 'is for properties that clients write: text, numbers, booleans, dates and UUIDs'
    when key = 'x-relation' and kind = 'any' then 'is for a property with one type'
    when key = 'enum' and (jsonb_typeof(value) <> 'array' or value = '[]') then 'must be a list of values'
    when key = 'format' and value <> '"decimal"' and kind not in ('string', 'email', 'uuid', 'date', 'date-time', 'any') then
      format('%s is not supported for %s', left(value::text, 60), kind)
    when key = 'format' and value = '"decimal"' and kind = 'decimal' then null
    when key = 'required' and depth = 0 and jsonb_typeof(value) = 'array' and exists (
      select
      from jsonb_array_elements(value) r
      where jsonb_typeof(r) <> 'string' or not coalesce(schema->'properties' ? (r #>> '{}'), false))
      then 'must be a list of names of properties'
    when key = 'scale' and (schema->>'scale')::numeric > coalesce((schema->>'precision')::numeric, -1)
      then 'needs a precision that is at least as large'
    else data.keyword_problem(key, value, true)
  end
$$;
comment on function data.keyword_violation(text, jsonb, jsonb, text, int) is 'What is wrong with one keyword of an entity''s schema, or null.';

drop function if exists data.schema_violations(jsonb, text, int);
create or replace function data.schema_violations(schema jsonb, pointer text default '', depth int default 0, defs jsonb default null)
  returns jsonb
language plpgsql immutable set search_path = '' as $$
declare
  _s jsonb := schema_violations.schema;
  _kind text := coalesce(data.kind(_s), case when depth > 1 then 'any' end);
  _defs jsonb := case depth when 0 then _s->'$defs' else schema_violations.defs end;
  _errors jsonb;
  _key text;
  _value jsonb;
begin
  if depth > 1 and jsonb_typeof(_s) = 'boolean' then
    return '[]';
  elsif jsonb_typeof(_s) is distinct from 'object' then
    return data.violation(pointer, 'must be an object: a JSON Schema');
  elsif depth > 8 then
    return data.violation(pointer, 'is nested too deeply: 8 levels at most, or more by $ref');
  elsif _kind is null then
    return data.violation(pointer,
      'has no supported type: use type string (format date, date-time, uuid, email), integer, number (format decimal), boolean, array or object, or enum, or a combination such as oneOf');
  end if;
  select coalesce(jsonb_agg(jsonb_build_object('pointer', pointer || '/' || data.pointer_part(k.key), 'message', v) order by k.key),
    '[]') into _errors
  from jsonb_each(_s) k, data.keyword_violation(k.key, k.value, _s, _kind, depth) v where v is not null;
  if depth > 1 and _s ?| array['x-index', 'x-unique', 'x-relation', 'x-search'] then
    _errors := _errors || data.violation(pointer, 'x-index, x-unique, x-relation and x-search are for top-level properties');
  end if;
  if _errors <> '[]' then
    return _errors;
  end if;
  if depth = 0 and _defs is not null then
    _errors := _errors || data.defs_violations(_defs);
  end if;
  _errors := _errors || data.part_violations(data.interpreted_part(_s, _kind, _defs), pointer);
  if _kind = 'array' and _s ? 'items' and not _s ? 'prefixItems' then
    _errors := _errors || data.schema_violations(_s->'items', pointer || '/items', depth + 1, _defs);
  elsif _kind = 'object' then
    for _key, _value in select * from jsonb_each(_s->'properties') loop
      _errors := _errors || data.schema_violations(_value, pointer || '/properties/' || data.pointer_part(_key), depth + 1, _defs);
    end loop;
  end if;
  return (select coalesce(jsonb_agg(distinct e), '[]') from jsonb_array_elements(_errors) e);
end
$$;
comment on function data.schema_violations(jsonb, text, int, jsonb) is
  'What is wrong with a schema as the definition of an entity (depth 0) or a property: a JSON array of {pointer, message}. defs are the entity''s $defs.';

-- A definition may be used as a property, whose keywords it may therefore have.
create or replace function data.defs_violations(defs jsonb) returns jsonb
language sql immutable set search_path = '' as $$
  with nodes as materialized (
    select n.path, n.node
    from data.schema_nodes(jsonb_build_object('schema', jsonb_build_object('$defs', defs)), 64) n
    where jsonb_typeof(n.node) = 'object'
  ), faults (place, message) as (
    select e->>'pointer', e->>'message' from jsonb_array_elements((data.read_schema(jsonb_build_object('$defs', defs))).problems) e
    union
    select data.pointer(n.path[2:] || k.key), 'is not supported here; supported: ' || array_to_string(data.schema_keywords(), ', ')
    from nodes n, jsonb_each(n.node) k
    where cardinality(n.path) > 1 and k.key <> all (data.schema_keywords() || '{precision,scale,x-index,x-unique,x-relation,x-search}')
    union
    select data.pointer(array['$defs', d]), 'has a name that is not supported: letters, digits, dots, - and _ are'
    from jsonb_object_keys(defs) d
    where d !~ '^[A-Za-z0-9._-]+$'
  )
  select coalesce(jsonb_agg(jsonb_build_object('pointer', place, 'message', message) order by place), '[]') from faults
$$;
comment on function data.defs_violations(jsonb) is 'What is wrong with the $defs of an entity''s schema.';
