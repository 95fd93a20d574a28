-- Exports: COPY statements whose output the gateway, rowhouse export and psql's \gexec pass on as it is.

create or replace function data.export_columns(entity_id uuid, "select" jsonb) returns text
language plpgsql stable set search_path = '' as $$
declare
  _names jsonb := "select";
begin
  if _names is null or _names = 'null' then
    select jsonb_build_array('id') || coalesce(jsonb_agg(f.name order by f.position), '[]')
      || '["created_at", "updated_at", "version", "created_by"]' into _names
    from data.fields f where f.entity_id = export_columns.entity_id;
  elsif jsonb_typeof(_names) <> 'array' or _names = '[]' or jsonb_path_exists(_names, '$[*] ? (@.type() != "string")') then
    perform rowhouse.fail(400, 'select is a list of fields', 'select=id,name or select=["id","name"]', 'invalid_select');
  end if;
  return (
    select string_agg(format('%s as %I', case e.sql_type
        when 'boolean' then format('(%s)::text', e.expression) -- COPY writes t and f
        when 'timestamptz' then format('to_json(%s) #>> ''{}''', e.expression) -- RFC 3339, as in JSON
        else e.expression end, s.path), ', ' order by s.n)
    from (select path, min(n) as n from jsonb_array_elements_text(_names) with ordinality j (path, n) group by path) s,
      data.path_value(export_columns.entity_id, s.path, 'v') e);
end
$$;
comment on function data.export_columns(uuid, jsonb) is
  'The select list of a CSV export: dates and times in RFC 3339, booleans as true and false, lists and objects as JSON text. RH400 for unknown fields.';

create or replace function data.export_source(entity data.entities, query jsonb, parameters text[], with_order boolean) returns text
language plpgsql stable set search_path = '' as $$
declare
  _p record;
  _where text := 'true';
  _order text := '';
begin
  if coalesce(query->'filter', 'null') <> 'null' then
    if parameters is null then
      _p := data.parameterize(query->'filter', '{}');
      _where := data.compile_filter(entity.id, _p.shape, 'v', _p.parameters);
    else
      _where := data.compile_filter(entity.id, query->'filter', 'v', parameters);
    end if;
  end if;
  _where := access.seen_condition(entity.id, query - 'select') || format('(%s)', _where);
  if export_source.with_order and coalesce(query->'sort', '[]') not in ('[]', 'null') then
    select ' order by ' || string_agg(e.expression || case s.value->>'direction' when 'desc' then ' desc' else '' end, ', ' order by s.n)
      || ', v.id' into _order
    from jsonb_array_elements(data.normalize_sort(query->'sort')) with ordinality s (value, n),
      data.path_value(entity.id, s.value->>'field', 'v') e;
  end if;
  return _where || _order;
end
$$;
comment on function data.export_source(data.entities, jsonb, text[], boolean) is
  'Which records an export is of, and in which order: what follows where, over v. RH400.';

create or replace function data.export_copy(entity_id uuid, relation text, "select" jsonb, format text, "where" text, tag text default null)
  returns text
language plpgsql stable set search_path = '' as $$
declare
  _row text := case when "select" is null then 'row_to_json(v.*)::text' else 'row_to_json(r.*)::text' end;
