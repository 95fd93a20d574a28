-- OpenAPI 3.1 of an app's REST interface, from the definitions that the caller may read.

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

create or replace function data.openapi_operation(id text, tag text, summary text, parameters text[], body jsonb, status text, answer jsonb)
returns jsonb
language sql immutable set search_path = '' as $$
  select jsonb_strip_nulls(jsonb_build_object('operationId', id, 'tags', jsonb_build_array(tag), 'summary', summary,
    'parameters', (select jsonb_agg(jsonb_build_object('$ref', '#/components/parameters/' || p))
      from unnest(parameters || array['tenant', 'app']) p)))
    || case when body is null then '{}' else jsonb_build_object('requestBody', jsonb_build_object('required', true, 'content', body)) end
    || jsonb_build_object('responses', jsonb_build_object(status,
      case when answer is null then '{"description": "Done; nothing to say"}'::jsonb
        else jsonb_build_object('description', 'As asked', 'content', answer) end,
      'default', '{"$ref": "#/components/responses/problem"}'::jsonb))
$$;
comment on function data.openapi_operation(text, text, text, text[], jsonb, text, jsonb) is 'One operation of an OpenAPI document.';

create or replace function data.openapi_paths(entity data.entities) returns jsonb
language plpgsql stable set search_path = '' as $$
declare
  _n text := entity.name;
  _record jsonb := jsonb_build_object('$ref', '#/components/schemas/' || _n);
  _insert jsonb := jsonb_build_object('$ref', '#/components/schemas/' || _n || '.insert');
  _update jsonb := jsonb_build_object('$ref', '#/components/schemas/' || _n || '.update');
  _example jsonb := data.openapi_example(entity);
  _searched boolean := data.is_searched(entity.id);
  _more jsonb := case when _searched then '[{"$ref": "#/components/schemas/page.found"}]' else '[]'::jsonb end
    || case when entity.schema->'x-soft-delete' = 'true' then '[{"$ref": "#/components/schemas/page.deleted"}]' else '[]'::jsonb end;
  _json jsonb := jsonb_build_object('application/json', jsonb_build_object('schema', _record));
  _files jsonb := jsonb_build_object(
    'application/json', jsonb_build_object('schema', jsonb_build_object('type', 'array', 'items', _record)),
    'application/x-ndjson', '{"schema": {"type": "string", "description": "A record a line"}}'::jsonb,
    'text/csv', '{"schema": {"type": "string", "description": "RFC 4180 with a header"}}'::jsonb);
