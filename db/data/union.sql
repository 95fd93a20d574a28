-- One query over several entities of an app with a common selection: a union all whose arms are each sorted and limited by
-- their own index.

create or replace function data.compile_union_find(app text, shape jsonb, parameters text[] default null) returns jsonb
language plpgsql stable set search_path = '' as $$
declare
  _names text[] := data.union_entities(shape);
  _ids uuid[];
  _sort jsonb := data.normalize_sort(shape->'sort');
  _select text[];
  _paths text[];
  _columns text;
  _f record;
  _arms text[] := '{}';
  _lists text[] := array_fill(''::text, array[cardinality(_names)]);
  _keys text[][];
  _types text[] := '{}';
  _required boolean[] := '{}';
  _directions text[];
  _outer text[];
  _page record;
  _n int := 0;
begin
  select array_agg(((data.resolve_entity(app, e)).entity_row).id order by n) into _ids from unnest(_names) with ordinality u (e, n);
  if coalesce(shape->'select', 'null') = 'null' then
    _select := data.union_common_fields(_ids);
  elsif jsonb_typeof(shape->'select') <> 'array' or shape->'select' = '[]'
    or jsonb_path_exists(shape->'select', '$[*] ? (@.type() != "string")')
    or jsonb_path_exists(shape->'select', '$[*] ? (@ like_regex "^.{64}")')
  then
    perform rowhouse.fail(400, 'select is a list of fields', 'select=id,name or select=["id","name"]', 'invalid_select');
  else
    select array_agg(s order by n) into _select from (select s, min(o) as n
      from jsonb_array_elements_text(shape->'select') with ordinality j (s, o) group by s) x
    where s <> 'entity';
  end if;
  -- Columns of the arms: those of the sort, then those of the selection.
  _paths := array(select s->>'field' from jsonb_array_elements(_sort) with ordinality j (s, n) order by n) || coalesce(_select, '{}');
  if 'entity' = any (_paths) then
    perform rowhouse.fail(400, 'A union is not sorted by entity', 'Records that are equal in the sort come by entity.', 'invalid_sort');
  end if;
  select array_agg(coalesce(s->>'direction', 'asc') order by n) into _directions from jsonb_array_elements(_sort) with ordinality j (s, n);
  _directions := _directions || array_fill(_directions[cardinality(_directions)], array[2]);
  _keys := array_fill(''::text, array[cardinality(_names), cardinality(_directions)]);
  for _f in
    select u.* from data.union_fields(_ids, _names, _paths,
      array(select jsonb_array_elements_text(case jsonb_typeof(shape->'nullable') when 'array' then shape->'nullable' else '[]' end))) u
  loop
    _n := _n + 1;
    if _n <= jsonb_array_length(_sort) then
      _types := _types || _f.sql_type;
      _required := _required || _f.is_required;
    end if;
    for i in 1 .. cardinality(_names) loop
      _lists[i] := _lists[i] || format(', %s as c%s', _f.expressions[i], _n);
      if _n <= jsonb_array_length(_sort) then
        _keys[i][_n] := _f.expressions[i];
      end if;
    end loop;
  end loop;
  _types := _types || array['text', 'uuid'];
  _required := _required || array[true, true];
  _outer := array(select 't.c' || n from generate_series(1, jsonb_array_length(_sort)) n) || array['t.entity', 't.id'];
  _columns := 't.entity'
    || coalesce((select string_agg(format(', t.c%s as %I', jsonb_array_length(_sort) + n, s), '' order by n)
    from unnest(_select) with ordinality u (s, n)), '');
  for i in 1 .. cardinality(_names) loop
    _keys[i][cardinality(_directions) - 1] := quote_literal(_names[i]) || '::text';
    _keys[i][cardinality(_directions)] := 't.id';
    _page := data.compile_page(shape, _sort, array(select k from unnest(_keys[i:i]) with ordinality u (k, n) order by n), _outer, _types,
      _required, _directions,
      data.last_parameter(shape->'filter'), 20);
    _arms := _arms || format('(%s and %s order by %s limit %s + 1 + %s)',
      data.union_arm(app, _names[i], _paths, ', t.id' || _lists[i], shape, parameters), _page.after,
      (select string_agg(k || ' ' || _directions[n], ', ' order by n) from unnest(_keys[i:i]) with ordinality u (k, n)
        where n <> cardinality(_directions) - 1),
      _page.row_limit, _page.row_offset);
  end loop;
  return jsonb_build_object('params', _page.last, 'entities', _names, 'sql', format($sql$
    select %2$s%7$s as body
    from (select * from (%3$s) t order by %4$s limit %1$s + 1 offset %5$s) t, lateral (select %6$s) r $sql$,
    _page.row_limit, data.page_body('r.*', _page.row_limit, _page.meta), array_to_string(_arms, ' union all '),
    (select string_agg(k || ' ' || _directions[n], ', ' order by n) from unnest(_outer) with ordinality u (k, n)), _page.row_offset,
    _columns,
    audit.union_seen_sql(_ids, _paths, format('(array_agg(t.entity))[:%s]', _page.row_limit),
      format('(array_agg(t.id))[:%s]', _page.row_limit))));
