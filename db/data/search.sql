-- One ranked list over several entities of an app.

create or replace function data.compile_search(app text, shape jsonb) returns jsonb
language plpgsql stable set search_path = '' as $$
declare
  _app_id uuid := data.resolve_app(compile_search.app);
  _app record;
  _text text := case when shape->'q' = 'true' then '$1::text' else quote_literal(shape->>'q') end;
  _limit text := data.page_number(coalesce(nullif(shape->'limit', 'null') #>> '{}', '20'), 'limit', 1, 1000);
  _names jsonb := nullif(shape->'entities', 'null');
  _known jsonb;
  _hits text;
  _records text;
begin
  if exists (select from jsonb_object_keys(shape) k where k <> all (array['q', 'entities', 'limit'])) then
    perform rowhouse.fail(400, 'A search has q, entities and limit', '{"q": "jon smith", "entities": ["contacts"], "limit": 20}',
      'invalid_query');
  elsif coalesce(shape->'q' <> 'true' and jsonb_typeof(shape->'q') <> 'string', true) then
    perform data.search_terms(null);
  elsif _names is not null
    and (jsonb_typeof(_names) <> 'array' or _names = '[]' or jsonb_path_exists(_names, '$[*] ? (@.type() != "string")')) then
    perform rowhouse.fail(400, 'entities is a list of names', 'entities=contacts,companies', 'invalid_entities');
  end if;
  select a.schema_name, a.definition_version into _app from tenancy.apps a where a.id = _app_id;
  select coalesce(jsonb_agg(e.name order by e.name), '[]') into _known
  from data.entities e where e.app_id = _app_id and data.is_searched(e.id);
  if _known = '[]' or not coalesce(_known @> _names, true) then
    perform rowhouse.fail(400, case when _known = '[]' then 'Nothing in this app can be searched'
        else format('These entities cannot be searched: %s',
          left((_names - array(select jsonb_array_elements_text(_known)))::text, 200)) end,
      case when _known = '[]' then ''
        else format('Entities that can: %s. ', array_to_string(array(select jsonb_array_elements_text(_known)), ', ')) end
        || 'Add "x-search": true to the properties to be searched and define the entity again.', 'not_searchable');
  end if;
  select string_agg(format('(select %L as entity, s.id, s.rank, s.words from %I.%I(%s, %s) s)', e.name, _app.schema_name,
    e.name || '_search', _text, _limit),
      ' union all ' order by e.name),
    string_agg(format('when %L then (
        select jsonb_build_object(''title'', %s, ''snippets'', data.search_snippets(%s, h.words, %s), ''record'', row_to_json(t.*))
        from %I.%I t where t.id = h.id)',
      e.name, (select case when (f.field).kind in ('array', 'object') then format('data.search_text(t.%I)', (f.field).name)
        else format('t.%I', (f.field).name) end
        from data.search_fields(e.id) f limit 1),
      data.search_configuration(e), data.search_texts(e.id, 't'), _app.schema_name, e.name), ' ')
  into _hits, _records
  from data.entities e
  where e.app_id = _app_id and coalesce(_names, _known) ? e.name and _known ? e.name;
  return jsonb_build_object('params', (shape->'q' = 'true')::int, 'entities', coalesce(_names, _known),
    'version', _app.definition_version, 'app', _app_id, 'sql', format($sql$
    select json_build_object('data', coalesce(json_agg(jsonb_build_object('entity', r.entity, 'id', r.id, 'rank', r.rank) || r.more
      order by r.rank desc, r.entity, r.id), '[]'), 'meta', json_build_object('limit', %2$s))::text%4$s as body
    from (
      select h.*, case h.entity %3$s end as more
      from (select * from (%1$s) a order by a.rank desc, a.entity, a.id limit %2$s) h
    ) r where r.more is not null $sql$, _hits, _limit, _records,
    audit.seen_of_sql((select array_agg(e) from data.entities e where e.app_id = _app_id and coalesce(_names, _known) ? e.name),
      'array_agg(r.entity)', 'array_agg(r.id)', 'search')));
end
$$;
comment on function data.compile_search(text, jsonb) is
  'The statement for a search over an app''s entities, as {"sql", "params", "entities" (their names), "version", "app"}. RH400, RH404.';

create or replace function data.search(app text, query jsonb) returns jsonb
language plpgsql stable set search_path = '' set timezone = 'UTC' as $$
declare
  _body text;
begin
  if jsonb_typeof(query->'q') is distinct from 'string' then
    perform data.search_terms(null);
  end if;
  execute data.compile_search(search.app, query)->>'sql' into _body;
  return _body::jsonb;
end
$$;
comment on function data.search(text, jsonb) is
  'Searches an app (acme/crm) by {"q", "entities", "limit"}: one list over its entities with x-search, or those named, the best first, as {"data": [{"entity", "id", "rank", "title", "snippets", "record"}], "meta": {"limit"}}; 20 unless told, 1,000 at most. What you may not read is not found. RH400, RH404.';