begin
  return jsonb_build_object(
    '/' || _n, jsonb_build_object(
      'get', data.openapi_operation('list_' || _n, _n, 'List ' || _n, case when _searched then array['q'] else '{}' end
          || array['filter', 'sort', 'select', 'expand', 'limit', 'offset', 'page', 'cursor', 'count']
            || data.openapi_kept_parameters(entity), null, '200',
        jsonb_build_object('application/json', jsonb_build_object('schema', jsonb_build_object('type', 'object',
          'required', '["data", "meta"]'::jsonb,
          'properties', jsonb_build_object('data', jsonb_build_object('type', 'array', 'items', case
            when _more <> '[]' then jsonb_build_object('allOf', _record || _more) else _record end), 'meta',
              '{"$ref": "#/components/schemas/page.meta"}'::jsonb))))),
      'post', data.openapi_operation('create_' || _n, _n, 'Create a record, or a list of up to 10,000, all or nothing',
        array['return_list'],
        jsonb_build_object('application/json', jsonb_build_object('schema',
          jsonb_build_object('oneOf', jsonb_build_array(_insert, jsonb_build_object('type', 'array', 'maxItems', 10000, 'items', _insert))),
          'example', _example)),
        '201', jsonb_build_object('application/json', jsonb_build_object('schema',
          jsonb_build_object('oneOf', jsonb_build_array(_record, jsonb_build_object('type', 'array', 'items', _record),
            '{"type": "object", "required": ["meta"], "additionalProperties": false, "properties": {"meta": {"$ref": "#/components/schemas/page.written"}, "ids": {"type": "array", "items": {"type": "string", "format": "uuid"}}}}'::jsonb))))))
      || data.openapi_batches(entity),
    '/' || _n || '/{id}', jsonb_build_object(
      'parameters', '[{"$ref": "#/components/parameters/id"}]'::jsonb,
      'get', data.openapi_operation('get_' || _n, _n, 'Read a record',
        array['select', 'expand'] || array_remove(data.openapi_kept_parameters(entity), 'deleted'), null, '200', _json),
      'put', data.openapi_operation('replace_' || _n, _n, 'Replace a record', array['if_match'],
        jsonb_build_object('application/json', jsonb_build_object('schema', _insert, 'example', _example)), '200', _json),
      'patch', data.openapi_operation('update_' || _n, _n, 'Change the given properties of a record; null unsets one', array['if_match'],
        jsonb_build_object('application/json', jsonb_build_object('schema', _update, 'example', _example)), '200', _json),
      'delete', data.openapi_operation('delete_' || _n, _n, 'Delete a record', array['if_match'], null, '204', null)),
    '/' || _n || '/aggregate', jsonb_build_object(
      'get', data.openapi_operation('aggregate_' || _n, _n, 'Group records, and count, sum or average them',
        array['filter', 'group', 'aggregate', 'having', 'timezone', 'group_sort', 'group_limit', 'offset', 'page', 'cursor'], null, '200',
        '{"application/json": {"schema": {"$ref": "#/components/schemas/page.groups"}}}')),
    '/' || _n || '/export', jsonb_build_object(
      'get', data.openapi_operation('export_' || _n, _n, 'Export all records, streamed', array['format', 'filter', 'sort', 'select'], null,
        '200', _files)),
    '/' || _n || '/import', jsonb_build_object(
      'post', data.openapi_operation('import_' || _n, _n, 'Import records line by line, streamed; those that exist, by key, are updated',
        array['on_error', 'key', 'encoding'],
        _files - 'application/json', '200', '{"application/json": {"schema": {"$ref": "#/components/schemas/page.imported"}}}')));
end
$$;
comment on function data.openapi_paths(data.entities) is 'The addresses of an entity, with their operations.';

create or replace function data.openapi_union_paths(entities text[]) returns jsonb
language sql immutable set search_path = '' as $$
  select case when cardinality(entities) = 0 then '{}' else jsonb_build_object(
    '/query', jsonb_build_object('parameters', p, 'get', data.openapi_operation('query', 'app', 'List records of several entities in one',
      array['filter', 'sort', 'select', 'limit', 'offset', 'page', 'cursor'], null, '200',
      '{"application/json": {"schema": {"$ref": "#/components/schemas/page.union"}}}')),
    '/query/aggregate', jsonb_build_object('parameters', p,
      'get', data.openapi_operation('query_aggregate', 'app', 'Group records of several entities, and count, sum or average them',
      array['filter', 'group', 'aggregate', 'having', 'timezone', 'group_sort', 'group_limit', 'offset', 'page', 'cursor'], null, '200',
      '{"application/json": {"schema": {"$ref": "#/components/schemas/page.groups"}}}'))) end
  from (select '[{"name": "nullable", "in": "query", "description": "Fields that are null in entities without them, with commas between", "schema": {"type": "string"}}]'::jsonb
    || jsonb_build_object('name', 'entities', 'in', 'query', 'required', true, 'description', 'With commas between',
      'schema', '{"type": "string"}'::jsonb,
      'example', array_to_string(entities, ','))) x (p)
$$;
comment on function data.openapi_union_paths(text[]) is 'The addresses of queries over several entities, of which some are the example.';

create or replace function data.openapi(app text) returns jsonb
language plpgsql stable set search_path = '' as $$
declare
  _id uuid := data.resolve_app(openapi.app);
  _app record;
  _paths jsonb;
  _schemas jsonb;
  _kept jsonb := data.openapi_kept_components();
  _shares jsonb := access.openapi_shares(_id);
