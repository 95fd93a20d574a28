create or replace function data.resolve_entity(app text, entity text, out entity_row data.entities, out schema_name text,
  out version bigint)
language plpgsql stable security definer set search_path = '' as $$
declare
  _found record;
  _names text;
begin
  if resolve_entity.app ~ '/' then
    select a.schema_name, a.definition_version, e as entity into _found
    from tenancy.sites s join tenancy.apps a on a.site_id = s.id join data.entities e on e.app_id = a.id
    where s.name = split_part(resolve_entity.app, '/', 1) and a.name = split_part(resolve_entity.app, '/', 2)
      and e.name = resolve_entity.entity
      and (auth.is_operator() or (s.id = tenancy.site_id() and exists (
        select from tenancy.site_members m where m.site_id = s.id and m.account_id = auth.account_id()))
        or s.id = tenancy.site_id() and auth.account_id() is null);
  else
    select a.schema_name, a.definition_version, e as entity into _found
    from tenancy.apps a join data.entities e on e.app_id = a.id
    where a.site_id = tenancy.site_id() and (a.name = resolve_entity.app or a.id::text = resolve_entity.app)
      and e.name = resolve_entity.entity;
  end if;
  schema_name := _found.schema_name;
  version := _found.definition_version;
  entity_row := _found.entity;
  perform access.require_public((entity_row).id);
  if coalesce(resolve_entity.entity, '') = '' then
    perform rowhouse.fail(400, format('%L does not name an entity', left(resolve_entity.app, 120)),
      'Write site/app/entity, for example acme/crm/contacts.', 'invalid_path');
  elsif schema_name is null then
    select left(string_agg(e.name, ', ' order by e.name), 1000) into _names
    from tenancy.sites s join tenancy.apps a on a.site_id = s.id join data.entities e on e.app_id = a.id
    where case when resolve_entity.app ~ '/' then resolve_entity.app = s.name || '/' || a.name
        else s.id = tenancy.site_id() and resolve_entity.app in (a.name, a.id::text) end
      and (auth.is_operator() or s.id = tenancy.site_id() and exists (
        select from tenancy.site_members m where m.site_id = s.id and m.account_id = auth.account_id()));
    perform rowhouse.fail(404, format('There is no entity %L in this app', left(resolve_entity.entity, 60)),
      coalesce('Entities of this app: ' || _names,
        'Entities are defined with data.define_entity(app, name, schema) and listed in data.entities.'),
      'not_found');
  end if;
end
$$;
comment on function data.resolve_entity(text, text) is
  'An entity by app (a name or UUID within the site of the claims, or site/app) and name, with the app''s schema and definition version. RH400, RH401 when nobody is logged in and it is not public, RH404.';

create or replace function data.compile(app text, entity text, operation text, shape jsonb default '{}') returns jsonb
language plpgsql stable set search_path = '' as $$
declare
  _r record;
  _entity data.entities;
  _out jsonb;
begin
  if compile.operation = 'search' then
    return data.compile_search(compile.app, compile.shape);
  elsif starts_with(compile.entity, 'received-shares/') then
    return access.compile_share(compile.app, split_part(compile.entity, '/', 2), compile.operation, compile.shape);
  end if;
  _r := data.resolve_entity(compile.app,
    case when compile.operation like '%union' then (data.union_entities(compile.shape))[1] else compile.entity end);
  _entity := _r.entity_row;
  perform data.refuse_unknown_query(compile.shape, compile.operation);
  _out := data.compile_kept(_entity, _r.schema_name, compile.operation, compile.shape);
  if _out is not null or compile.shape ?| array['deleted', 'as_of'] then -- what is kept changes without the entity: no cache
    return coalesce(_out, data.compile_find(_entity, _r.schema_name, compile.shape))
      || jsonb_build_object('version', _r.version, 'app', _entity.app_id);
  end if;
  _out := case compile.operation
    when 'find' then data.compile_find(_entity, _r.schema_name, compile.shape)
    when 'aggregate' then data.compile_entity_aggregate(_entity, _r.schema_name, compile.shape)
    when 'find_union' then data.compile_union_find(compile.app, compile.shape)
    when 'aggregate_union' then data.compile_union_aggregate(compile.app, compile.shape)
    when 'get' then jsonb_build_object('params', 1, 'sql', format(
      'select row_to_json(r.*)::text%4$s as body, t.version::text as version from %1$I.%2$I t, lateral (select %3$s) r where t.id = $1::uuid',
      _r.schema_name, _entity.name, data.parse_select(_entity.id, compile.shape->'select', 't',
        case when jsonb_typeof(compile.shape->'expand') = 'array'
          then data.compile_expand(_entity.id, _r.schema_name, compile.shape->'expand', 't') end),
      audit.seen_sql(_entity, compile.shape, 'array[t.id]', 'record')
      || audit.related_seen_sql(_entity.id, compile.shape, '[]', 'array[%s]')))
    -- An aggregate that would serve one record and a list alike costs an insert 68 µs of 367.
    when 'insert' then jsonb_build_object('params', 1,
      'sql', format('select (' || data.written_json('r')
      || ')::text as body, r.version::text as version, r.id::text as id from %I.%I($1::jsonb) r',
      _r.schema_name, _entity.name || '_insert'))
    when 'insert_list' then data.compile_insert_list(_entity, _r.schema_name, coalesce(compile.shape->>'return', 'records'))
    when 'insert_ids' then data.compile_insert_list(_entity, _r.schema_name, 'ids')
    when 'update' then jsonb_build_object('params', 3,
      'sql', format('select row_to_json(r.*)::text as body, r.version::text as version from %I.%I($1::uuid, $2::jsonb, $3::int, false) r',
      _r.schema_name, _entity.name || '_update'))
    when 'replace' then jsonb_build_object('params', 3,
      'sql', format('select row_to_json(r.*)::text as body, r.version::text as version from %I.%I($1::uuid, $2::jsonb, $3::int, true) r',
      _r.schema_name, _entity.name || '_update'))
    when 'delete' then jsonb_build_object('params', 2, 'sql', format('select ''''::text as body from %I.%I($1::uuid, $2::int) r',
      _r.schema_name, _entity.name || '_delete'))
    when 'update_list' then data.compile_batch(_entity, _r.schema_name, compile.operation, compile.shape)
    when 'update_where' then data.compile_batch(_entity, _r.schema_name, compile.operation, compile.shape)
    when 'delete_where' then data.compile_batch(_entity, _r.schema_name, compile.operation, compile.shape)
    when 'upsert' then data.compile_batch(_entity, _r.schema_name, compile.operation, compile.shape)
  end;
  if _out is null then
    perform rowhouse.fail(400, format('%L is not an operation', left(compile.operation, 60)),
      'find, get, aggregate, insert, update, replace, delete …: comment on function data.compile lists them.', 'invalid_operation');
  elsif compile.operation in ('find', 'get', 'aggregate') then
    _out := data.with_cache(_entity, _r.schema_name, _out);
  end if;
  return _out || jsonb_build_object('version', _r.version, 'app', _entity.app_id);
end
$$;
comment on function data.compile(text, text, text, jsonb) is
  'The statement for an operation (find, search, aggregate, get, insert, insert_list, insert_ids, update, replace, delete, update_list, update_where, delete_where, upsert, restore, purge, history; find_union and aggregate_union, whose shape has entities) on an entity, as {"sql", "params", "version", "app"}, "cache" where its result may be kept (data.with_cache), and "entities" where it is about several. Parameters are text: the literals of filter and having in order, then q, as_of, limit, offset, cursor. RH400, RH404.';
