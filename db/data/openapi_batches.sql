-- The part of an app's OpenAPI document about writes of many records.

create or replace function data.openapi_batches(entity data.entities) returns jsonb
language sql stable set search_path = '' as $$
  with parts as (
    select entity.name as n, jsonb_build_object('$ref', '#/components/schemas/' || entity.name) as record,
      jsonb_build_object('$ref', '#/components/schemas/' || entity.name || '.update') as change, data.openapi_example(entity) as example
  ),
  answers as (
    select p.*, jsonb_build_object('application/json', jsonb_build_object('schema', jsonb_build_object('type', 'object',
      'required', '["meta"]'::jsonb,
      'properties', jsonb_build_object('data', jsonb_build_object('type', 'array', 'items', p.record),
        'meta', '{"$ref": "#/components/schemas/page.written"}'::jsonb)))) as written,
      jsonb_build_object('type', 'array', 'maxItems', 10000, 'items', p.change || '{"description": "with its id"}') as changes
    from parts p
  )
  select jsonb_build_object(
    'put', data.openapi_operation('upsert_' || n, n, 'Insert or update a record, or a list of up to 10,000, matched by key, all or nothing',
      array['upsert_key', 'return'],
      jsonb_build_object('application/json', jsonb_build_object('schema', jsonb_build_object('oneOf', jsonb_build_array(change,
        jsonb_build_object('type', 'array', 'maxItems', 10000, 'items', change))), 'example', jsonb_build_array(example))), '200', written),
    'patch', data.openapi_operation('update_many_' || n, n,
      'Change the records that match a filter (max and filter are required), or a list of records by their ids',
      array['filter', 'max', 'return'], jsonb_build_object('application/json', jsonb_build_object('schema',
        jsonb_build_object('oneOf', jsonb_build_array(change,
          jsonb_build_object('type', 'array', 'maxItems', 10000, 'items', '{"type": "object", "required": ["id"]}'::jsonb))),
        'example', example)), '200', jsonb_build_object('application/json', jsonb_build_object('schema',
        jsonb_build_object('oneOf', jsonb_build_array(written #> '{application/json,schema}',
          jsonb_build_object('type', 'array', 'items', record)))))),
    'delete', data.openapi_operation('delete_many_' || n, n, 'Delete the records that match a filter; max and filter are required',
      array['filter', 'max', 'return'],
      null, '200', written))
  from answers
$$;
comment on function data.openapi_batches(data.entities) is 'The operations of an entity that write many records.';

create or replace function data.openapi_transaction() returns jsonb
language sql immutable set search_path = '' as $$
  select jsonb_build_object('/transaction', jsonb_build_object('post', data.openapi_operation('transaction', 'app',
    'Run up to 1,000 operations in order, all or nothing; {"$ref": "name.property"} is what an operation before gave', array[]::text[],
    '{"application/json": {"schema": {"$ref": "#/components/schemas/page.transaction"}, "example": {"operations": []}}}', '200',
    '{"application/json": {"schema": {"type": "object", "required": ["data"], "properties": {"data": {"type": "array",
      "description": "The record that each operation gave, null for delete", "items": {"type": ["object", "null"]}}}}}}')))
$$;
comment on function data.openapi_transaction() is 'The address of transactions, for OpenAPI.';

create or replace function data.openapi_batch_schemas() returns jsonb
language sql immutable set search_path = '' as $$
  select '{
    "page.written": {"type": "object", "properties": {"inserted": {"type": "integer"}, "updated": {"type": "integer"}, "unchanged": {"type": "integer"},
      "deleted": {"type": "integer"}}},
    "page.transaction": {"type": "object", "required": ["operations"], "additionalProperties": false, "properties": {"operations": {"type": "array", "maxItems": 1000,
      "items": {"type": "object", "required": ["operation", "entity"], "additionalProperties": false, "properties": {
        "operation": {"type": "string", "enum": ["insert", "update", "replace", "delete", "upsert"]}, "entity": {"type": "string"},
        "id": {"description": "A UUID, or a reference"}, "data": {"type": "object"}, "version": {"type": ["integer", "null"]},
        "key": {"type": "array", "items": {"type": "string"}}, "as": {"type": "string", "description": "What references call it"}}}}}}
  }'::jsonb
$$;
comment on function data.openapi_batch_schemas() is 'The schemas of writes of many records, for OpenAPI.';

create or replace function data.openapi_batch_parameters() returns jsonb
language sql immutable set search_path = '' as $$
  select '{
    "upsert_key": {"name": "key", "in": "query", "required": true, "description": "What identifies a record: id or unique properties, with commas between", "schema": {"type": "string"}, "example": "id"},
    "max": {"name": "max", "in": "query", "description": "How many records may match at most: when more do, 409 and nothing is written", "schema": {"type": "integer", "minimum": 1, "maximum": 10000}},
    "return_list": {"name": "return", "in": "query", "description": "Of a list: the records written, or their ids, or how many, which takes half the time", "schema": {"type": "string", "enum": ["records", "ids", "count"], "default": "records"}},
    "return": {"name": "return", "in": "query", "description": "records: the records written, too", "schema": {"type": "string", "enum": ["count", "records"], "default": "count"}}
  }'::jsonb
$$;
comment on function data.openapi_batch_parameters() is 'The parameters of writes of many records, for OpenAPI.';
