-- A query (q, filter, sort, select, expand, limit, offset, cursor) becomes one statement that returns JSON text.

-- What is expanded under the name of a field, the records of a list of links, takes its place.
create or replace function data.parse_select(entity_id uuid, "select" jsonb, alias text, extra text[] default '{}') returns text
language plpgsql stable set search_path = '' as $$
declare
  _out text;
begin
  if "select" is null or "select" = 'null' then
    select string_agg(format('%s.%I', alias, c.name), ', ' order by c.n) into _out from (
      select 0, 'id' union all select f.position, f.name from data.fields f where f.entity_id = parse_select.entity_id
      union all select 10000 + o, s from unnest(array['created_at', 'updated_at', 'version', 'created_by']) with ordinality u (s, o)
    ) c (n, name) where not exists (select from unnest(extra) x where x like '%) as ' || quote_ident(c.name));
  elsif jsonb_typeof("select") <> 'array' or jsonb_path_exists("select", '$[*] ? (@.type() != "string")') or "select" = '[]' then
    perform rowhouse.fail(400, 'select is a list of fields', 'select=id,name or select=["id","name"]', 'invalid_select');
  else
    select string_agg(case when s.path like '%.%' then format('%s as %I', e.expression, s.path) else e.expression end, ', '
      order by s.n) into _out
    from (select path, min(n) as n from jsonb_array_elements_text("select") with ordinality j (path, n) group by path) s,
      data.path_value(parse_select.entity_id, s.path, alias) e
    where not exists (select from unnest(extra) x where x like '%) as ' || quote_ident(s.path));
    if jsonb_path_exists("select", '$[*] ? (@ like_regex "^.{64}")') then
      perform rowhouse.fail(400, 'A path in select is longer than 63 characters', 'Use expand for the whole related record.',
        'invalid_select');
    end if;
  end if;
  return array_to_string(_out || extra, ', ');
end
$$;
comment on function data.parse_select(uuid, jsonb, text, text[]) is 'The select list of a query: all columns, or those named. RH400 for unknown fields.';

create or replace function data.compile_expand(entity_id uuid, schema_name text, expand jsonb, alias text, depth int default 1)
  returns text[]
language plpgsql stable set search_path = '' as $$
declare
  _out text[] := '{}';
  _name text;
  _rest jsonb;
  _r record;
  _child text := 'e' || depth;
begin
  if jsonb_typeof(expand) <> 'array' or jsonb_path_exists(expand, '$[*] ? (@.type() != "string")') then
    perform rowhouse.fail(400, 'expand is a list of relations', 'expand=customer,lines.track', 'invalid_expand');
  elsif depth > 5 then
    perform rowhouse.fail(400, 'expand is nested too deeply', 'Expand at most 5 levels: a.b.c.d.e.', 'invalid_expand');
  end if;
  for _name, _rest in
    select split_part(p, '.', 1), coalesce(jsonb_agg(substr(p, strpos(p, '.') + 1)) filter (where p like '%.%'), '[]')
    from jsonb_array_elements_text(expand) p group by 1 order by 1
  loop
    select * into _r from data.relation_of(compile_expand.entity_id, _name);
    if _r.id is null then
      perform rowhouse.fail(400,
        format('%L is not a relation of %s', left(_name, 60), (select e.name from data.entities e where e.id = compile_expand.entity_id)),
        'Relations: ' || data.relation_names(compile_expand.entity_id), 'unknown_relation');
    end if;
    _out := _out || format(case when _r.many
        then '(select coalesce(json_agg(row_to_json(x.*)), ''[]'')
          from (select %1$s from %2$s order by %4$s%3$s.created_at, %3$s.id limit 1000) x) as %5$I'
        else '(select row_to_json(x.*) from (select %1$s from %2$s) x) as %5$I' end,
      data.parse_select(_r.id, null, _child, data.compile_expand(_r.id, schema_name, _rest, _child, depth + 1)),
      data.relation_from(compile_expand.schema_name, _r, _child, format('%s.%I', alias, _r.own), true), _child,
      case when _r.link_own = 'source_id' then format('l%s.position, ', _child) else '' end, _name);
  end loop;
  return _out;
