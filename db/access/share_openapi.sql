-- What other sites share, in the OpenAPI document of the receiving app.

create or replace function access.openapi_share_schema(share access.shares, entity data.entities) returns jsonb
language sql stable set search_path = '' as $$
  select jsonb_build_object('type', 'object', 'readOnly', true,
    'description', format('What the site %s shares.', (select s.name from tenancy.sites s where s.id = share.site_id)),
    'properties', jsonb_object_agg(f.name, case
      when share.masked ? f.name then '{"description": "Masked."}'
      when f.name = 'id' then '{"type": "string", "format": "uuid"}'
      when f.name = 'version' then '{"type": "integer"}'
      when f.name in ('created_at', 'updated_at') then '{"type": "string", "format": "date-time"}'
      when coalesce(c.schema, '{}') ? '$ref' or c.schema::text like '%"$ref"%' then '{}'
      else coalesce((
          select jsonb_object_agg(k.key, k.value) from jsonb_each(c.schema) k
          where k.key in ('format', 'description', 'items', 'properties')), '{}')
        || case when c.schema ? 'type' then jsonb_build_object('type', jsonb_build_array(c.schema->'type', 'null')) else '{}' end
        || case when c.schema ? 'enum' then jsonb_build_object('enum', c.schema->'enum' || '[null]') else '{}' end end))
  from unnest(access.readable_fields(share)) f (name) left join access.shareable(entity) c on c.name = f.name
$$;
comment on function access.openapi_share_schema(access.shares, data.entities) is
  'What a record of a share looks like, as JSON Schema: every field may be null but the id.';

create or replace function access.openapi_shares(app_id uuid) returns jsonb
language sql stable security definer set search_path = '' as $$
  with received as (
    select s, e, s.view_name as name, 'received-shares.' || s.view_name as component,
      jsonb_build_object('$ref', '#/components/schemas/received-shares.' || s.view_name) as record,
      format('What %s shares: %s', f.name, s.view_name) as title
    from tenancy.apps a
    join access.shares s on s.to_site_id = a.site_id
    join data.entities e on e.id = s.entity_id
    join tenancy.sites f on f.id = s.site_id
    where a.id = openapi_shares.app_id and (access.received_share(a.id, s.view_name)).id is not null
      and 'id' = any (access.readable_fields(s))
  ), paths as (
    select '/received-shares/' || r.name as path, jsonb_build_object(
      'get', data.openapi_operation('list_shared_' || r.name, 'received-shares', r.title,
        case when access.is_share_searched(r.s) then '{q}'::text[] else '{}' end
          || array['filter', 'sort', 'select', 'limit', 'offset', 'page', 'cursor', 'count'], null, '200',
        jsonb_build_object('application/json', jsonb_build_object('schema', jsonb_build_object(
          'type', 'object', 'required', '["data", "meta"]'::jsonb,
          'properties', jsonb_build_object('data', jsonb_build_object('type', 'array', 'items', r.record),
            'meta', '{"$ref": "#/components/schemas/page.meta"}'::jsonb)))))) as item
    from received r
    union all
    select '/received-shares/' || r.name || '/{id}', jsonb_build_object('parameters', '[{"$ref": "#/components/parameters/id"}]'::jsonb,
      'get', data.openapi_operation('get_shared_' || r.name, 'received-shares', r.title || ', one record', array['select'], null, '200',
        jsonb_build_object('application/json', jsonb_build_object('schema', r.record))))
    from received r
    union all
    select '/received-shares/' || r.name || '/aggregate', jsonb_build_object(
      'get', data.openapi_operation('aggregate_shared_' || r.name, 'received-shares', r.title || ', grouped',
        array['filter', 'group', 'aggregate', 'having', 'timezone', 'group_sort', 'group_limit', 'offset', 'page', 'cursor'], null, '200',
        '{"application/json": {"schema": {"$ref": "#/components/schemas/page.groups"}}}'))
    from received r
    union all
    select '/received-shares/' || r.name || '/export', jsonb_build_object(
      'get', data.openapi_operation('export_shared_' || r.name, 'received-shares', r.title || ', all of it, streamed',
        array['format', 'filter', 'sort', 'select'], null, '200', jsonb_build_object(
          'application/json', jsonb_build_object('schema', jsonb_build_object('type', 'array', 'items', r.record)),
          'application/x-ndjson', '{"schema": {"type": "string"}}'::jsonb, 'text/csv', '{"schema": {"type": "string"}}'::jsonb)))
    from received r
  )
  select jsonb_build_object('paths', coalesce((select jsonb_object_agg(p.path, p.item) from paths p), '{}'),
    'schemas', coalesce((select jsonb_object_agg(r.component, access.openapi_share_schema(r.s, r.e)) from received r), '{}'))
$$;
comment on function access.openapi_shares(uuid) is
  'The addresses and schemas of what the caller reads of other sites in an app, for its OpenAPI document: {"paths", "schemas"}.';
