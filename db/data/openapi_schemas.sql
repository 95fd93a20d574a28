-- What records look like in an OpenAPI document.

create or replace function data.example(schema jsonb, depth int default 0) returns jsonb
language plpgsql immutable set search_path = '' as $$
declare
  _kind text := data.kind(example.schema);
begin
  if jsonb_typeof(example.schema->'examples') = 'array' and example.schema->'examples' <> '[]' then
    return example.schema->'examples'->0;
  elsif example.schema ? 'default' then
    return example.schema->'default';
  elsif example.schema ? 'const' then
    return example.schema->'const';
  elsif jsonb_typeof(example.schema->'enum') = 'array' then
    return example.schema->'enum'->0;
  elsif jsonb_typeof(coalesce(example.schema->'oneOf', example.schema->'anyOf')) = 'array' and not example.schema ? 'type' then
    return data.example(coalesce(example.schema->'oneOf', example.schema->'anyOf')->0, depth + 1);
  elsif depth > 8 then
    return 'null';
  end if;
  return case _kind
    when 'uuid' then '"0197a5b0-7e4c-7a6e-9d3c-2f1f6f0c1a2b"'::jsonb
    when 'email' then '"ann@example.com"'
    when 'date' then '"2026-01-31"'
    when 'date-time' then '"2026-01-31T09:30:00+00:00"'
    when 'integer' then coalesce(example.schema->'minimum', example.schema->'multipleOf', '1')
    when 'number' then coalesce(example.schema->'minimum', example.schema->'multipleOf', '1.5')
    when 'decimal' then coalesce(example.schema->'minimum', example.schema->'multipleOf', '12.50')
    when 'boolean' then 'true'
    when 'array' then case when example.schema ? 'items' then jsonb_build_array(data.example(example.schema->'items', depth + 1))
      else '[]' end
    when 'object' then (
      select coalesce(jsonb_object_agg(p.key, data.example(p.value, depth + 1)), '{}')
      from jsonb_each(case jsonb_typeof(example.schema->'properties') when 'object' then example.schema->'properties' else '{}' end) p)
    else coalesce('{"time": "09:30:00Z", "duration": "P1D", "hostname": "example.com", "ipv4": "192.0.2.1", "ipv6": "2001:db8::1", "uri": "https://example.com/a",
      "uri-reference": "/a", "json-pointer": "/a/0", "relative-json-pointer": "1/a"}'::jsonb->(example.schema->>'format'), to_jsonb(left('text', coalesce((example.schema->>'maxLength')::int, 4))))
  end;
end
$$;
comment on function data.example(jsonb, int) is 'A value for a JSON Schema: its example, default or first enum value, or one of its kind.';

create or replace function data.openapi_schemas(entity data.entities) returns jsonb
language sql stable set search_path = '' as $$
  with fields as (
    select f.name, f.is_required, p as property, f.schema ? 'x-computed' as computed,
      case when f.is_required then p else jsonb_build_object('anyOf', jsonb_build_array(p, '{"type": "null"}'::jsonb)) end
        || case when f.schema ? 'x-computed' then '{"readOnly": true}' else '{}'::jsonb end as nullable,
      case when f.name = any (m.fields) then data.openapi_masked(p, f.sql_type) end as masked
    from data.fields f, data.openapi_references(entity.name, f.schema) p, access.maskable_fields(entity.id) m (fields)
    where f.entity_id = entity.id
  ),
  lists as (
    select coalesce(jsonb_object_agg(f.name, coalesce(f.masked, f.nullable)), '{}') as properties,
      coalesce(jsonb_object_agg(f.name, f.nullable) filter (where not f.computed), '{}') as writable,
      coalesce(jsonb_agg(f.name), '[]') as names,
      coalesce(jsonb_agg(f.name) filter (where f.is_required and not f.property ? 'default'), '[]') as required
    from fields f
  )
  select jsonb_build_object(
    entity.name, jsonb_strip_nulls(jsonb_build_object('description', entity.schema->'description')) || jsonb_build_object('type', 'object',
      'properties', l.properties || '{"id": {"type": "string", "format": "uuid"}, "created_at": {"type": "string", "format": "date-time"},
        "updated_at": {"type": "string", "format": "date-time"}, "version": {"type": "integer", "description": "Grows by one with each change."},
        "created_by": {"type": ["string", "null"], "format": "uuid", "description": "The account that created the record."}}',
      'required', '["id", "created_at", "updated_at", "version", "created_by"]' || l.names),
    entity.name || '.insert',
    data.openapi_rules(entity)
    || jsonb_build_object('type', 'object', 'properties', l.writable || '{"id": {"type": "string", "format": "uuid"}}',
      'required', l.required, 'additionalProperties', false),
    entity.name || '.update', jsonb_build_object('type', 'object',
      'properties', l.writable
        || '{"version": {"type": "integer", "description": "The version you saw: refused if the record has changed since."}}',
      'additionalProperties', false))
    || coalesce((select jsonb_object_agg(entity.name || '.def.' || d.key, data.openapi_references(entity.name, d.value))
      from jsonb_each(data.needed_defs(entity.schema - '$defs', entity.schema->'$defs')) d), '{}')
  from lists l
$$;
comment on function data.openapi_schemas(data.entities) is 'The component schemas of an entity: its records, inserts and updates, and the $defs that they refer to.';