end
$$;
comment on function data.compile_expand(uuid, text, jsonb, text, int) is
  'Select list entries that embed related records, forward ones as an object, backward ones as a list of at most 1,000. RH400 lists the relations there are.';

create or replace function data.normalize_sort(sort jsonb) returns jsonb
language plpgsql immutable set search_path = '' as $$
begin
  if sort is null or sort in ('null', '[]') then
    return '[{"field": "created_at", "direction": "desc"}]';
  elsif jsonb_typeof(sort) <> 'array' or jsonb_array_length(sort) > 8 or exists (
    select from jsonb_array_elements(sort) s where jsonb_typeof(s) <> 'object' or jsonb_typeof(s->'field') is distinct from 'string'
      or coalesce(s->>'direction', 'asc') not in ('asc', 'desc') or s - 'field' - 'direction' <> '{}')
  then
    perform rowhouse.fail(400, 'sort is a list of at most 8 fields with a direction',
      'sort=-created_at,name or sort=[{"field":"created_at","direction":"desc"}]', 'invalid_sort');
  end if;
  return sort;
end
$$;
comment on function data.normalize_sort(jsonb) is 'A valid sort, newest first when none was given. RH400 otherwise.';

drop function if exists data.compile_count(data.entities, text, jsonb, text, text[]);
create or replace function data.compile_count(entity data.entities, schema_name text, shape jsonb, source text, "where" text,
  parameters text[]) returns text
language plpgsql stable set search_path = '' as $$
declare
  _from text := format('from %s t where %s', source, "where");
begin
  case coalesce(shape->>'count', 'none')
    when 'none' then return '';
    when 'exact' then return format($sql$ || ',"count":' || (select count(*) %s)$sql$, _from);
    when 'estimated' then
      -- Of what an index found, or what was once, no statistics know.
      if 'null' <> any (array[coalesce(shape->'q', 'null'), coalesce(shape->'as_of', 'null')]) then
        return format($sql$ || ',"count":' || (select count(*) %s) || ',"count_is_estimated":false'$sql$, _from);
      end if;
      return format(' || data.estimated_count(%L, %L, array[%s]::text[])',
        -- As elements of one parameter, of which the planner sees the values. What looks like a parameter within a literal, a
        -- path of JSON, is at worst estimated wrongly.
        case when parameters is null then regexp_replace(_from, '\$(\d+)::', '($1)[\1]::', 'g') else _from end,
        array(select format('%I.%I', schema_name, e) from (select entity.name
          union select data.filter_entities(entity.id, shape->'filter')) x (e)),
        case when parameters is null
          then (select string_agg(format('$%s::text', n), ', ' order by n)
          from generate_series(1, data.last_parameter(shape->'filter')) n) end);
    else
      perform rowhouse.fail(400, 'count is exact, estimated or none',
        'count=exact adds meta.count and reads every record that matches; count=estimated asks the statistics.', 'invalid_count');
  end case;
end
$$;
comment on function data.compile_count(data.entities, text, jsonb, text, text, text[]) is
  'The part of a page''s meta that says how many records of source match, exactly or estimated. RH400.';

create or replace function data.compile_find(entity data.entities, schema_name text, shape jsonb, parameters text[] default null)
  returns jsonb
language plpgsql stable set search_path = '' as $$
declare
  _sort jsonb := data.normalize_sort(shape->'sort');
  _f record;
  _s jsonb;
  _keys text[] := '{}';
  _types text[] := '{}';
  _required boolean[] := '{}';
  _directions text[] := '{}';
  _n int := data.last_parameter(shape->'filter');
  _where text := case when jsonb_typeof(shape->'filter') is null or shape->'filter' = 'null' then 'true'
    else data.compile_filter(entity.id, shape->'filter', 't', parameters) end;
  _page record;
  _expands boolean := coalesce(shape->'expand', 'null') <> 'null';
  _plain boolean := coalesce(shape->'select', 'null') = 'null' and not _expands;
  _count text;
  _match record;
  _found text[];
  _by text := access.source_field(entity, shape);
  _from text := coalesce(access.seen_view(entity, compile_find.schema_name, _by), format('%I.%I', compile_find.schema_name, entity.name));
  _all text := _from;
  _related text[] := '{}';
  _columns text := '';
  _outer text[] := '{}';
  _seen text;