begin
  if export_copy.format = 'csv' then
    return pg_catalog.format('copy (select %s from %s v where %s) to stdout (format csv, header true, encoding ''UTF8'')',
      data.export_columns(export_copy.entity_id, "select"), relation, "where");
  end if;
  if tag is not null and export_copy.format = 'ndjson' then
    _row := pg_catalog.format('''{"entity":"%s","record":'' || %s || ''}''', tag, _row);
  elsif export_copy.format = 'json' then
    _row := ''','' || ' || _row;
  end if;
  -- JSON holds no control characters, so that with these as quote and delimiter COPY writes it as it is.
  return pg_catalog.format(
    'copy (select %s from %s v%s where %s) to stdout (format csv, quote e''\x01'', delimiter e''\x02'', encoding ''UTF8'')',
    _row, relation,
    case when "select" is not null
      then pg_catalog.format(', lateral (select %s) r', data.parse_select(export_copy.entity_id, "select", 'v')) else '' end,
    "where");
end
$$;
comment on function data.export_copy(uuid, text, jsonb, text, text, text) is
  'The COPY statement of an export: the columns of select from a relation with the fields of an entity, as v. RH400.';

drop function if exists data.export_statement(text, text, jsonb, text[], boolean);
create or replace function data.export_statement(
  entity text, format text default 'ndjson', query jsonb default '{}', parameters text[] default null, tagged boolean default false,
  noted boolean default false
) returns text
language plpgsql stable set search_path = '' as $$
declare
  _unknown text := (select string_agg(k, ', ') from jsonb_object_keys(query) k where k <> all (array['filter', 'sort', 'select']));
  _share text[] := regexp_match(export_statement.entity, '^(.*)/received-shares/([^/]*)$');
  _r record;
  _entity data.entities;
  _where text;
begin
  if export_statement.format is null or export_statement.format not in ('json', 'ndjson', 'csv') then
    perform rowhouse.fail(400, pg_catalog.format('%L is not a format of exports', left(export_statement.format, 40)),
      'Formats: json, ndjson, csv.', 'invalid_format');
  elsif _unknown is not null then
    perform rowhouse.fail(400, pg_catalog.format('An export has no %s', left(_unknown, 80)),
      'An export has filter, sort and select; it holds all records.', 'invalid_query');
  elsif _share is not null then
    return access.export_share(_share[1], _share[2], export_statement.format, query, export_statement.parameters, export_statement.noted);
  end if;
  _r := data.resolve_entity(regexp_replace(export_statement.entity, '/[^/]*$', ''),
    regexp_replace(export_statement.entity, '^.*/', ''));
  _entity := _r.entity_row;
  _where := data.export_source(_entity, query, export_statement.parameters, true);
  if not export_statement.noted and exists (select from data.exported_ids(_entity, query)) then
    _where := pg_catalog.format('(select data.note_export(%L, %L, %L) is not null) and ',
      export_statement.entity, query, export_statement.parameters) || _where;
  end if;
  return data.export_copy(_entity.id, pg_catalog.format('%I.%I', _r.schema_name, _entity.name), nullif(query->'select', 'null'),
    export_statement.format, _where, case when export_statement.tagged then _entity.name end);
end
$$;
comment on function data.export_statement(text, text, jsonb, text[], boolean, boolean) is
  'The COPY statement that writes an entity''s records (acme/crm/contacts), or a share''s (acme/crm/received-shares/name), as many as you '
  'may read, as ndjson (a JSON object a line), csv (with a header) or json (as ndjson, each line begun by a comma, for a caller that '
  'puts brackets around); query is {"filter", "sort", "select"}. In psql: select data.export_statement(…) \gexec. With tagged, a line '
  'of ndjson is {"entity", "record"}. Where reads are recorded, the statement itself runs data.note_export, unless noted says that its '
  'caller did. RH400, RH403, RH404.';

create or replace function data.export_entities(app text) returns setof text
language plpgsql stable set search_path = '' as $$
declare
  _app_id uuid := data.resolve_app(export_entities.app);
begin
  return query
    with recursive reach (entity_id, depth) as (
      select e.id, 0 from data.entities e where e.app_id = _app_id
      union
      select r.entity_id, p.depth + 1 from reach p
      join (select entity_id, target_id from data.relations union all select entity_id, target_id
        from data.links) r on r.target_id = p.entity_id
      where r.entity_id <> r.target_id and p.depth < 30
    )
    select e.name from reach p join data.entities e on e.id = p.entity_id group by e.name order by max(p.depth), e.name;
end
$$;
comment on function data.export_entities(text) is
  'The names of an app''s entities (acme/crm) in the order in which their records can be imported: what others refer to first. RH404.';

create or replace function data.resolve_app(app text) returns uuid
language plpgsql stable set search_path = '' as $$
declare
  _id uuid;
begin
  if resolve_app.app ~ '/' then
    select a.id into _id from tenancy.apps a join tenancy.sites s on s.id = a.site_id
    where s.name = split_part(resolve_app.app, '/', 1) and a.name = split_part(resolve_app.app, '/', 2)
      and (auth.is_operator() or s.id = tenancy.site_id());
  else
    select a.id into _id from tenancy.apps a
    where a.site_id = tenancy.site_id() and (a.name = resolve_app.app or a.id::text = resolve_app.app);
  end if;
  if _id is null then
    perform rowhouse.fail(404, format('There is no app %L that you may see', left(resolve_app.app, 80)),
      'Write site/app, for example acme/crm.', 'not_found');
  end if;
  return _id;
end
$$;
comment on function data.resolve_app(text) is 'The id of an app, by site/app, or by name or UUID within the site of the claims. RH404.';