end
$$;
comment on function data.compile_union_find(text, jsonb, text[]) is
  'Compiles a query over several entities into {"sql", "params"}; the statement returns {"data": [{"entity", …} …], "meta": {limit, offset, next_cursor}} as text. RH400, RH404.';

create or replace function data.compile_union_aggregate(app text, shape jsonb, parameters text[] default null) returns jsonb
language plpgsql stable set search_path = '' as $$
declare
  _names text[] := data.union_entities(shape);
  _ids uuid[];
  _paths text[];
  _columns jsonb := '{"entity": {"expression": "t.entity", "kind": "string", "sql_type": "text"}}';
  _lists text[] := array_fill(''::text, array[cardinality(_names)]);
  _f record;
  _n int := 0;
begin
  select array_agg(((data.resolve_entity(app, e)).entity_row).id order by n) into _ids from unnest(_names) with ordinality u (e, n);
  _paths := array(select g.path from data.group_terms(shape->'group', null) g where g.path <> 'entity'
    union select a.path from data.aggregate_terms(shape->'aggregate') a where a.path <> 'entity');
  for _f in
    select u.* from data.union_fields(_ids, _names, _paths,
      array(select jsonb_array_elements_text(case jsonb_typeof(shape->'nullable') when 'array' then shape->'nullable' else '[]' end))) u
  loop
    _n := _n + 1;
    _columns := _columns
      || jsonb_build_object(_f.path, jsonb_build_object('expression', 't.c' || _n, 'kind', _f.kind, 'sql_type', _f.sql_type));
    for i in 1 .. cardinality(_names) loop
      _lists[i] := _lists[i] || format(', %s as c%s', _f.expressions[i], _n);
    end loop;
  end loop;
  return data.compile_aggregate(jsonb_build_object('columns', _columns), format('from (%s) t', (
    select string_agg(data.union_arm(app, e, _paths, _lists[n], shape, parameters), ' union all ' order by n)
    from unnest(_names) with ordinality u (e, n))), shape, parameters) || jsonb_build_object('entities', _names);
end
$$;
comment on function data.compile_union_aggregate(text, jsonb, text[]) is 'Compiles an aggregate query over the records of several entities; entity is a field. RH400, RH404.';

create or replace function data.query_union(app text, operation text, query jsonb) returns jsonb
language plpgsql stable set search_path = '' set timezone = 'UTC' as $$
declare
  _p record := data.parameterize_query(query);
  _compiled jsonb;
  _body text;
begin
  perform data.refuse_unknown_query(query, operation);
  _compiled := case operation when 'find_union' then data.compile_union_find(app, _p.shape, _p.parameters)
    else data.compile_union_aggregate(app, _p.shape, _p.parameters) end;
  execute _compiled->>'sql' into _body;
  return _body::jsonb;
end
$$;
comment on function data.query_union(text, text, jsonb) is 'Runs find_union or aggregate_union. Use data.find_union and data.aggregate_union.';

create or replace function data.find_union(app text, query jsonb) returns jsonb
language sql stable set search_path = '' as $$ select data.query_union(app, 'find_union', query) $$;
comment on function data.find_union(text, jsonb) is
  'Records of several entities of an app (acme/crm) in one list, each with its "entity", by {"entities", "select", "nullable", "filter", "sort", "limit", "offset" or "page", "cursor"}: {"data": […], "meta": {…}}. What is selected, sorted and filtered by is a field of all, with one type; a field listed in nullable is null where there is none. Newest first, 20 unless told. RH400, RH404.';

create or replace function data.aggregate_union(app text, query jsonb) returns jsonb
language sql stable set search_path = '' as $$ select data.query_union(app, 'aggregate_union', query) $$;
comment on function data.aggregate_union(text, jsonb) is
  'data.aggregate over several entities of an app (acme/crm): {"entities", "nullable"} and what data.aggregate takes; entity can be grouped by. RH400, RH404.';