-- A mask keeps the type of its column, not what else the definition says of it: its format, its enum, its length.
create or replace function data.openapi_masked(property jsonb, sql_type text) returns jsonb
language sql immutable set search_path = '' as $$
  select jsonb_build_object(
    'anyOf', jsonb_build_array(property)
      || case sql_type when 'text' then '[{"type": "string"}]' else '[]'::jsonb end || '[{"type": "null"}]',
    'description', coalesce((property->>'description') || ' ', '') || 'Masked or null for whom it is not meant.')
    || case when property ? 'x-computed' then '{"readOnly": true}' else '{}'::jsonb end
$$;
comment on function data.openapi_masked(jsonb, text) is
  'What a record shows of a property that some readers see masked or hidden: a value, of texts any other text, or null.';

create or replace function data.openapi_references(entity text, schema jsonb) returns jsonb
language sql immutable set search_path = '' as $$
  select replace(schema::text, '"$ref": "#/$defs/', '"$ref": "#/components/schemas/' || entity || '.def.')::jsonb
$$;
comment on function data.openapi_references(text, jsonb) is 'A schema whose references to the $defs of an entity lead to components of an OpenAPI document.';

create or replace function data.openapi_rules(entity data.entities) returns jsonb
language sql stable set search_path = '' as $$
  select coalesce(jsonb_object_agg(k.key, data.openapi_references(entity.name, k.value)), '{}') from jsonb_each(entity.schema) k
  where k.key in ('allOf', 'anyOf', 'oneOf', 'not', 'if', 'then', 'else', 'dependentRequired', 'dependentSchemas', 'propertyNames')
$$;
comment on function data.openapi_rules(data.entities) is 'The keywords of an entity''s schema that concern several properties of a record.';

create or replace function data.openapi_example(entity data.entities) returns jsonb
language sql stable set search_path = '' as $$
  select coalesce(jsonb_object_agg(f.name, data.example(f.schema)), '{}')
  from data.fields f
  where f.entity_id = entity.id and not f.schema ? 'x-computed'
$$;
comment on function data.openapi_example(data.entities) is 'What a new record of an entity may look like.';

create or replace function data.openapi_common_schemas() returns jsonb
language sql immutable set search_path = '' as $$
  select '{
    "page.meta": {"type": "object", "required": ["limit", "offset", "next_cursor"], "properties": {"limit": {"type": "integer"}, "offset": {"type": "integer"},
      "next_cursor": {"type": ["string", "null"], "description": "The cursor of the next page, if there is one"},
      "count": {"type": "integer", "description": "How many records match, with count=exact or count=estimated"},
      "count_is_estimated": {"type": "boolean", "description": "Whether count=estimated gave an estimate; small numbers are counted"}}},
        "page.found": {"type": "object", "description": "Added to records that q found", "properties": {
      "_rank": {"type": "number", "description": "The best match has the highest"},
      "_snippets": {"$ref": "#/components/schemas/page.snippets"}}},
    "page.snippets": {"type": "object", "additionalProperties": {"type": "string"},
      "description": "By field: HTML with the words that were found in <mark>, everything else escaped"},
    "page.hit": {"type": "object", "required": ["entity", "id", "rank", "title", "snippets", "record"], "properties": {
      "entity": {"type": "string"}, "id": {"type": "string", "format": "uuid"}, "rank": {"type": "number"},
      "title": {"type": ["string", "null"], "description": "The first searched field"},
      "snippets": {"$ref": "#/components/schemas/page.snippets"}, "record": {"type": "object"}}},
    "page.union": {"type": "object", "required": ["data", "meta"], "properties": {
      "data": {"type": "array", "items": {"type": "object", "required": ["entity"], "properties": {"entity": {"type": "string"}}}},
      "meta": {"$ref": "#/components/schemas/page.meta"}}},
    "page.groups": {"type": "object", "required": ["data", "meta"], "properties": {
      "data": {"type": "array", "items": {"type": "object", "description": "A group: its keys and its aggregates by name. Of no records, count is 0 and the others are null"}},
      "meta": {"$ref": "#/components/schemas/page.meta"}}, "examples": [{"data": [{"status": "paid", "created_at_month": "2026-01-01", "count": 12, "sum_total": 345.60}],
      "meta": {"limit": 100, "offset": 0, "next_cursor": null}}]},
    "page.imported": {"type": "object", "required": ["inserted", "updated", "unchanged", "skipped", "errors"], "properties": {
      "inserted": {"type": "integer"}, "updated": {"type": "integer"}, "unchanged": {"type": "integer"}, "skipped": {"type": "integer"},
      "errors": {"type": "array", "items": {"type": "object", "required": ["line", "message"], "properties": {
        "line": {"type": "integer"}, "pointer": {"type": "string"}, "message": {"type": "string"}}}}}},
    "page.problem": {"type": "object", "required": ["type", "title", "status", "detail"], "properties": {
      "type": {"type": "string"}, "title": {"type": "string"}, "status": {"type": "integer"}, "detail": {"type": "string"}, "code": {"type": "string"},
      "hint": {"type": "string"}, "request_id": {"type": "string"},
      "explanation": {"type": "object", "description": "Which role, permission or policy refused; for those who may ask"},
      "errors": {"type": "array", "items": {"type": "object", "required": ["message"], "properties": {
        "pointer": {"type": "string"}, "parameter": {"type": "string"}, "message": {"type": "string"}}}}},
      "examples": [{"type": "about:blank", "title": "Unprocessable Content", "status": 422, "detail": "This record is not valid: /name is required",
        "code": "validation_failed", "hint": "errors lists every problem by JSON pointer.", "errors": [{"pointer": "/name", "message": "is required"}]}]}
  }'::jsonb
$$;
comment on function data.openapi_common_schemas() is 'The schemas that every app''s OpenAPI document has: a page''s meta, and problems.';
