-- The statements for deleted records and former states, beside those of data.compile.

create or replace function data.require_option(entity data.entities, options text[], what text) returns void
language plpgsql immutable set search_path = '' as $$
begin
  if not exists (select from unnest(options) o where entity.schema->o = 'true') then
    perform rowhouse.fail(400, format('%s %s', entity.name, what),
      format('Give the entity "%s": true; what happened before is not known.', options[1]), 'option_missing');
  end if;
end
$$;
comment on function data.require_option(data.entities, text[], text) is 'Raises RH400 unless one of the options is on for an entity.';

create or replace function data.deleted_relation(entity data.entities, schema_name text, shape jsonb) returns text
language plpgsql immutable set search_path = '' as $$
begin
  if shape->>'deleted' is distinct from 'only' then
    perform rowhouse.fail(400, 'deleted can only be only', 'deleted=only lists deleted records; without it they are not listed.',
      'invalid_deleted');
  elsif coalesce(shape->'q', 'null') <> 'null' then
    perform rowhouse.fail(400, 'Deleted records cannot be searched', 'Use filter instead of q.', 'invalid_query');
  end if;
  perform data.require_option(entity, array['x-soft-delete'], 'does not keep deleted records');
  return data.kept_name(entity, deleted_relation.schema_name, 'deleted');
end
$$;
comment on function data.deleted_relation(data.entities, text, jsonb) is 'The relation that a query with deleted=only reads. RH400.';

create or replace function data.compile_kept(entity data.entities, schema_name text, operation text, shape jsonb) returns jsonb
language plpgsql stable set search_path = '' as $$
begin
  if operation = 'restore' then
    perform data.require_option(entity, array['x-soft-delete'], 'does not keep deleted records');
    return jsonb_build_object('params', 1,
      'sql', format('select row_to_json(r.*)::text as body, r.version::text as version from %I.%I($1::uuid) r',
      compile_kept.schema_name, entity.name || '_restore'));
  elsif operation = 'purge' then
    perform data.require_option(entity, array['x-soft-delete', 'x-history'], 'keeps nothing of deleted records');
    return jsonb_build_object('params', 1,
      'sql', format('select ''''::text as body from %I.%I($1::uuid) r', compile_kept.schema_name, entity.name || '_purge'));
  elsif operation = 'history' then
    perform data.require_option(entity, array['x-history'], 'has no history');
    return jsonb_build_object('params', 3,
      'sql', format('
        select %I.%I($1::uuid, data.page_number(nullif($2, ''''), ''limit'', 1, 1000)::int,
          data.page_number(nullif($3, ''''), ''before'', 1, 2147483647)::int)::text as body',
        compile_kept.schema_name, entity.name || '_history'));
  elsif operation = 'get' and shape ? 'as_of' then
    perform data.require_option(entity, array['x-history'], 'has no history');
    if coalesce(shape->'expand', 'null') <> 'null' then
      perform rowhouse.fail(400, 'A former state has no relations to expand', 'Leave expand out, or as_of.', 'invalid_expand');
    end if;
    return jsonb_build_object('params', 2,
      'sql', format('
        select row_to_json(r.*)::text as body, v.version::text as version
        from %I.%I($1::uuid, $2::timestamptz) v, lateral (select %s) r',
        compile_kept.schema_name, entity.name || '_as_of', data.parse_select(entity.id, shape->'select', 'v')));
  end if;
  return null;
end
$$;
comment on function data.compile_kept(data.entities, text, text, jsonb) is
  'The statement for restore, purge, history, or get with as_of, as data.compile returns it; null for other operations. RH400 when the entity has not the option.';