begin
  if shape ? 'deleted' then
    _from := data.deleted_relation(entity, compile_find.schema_name, shape);
    _all := _from;
  end if;
  if coalesce(shape->'as_of', 'null') <> 'null' then
    _n := _n + (shape->'as_of' = 'true')::int;
    _from := data.as_of_relation(entity, compile_find.schema_name, shape, _n);
    _all := _from;
  end if;
  if coalesce(shape->'q', 'null') <> 'null' then
    _n := _n + (shape->'q' = 'true')::int;
    _match := data.compile_match(entity, compile_find.schema_name, shape, _where = 'true', _n);
    _from := _match.source;
    _all := _match.all_of_them;
    _sort := _match.sort;
    _found := _match.columns;
    _plain := false;
  end if;
  _where := access.seen_condition(entity.id, shape, case when _from = access.seen_view(entity, compile_find.schema_name, _by) then _by end)
    || _where;
  _count := data.compile_count(entity, schema_name, shape, _all, _where, parameters);
  if _found is not null then
    shape := _match.shape_left;
  end if;
  for _s in select * from jsonb_array_elements(_sort) loop
    if _found is not null and _s->>'field' = '_rank' then
      _keys := _keys || 't._rank'::text;
      _outer := _outer || 't._rank'::text;
      _types := _types || 'float8'::text;
      _required := _required || true;
      _directions := _directions || 'desc'::text;
      continue;
    end if;
    _f := data.path_expression(entity.id, _s->>'field', 't');
    if _f.is_related then
      _related := _related || (_s->>'field');
      _columns := _columns || format(', %s as %I', _f.expression, 'sort.' || cardinality(_keys) + 1);
    end if;
    _keys := _keys || _f.expression;
    _outer := _outer || case when _f.is_related then format('t.%I', 'sort.' || cardinality(_keys)) else _f.expression end;
    _types := _types || _f.sql_type::text;
    _required := _required || _f.is_required;
    _directions := _directions || coalesce(_s->>'direction', 'asc');
  end loop;
  _keys := _keys || 't.id'::text;
  _outer := _outer || 't.id'::text;
  _plain := _plain and _related = '{}';
  _types := _types || 'uuid'::text;
  _required := _required || true;
  _directions := _directions || _directions[cardinality(_directions)];
  _page := data.compile_page(shape, _sort, _keys, _outer, _types, _required, _directions, _n, 20);
  _seen := audit.seen_sql(entity, shape, format('(array_agg(t.id))[:%s]', _page.row_limit),
      case when shape ? 'deleted' then 'deleted' when coalesce(shape->'as_of', 'null') <> 'null' then 'as_of'
        when _found is not null then 'search' else 'list' end)
    || audit.related_seen_sql(entity.id, shape, _sort, '(array_agg(%s))[:' || _page.row_limit || ']');
  return jsonb_build_object('params', _page.last, 'sql', format($sql$
    select %1$s%10$s as body
    from (select t.*%2$s from %3$s t%4$s where %5$s%6$s limit %7$s + 1 offset %8$s) t%9$s $sql$,
    data.page_body(case when _plain then 't.*' else 'r.*' end, _page.row_limit, _page.meta || _count),
    _columns,
    _from,
    data.path_joins(entity.id, schema_name, _related, 't'),
    format('(%s) and %s', _where, _page.after),
    case when not shape ? '_ordered' then
      ' order by ' || (select string_agg(k || ' ' || _directions[n], ', ' order by n) from unnest(_keys) with ordinality u (k, n))
      else '' end, -- the view of a share has it (access.share_orders)
    _page.row_limit,
    _page.row_offset,
    case when not _plain then format(', lateral (select %s) r', data.parse_select(entity.id, shape->'select', 't',
      case when _expands then data.compile_expand(entity.id, schema_name, shape->'expand', 't') end || _found)) else '' end,
    _seen));
end
$$;
comment on function data.compile_find(data.entities, text, jsonb, text[]) is
  'Compiles a query into {"sql", "params"}; the statement returns {"data": […], "meta": {limit, offset, next_cursor, and count where asked for}} as text. RH400.';
