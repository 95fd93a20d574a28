-- OpenAPI 3.1 of an app's REST interface, from the definitions that the caller may read.

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
