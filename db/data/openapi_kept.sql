-- The part of an app's OpenAPI document about deleted records and former states, of entities that keep them.

create or replace function data.openapi_kept_paths(entity data.entities) returns jsonb
language sql stable set search_path = '' as $$
  select coalesce(jsonb_object_agg(format('/%s/{id}/%s', entity.name, o.part),
    jsonb_build_object('parameters', '[{"$ref": "#/components/parameters/id"}]'::jsonb, o.method,
    data.openapi_operation(o.part || '_' || entity.name, entity.name, o.summary, o.parameters, null,
      case o.part when 'purge' then '204' else '200' end, o.answer))), '{}')
  from (values
    ('restore', entity.schema->'x-soft-delete' = 'true', 'post',
      'Bring a deleted record back, and those that were deleted with it. Needs the permission to delete', '{}'::text[],
      jsonb_build_object('application/json', jsonb_build_object('schema', jsonb_build_object('$ref', '#/components/schemas/'
        || entity.name)))),
    ('purge', data.keeps_records(entity.schema), 'post',
      'Delete for good what is kept of a deleted record, its history too. Needs the permission to delete', '{}', null),
    ('history', entity.schema->'x-history' = 'true', 'get', 'The changes of a record, newest first; of a deleted one too',
      '{history_limit,before}',
      '{"application/json": {"schema": {"$ref": "#/components/schemas/page.history"}}}')) o (part, is_there, method, summary, parameters,
      answer)
  where o.is_there
$$;
comment on function data.openapi_kept_paths(data.entities) is 'The addresses that restore, purge and tell the history of an entity''s records, where it keeps them.';

create or replace function data.openapi_kept_parameters(entity data.entities) returns text[]
language sql immutable set search_path = '' as $$
  select array(select o.name from (values ('x-history', 'as_of'), ('x-soft-delete', 'deleted')) o (option, name)
    where entity.schema->o.option = 'true')
$$;
comment on function data.openapi_kept_parameters(data.entities) is 'The parameters that reads of an entity have because it keeps records.';

create or replace function data.openapi_kept_components() returns jsonb
language sql immutable set search_path = '' as $$
  select '{"parameters": {
      "as_of": {"name": "as_of", "in": "query", "description": "Records as they were at this time, those deleted since too; not with expand. What they refer to is as it is now",
        "schema": {"type": "string", "format": "date-time"}, "example": "2026-01-31T09:30:00Z"},
      "deleted": {"name": "deleted", "in": "query", "description": "only: the deleted records, each with deleted_at and deleted_by. Needs the permission to delete; not with q and as_of",
        "schema": {"type": "string", "enum": ["only"]}},
      "history_limit": {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}},
      "before": {"name": "before", "in": "query", "description": "Only changes before this version, for the next page", "schema": {"type": "integer", "minimum": 1, "maximum": 2147483647}, "example": 12}
    }, "schemas": {
      "page.history": {"type": "object", "required": ["data"], "properties": {"data": {"type": "array", "items": {"type": "object", "required": ["version", "operation", "at", "by"], "properties": {
        "version": {"type": "integer", "description": "The record''s version after the change"},
        "operation": {"type": "string", "enum": ["insert", "update", "delete", "restore"]},
        "at": {"type": "string", "format": "date-time", "description": "When the transaction began"},
        "by": {"type": ["string", "null"], "format": "uuid", "description": "The account that did it"},
        "changes": {"type": "object", "description": "Of an update: what each property was and became", "additionalProperties": {"type": "object", "properties": {"old": true, "new": true}}}}}}},
        "examples": [{"data": [{"version": 2, "operation": "update", "at": "2026-01-31T09:30:00+00:00", "by": "0197a5b0-7e4c-7a6e-9d3c-2f1f6f0c1a2b", "changes": {"title": {"old": "Hello", "new": "Goodbye"}}},
          {"version": 1, "operation": "insert", "at": "2026-01-30T12:00:00+00:00", "by": "0197a5b0-7e4c-7a6e-9d3c-2f1f6f0c1a2b"}]}]},
      "page.deleted": {"type": "object", "description": "Added to records that deleted=only lists", "properties": {
        "deleted_at": {"type": "string", "format": "date-time"}, "deleted_by": {"type": ["string", "null"], "format": "uuid", "description": "The account that deleted it"}}}}}'::jsonb
$$;
comment on function data.openapi_kept_components() is 'The parameters and schemas of deleted records and former states, for OpenAPI.';