begin
  select a.name, a.title, s.name as site, a.definition_version into _app
  from tenancy.apps a join tenancy.sites s on s.id = a.site_id where a.id = _id;
  select coalesce(jsonb_object_agg(p.key, p.value), '{}') into _paths
  from data.entities e, jsonb_each(data.openapi_paths(e) || data.openapi_kept_paths(e)) p where e.app_id = _id;
  select coalesce(jsonb_object_agg(p.key, p.value), '{}') into _schemas
  from data.entities e, jsonb_each(data.openapi_schemas(e)) p where e.app_id = _id;
  return jsonb_build_object(
    'openapi', '3.1.0',
    'info', jsonb_build_object('title', _app.title, 'version', _app.definition_version::text,
      'description', 'The records of this app. GraphQL is at ./graphql, errors are problem+json (RFC 9457) with a hint.'),
    'servers', jsonb_build_array(jsonb_build_object('url', format('/api/v1/sites/%s/apps/%s', _app.site, _app.name))),
    'security', '[{"token": []}]'::jsonb,
    'tags', coalesce((select jsonb_agg(jsonb_strip_nulls(jsonb_build_object('name', e.name, 'description', e.schema->'description'))
      order by e.name)
      from data.entities e where e.app_id = _id), '[]'),
    'paths', _paths || (_shares->'paths') || data.openapi_transaction() || data.openapi_search(_id)
      || data.openapi_union_paths(array(select e.name from data.entities e where e.app_id = _id order by e.name limit 2))
      || jsonb_build_object('/export', jsonb_build_object('get', data.openapi_operation('export', 'app', 'Export every entity, streamed',
      array['app_format'], null, '200',
      '{"application/json": {"schema": {"type": "object"}}, "application/x-ndjson": {"schema": {"type": "string"}}}'))),
    'components', jsonb_build_object(
      'securitySchemes',
      '{"token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": "POST /api/v1/auth/login issues one."}}'::jsonb,
      'parameters', data.openapi_parameters() || data.openapi_batch_parameters() || (_kept->'parameters'),
      'schemas', _schemas || (_shares->'schemas') || data.openapi_common_schemas() || data.openapi_batch_schemas() || (_kept->'schemas'),
      'responses', '{"problem": {"description": "What went wrong, and what to do",
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/page.problem"}}}}}'::jsonb));
end
$$;
comment on function data.openapi(text) is
  'OpenAPI 3.1 of the REST interface of an app (acme/crm): addresses, parameters, schemas, errors and examples, from the definitions you may read. RH404.';

create or replace function data.openapi_search(app_id uuid) returns jsonb
language sql stable set search_path = '' as $$
  select case when exists (select from data.entities e where e.app_id = openapi_search.app_id and data.is_searched(e.id))
    then jsonb_build_object('/search', jsonb_build_object('get', jsonb_insert(
      data.openapi_operation('search', 'app', 'Search several entities: one list, the best match first', array['entities', 'limit'], null,
        '200',
        '{"application/json": {"schema": {"type": "object", "required": ["data", "meta"], "properties": {
          "data": {"type": "array", "items": {"$ref": "#/components/schemas/page.hit"}},
          "meta": {"type": "object", "properties": {"limit": {"type": "integer"}}}}}}}'),
      '{parameters,0}',
      '{"name": "q", "in": "query", "required": true, "schema": {"type": "string", "maxLength": 1000}, "example": "jon smith"}')))
    else '{}' end
$$;
comment on function data.openapi_search(uuid) is 'The address that searches an app, where something in it can be searched.';

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

create or replace function data.openapi_parameters() returns jsonb
language sql immutable set search_path = '' as $$
  select '{
    "id": {"name": "id", "in": "path", "required": true, "schema": {"type": "string", "format": "uuid"}},
    "filter": {"name": "filter", "in": "query", "description": "Fields with values or operators ($eq $ne $gt $gte $lt $lte $in $nin $like $ilike $contains $exists), $and, $or, $not",
      "content": {"application/json": {"schema": {"type": "object"}, "example": {"version": {"$gte": 1}}}}},
    "q": {"name": "q", "in": "query", "description": "Words, \"a phrase\", -not this, one or another; the last word may be unfinished. The best match first, unless sort is given",
      "schema": {"type": "string", "maxLength": 1000}, "example": "jon smith"},
    "entities": {"name": "entities", "in": "query", "description": "Only these entities, with commas between", "schema": {"type": "string"}},
    "sort": {"name": "sort", "in": "query", "description": "Fields with commas between, also of a record referred to (company.city); - before one: descending", "schema": {"type": "string"}, "example": "-created_at"},
    "select": {"name": "select", "in": "query", "description": "Only these fields, with commas between, also of a record referred to (company.city)", "schema": {"type": "string"}, "example": "id,version"},
    "expand": {"name": "expand", "in": "query", "description": "Relations to embed, with commas between; nested with a dot", "schema": {"type": "string"}},
    "group": {"name": "group", "in": "query", "description": "What to group by, with commas between: fields, also of a record referred to (company.city); times and dates in buckets (created_at:month; hour, day, week, month, quarter, year). Or JSON with field, bucket, timezone and as",
      "schema": {"type": "string"}, "example": "created_at:month"},
    "aggregate": {"name": "aggregate", "in": "query", "description": "What to compute of each group, with commas between: count, count(field), sum(field), avg, min, max, count_distinct, named like sum_total, or as you say: revenue:sum(total). Or JSON: {\"revenue\": {\"$sum\": \"total\"}}",
      "schema": {"type": "string", "default": "count"}, "example": "count,last:max(created_at)"},
    "having": {"name": "having", "in": "query", "description": "Which groups to keep: a filter over the columns of the result",
      "content": {"application/json": {"schema": {"type": "object"}, "example": {"count": {"$gte": 1}}}}},
    "timezone": {"name": "timezone", "in": "query", "description": "Where days and other buckets begin", "schema": {"type": "string", "default": "UTC"}, "example": "Europe/Oslo"},
    "group_sort": {"name": "sort", "in": "query", "description": "Columns of the result with commas between; - before one: descending. By the groups unless told", "schema": {"type": "string"}, "example": "-count"},
    "group_limit": {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 0, "maximum": 1000, "default": 100}},
    "limit": {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 0, "maximum": 1000, "default": 20}},
    "offset": {"name": "offset", "in": "query", "schema": {"type": "integer", "minimum": 0}},
    "page": {"name": "page", "in": "query", "description": "Instead of offset, from 1", "schema": {"type": "integer", "minimum": 1}},
    "count": {"name": "count", "in": "query", "description": "exact adds meta.count; it reads every record that matches. estimated asks the statistics", "schema": {"enum": ["none", "exact", "estimated"], "default": "none"}},
    "cursor": {"name": "cursor", "in": "query", "description": "meta.next_cursor of the page before", "schema": {"type": "string"}},
    "format": {"name": "format", "in": "query", "schema": {"type": "string", "enum": ["json", "ndjson", "csv"], "default": "json"}},
    "app_format": {"name": "format", "in": "query", "schema": {"type": "string", "enum": ["json", "ndjson"], "default": "json"}},
    "on_error": {"name": "on_error", "in": "query", "description": "stop: nothing is imported if a line is wrong. skip: wrong lines are left out and listed.", "schema": {"type": "string", "enum": ["stop", "skip"], "default": "stop"}},
    "key": {"name": "key", "in": "query", "description": "The fields that identify a record, with commas between", "schema": {"type": "string", "default": "id"}},
    "encoding": {"name": "encoding", "in": "query", "description": "Of a body without a byte order mark", "schema": {"type": "string", "enum": ["utf-8", "utf-16le", "utf-16be", "latin1"], "default": "utf-8"}},
    "if_match": {"name": "If-Match", "in": "header", "description": "The version you saw: refused with 409 if the record has changed since", "schema": {"type": "string"}, "example": "W/\"3\""},
    "tenant": {"name": "X-Tenant-ID", "in": "header", "description": "The site, where the address does not name it (by name or UUID)", "schema": {"type": "string"}},
    "app": {"name": "X-App-ID", "in": "header", "description": "The app, where the address does not name it (UUID, name, or site/app)", "schema": {"type": "string"}}
  }'::jsonb
$$;
comment on function data.openapi_parameters() is 'The parameters that the operations of an OpenAPI document share.';
