-- Aggregates: one statement that groups, computes, keeps the groups that having asks for, sorts and pages them.

create or replace function data.group_expression(f jsonb, path text, bucket text, zone text, out expression text, out kind text,
  out sql_type text)
language plpgsql stable set search_path = '' as $$
begin
  if f->>'kind' in ('array', 'object') then
    perform rowhouse.fail(400, format('%L is %s and cannot be grouped by', left(path, 120), f->>'kind'),
      'Group by a field inside it: address.city.', 'invalid_group');
  elsif bucket is not null and (f->>'kind' not in ('date', 'date-time') or f->>'kind' = 'date' and bucket = 'hour') then
    perform rowhouse.fail(400, format('%L is %s and has no %s', left(path, 120), f->>'kind', bucket),
      'Buckets are for dates (not hour) and times.', 'invalid_group');
  end if;
  expression := f->>'expression';
  kind := f->>'kind';
  sql_type := f->>'sql_type';
  if bucket is null then
    return;
  end if;
  perform data.timezone(zone);
  if bucket = 'hour' then
    expression := format('date_trunc(%L, %s, %L)', bucket, f->>'expression', zone);
  elsif f->>'kind' = 'date' then
    expression := format('date_trunc(%L, %s::timestamp)::date', bucket, f->>'expression');
  else
    expression := format('date_trunc(%L, %s at time zone %L)::date', bucket, f->>'expression', zone);
    kind := 'date';
    sql_type := 'date';
  end if;
end
$$;
comment on function data.group_expression(jsonb, text, text, text) is
  'A group key as SQL: a field, or the bucket it lies in: an hour as the instant it begins, others as the date of their first day in the time zone, weeks from Monday. RH400.';

create or replace function data.aggregate_expression(fn text, path text, f jsonb, out expression text, out kind text, out sql_type text)
language plpgsql immutable set search_path = '' as $$
declare
  _numbers text[] := array['integer', 'number', 'decimal'];
begin
  if path is null then
    expression := 'count(*)';
  elsif fn = 'count' then
    expression := format('count(%s)', f->>'expression');
  elsif fn = 'count_distinct' then
    expression := format('count(distinct %s)', f->>'expression');
  elsif not (f->>'kind') = any (_numbers || case when fn in ('min', 'max') then array['date', 'date-time', 'string', 'email'] end) then
    perform rowhouse.fail(400, format('%s cannot be computed of %L, which is %s', fn, left(path, 120), f->>'kind'),
      case when fn in ('min', 'max') then 'min and max are for numbers, dates and text.' else 'sum and avg are for numbers.' end,
        'invalid_aggregate');
  elsif fn = 'avg' and f->>'kind' <> 'number' then
    -- avg() has 16 significant digits, and so none behind the point for large sums; this has 16 decimals more than the values.
    expression := format('trim_scale(sum(%1$s) * 1.0000000000000000 / count(%1$s))', f->>'expression');
  else
    expression := format('%s(%s)', fn, f->>'expression');
  end if;
  kind := case when fn in ('count', 'count_distinct') then 'integer'
    when fn in ('sum', 'avg') and f->>'kind' in ('integer', 'decimal') then 'decimal' else f->>'kind' end;
  sql_type := case kind when 'integer' then 'int8' when 'decimal' then 'numeric' else f->>'sql_type' end;
end
$$;
comment on function data.aggregate_expression(text, text, jsonb) is
  'An aggregate as SQL: count, sum, avg, min, max, count_distinct. Exact for integers and decimals (numeric), 64-bit floating point for numbers. RH400.';

create or replace function data.compile_columns_filter(columns jsonb, filter jsonb, parameters text[], depth int default 0) returns text
language plpgsql stable set search_path = '' as $$
declare
  _out text[] := '{}';
  _key text;
  _value jsonb;
  _operator text;
  _operand jsonb;
  _c jsonb;
begin
  if depth > 10 then
    perform rowhouse.fail(400, 'having is nested too deeply', 'Nest $and, $or and $not at most 10 levels deep.', 'invalid_having');
  elsif jsonb_typeof(filter) is distinct from 'object' or filter ? '$param' then
    perform rowhouse.fail(400, 'having is a filter over the result', '{"revenue": {"$gt": 100}}', 'invalid_having');
  end if;
  for _key, _value in select * from jsonb_each(filter) loop
    _c := columns->_key;
    if _key in ('$and', '$or') and jsonb_typeof(_value) = 'array' and _value <> '[]' then
      _out := _out || ('(' || (select string_agg(data.compile_columns_filter(columns, f, parameters, depth + 1),
        case _key when '$and' then ' and ' else ' or ' end) from jsonb_array_elements(_value) f) || ')');
    elsif _key = '$not' then
      _out := _out || format('(%s) is not true', data.compile_columns_filter(columns, _value, parameters, depth + 1));
    elsif _c is null then
      perform rowhouse.fail(400, format('%L is not a column of this result', left(_key, 60)),
        'Columns: ' || (select string_agg(c, ', ' order by c) from jsonb_object_keys(columns) c) || '. Records are chosen with filter.',
        'unknown_column');
    elsif jsonb_typeof(_value) = 'object' and not _value ? '$param' then
      for _operator, _operand in select * from jsonb_each(case when _value = '{}' then '{"$eq": {}}' else _value end) loop
        _out := _out || case when _operator = '$not'
          then format('(%s) is not true', data.compile_columns_filter(columns, jsonb_build_object(_key, _operand), parameters, depth + 1))
          else data.compile_comparison(_c->>'expression', _c->>'kind', null, _c->>'sql_type', _key, _operator, _operand, parameters) end;
      end loop;
    else
      _out := _out || data.compile_comparison(_c->>'expression', _c->>'kind', null, _c->>'sql_type', _key, '$eq', _value, parameters);
    end if;
  end loop;
  return case when _out = '{}' then 'true' else array_to_string(_out, ' and ') end;
end
$$;
comment on function data.compile_columns_filter(jsonb, jsonb, text[], int) is
  'A filter over the columns {"name": {"expression", "kind", "sql_type"}} of a result as SQL. RH400 lists the columns there are.';

-- The fields of what is aggregated: of an entity and those it refers to, or the columns of a union.
create or replace function data.scope_field(scope jsonb, path text) returns jsonb
language plpgsql stable set search_path = '' as $$
begin
  if scope ? 'entity' then
    return (select to_jsonb(e) from data.path_expression((scope->>'entity')::uuid, path, 't') e);
  elsif not scope->'columns' ? path then
    perform rowhouse.fail(400, format('%L is not a field of this union', left(path, 120)),
      'Fields: ' || (select string_agg(c, ', ' order by c) from jsonb_object_keys(scope->'columns') c) || '.', 'unknown_field');
  end if;
  return scope->'columns'->path;
end
$$;
comment on function data.scope_field(jsonb, text) is 'A field of the records that are aggregated, as {"expression", "kind", "sql_type"}. RH400 lists the fields there are.';

create or replace function data.compile_aggregate(scope jsonb, source text, shape jsonb, parameters text[] default null) returns jsonb
language plpgsql stable set search_path = '' as $$
declare
  _term record;
  _e record;
  _columns jsonb := '{}';
  _list text[] := '{}';
  _groups text[] := '{}';
  _sort jsonb := case when shape->'sort' is null or shape->'sort' in ('null', '[]') then '[]' else data.normalize_sort(shape->'sort') end;
  _keys text[];
  _types text[];
  _directions text[];
  _n int := greatest(data.last_parameter(shape->'filter'), data.last_parameter(shape->'having'));
  _having text := 'true';
  _page record;
  _unknown text;
begin
  for _term in
    select g.name, g.path, g.bucket, g.zone, null as fn, true as is_group, g.n from data.group_terms(shape->'group', shape->>'timezone') g
    union all
    select a.name, a.path, null, null, a.fn, false, a.n from data.aggregate_terms(shape->'aggregate') a
    order by is_group desc, n
  loop
    if _columns ? _term.name then
      perform rowhouse.fail(400, format('%L would name two columns of the result', _term.name),
        'Name one: {"field": "…", "as": "…"} in group, "name:sum(…)" in aggregate.', 'duplicate_name');
    elsif _term.is_group then
      _e := data.group_expression(data.scope_field(scope, _term.path), _term.path, _term.bucket, _term.zone);
      _groups := _groups || _term.name;
    else
      _e := data.aggregate_expression(_term.fn, _term.path, case when _term.path is not null then data.scope_field(scope, _term.path) end);
    end if;
    _list := _list || format('%s as %I', _e.expression, _term.name);
    _columns := _columns || jsonb_build_object(_term.name,
      jsonb_build_object('expression', format('t.%I', _term.name), 'kind', _e.kind, 'sql_type', _e.sql_type));
  end loop;
  if coalesce(shape->'having', 'null') <> 'null' then
    _having := data.compile_columns_filter(_columns, shape->'having', parameters);
  end if;
  select string_agg(s->>'field', ', ') into _unknown from jsonb_array_elements(_sort) s where not _columns ? (s->>'field');
  if _unknown is not null then
    perform rowhouse.fail(400, format('%L is not a column of this result', left(_unknown, 60)),
      'Sort by: ' || (select string_agg(c, ', ' order by c) from jsonb_object_keys(_columns) c) || '.', 'unknown_column');
  end if;
  _sort := _sort || coalesce((select jsonb_agg(jsonb_build_object('field', g) order by n) from unnest(_groups) with ordinality u (g, n)
    where not jsonb_path_exists(_sort, '$[*].field ? (@ == $g)', jsonb_build_object('g', g))), '[]');
  select coalesce(array_agg(_columns->f->>'expression' order by n), '{}'), coalesce(array_agg(_columns->f->>'sql_type' order by n), '{}'),
    coalesce(array_agg(coalesce(d, 'asc') order by n), '{}')
  into _keys, _types, _directions
  from jsonb_array_elements(_sort) with ordinality s (v, n), lateral (select v->>'field', v->>'direction') x (f, d);
  _page := data.compile_page(shape, _sort, _keys, _keys, _types, array_fill(false, array[cardinality(_keys)]), _directions, _n, 100);
  return jsonb_build_object('params', _page.last, 'sql', format($sql$
    select %2$s as body
    from (select t.* from (select %3$s %4$s%5$s) t where (%6$s) and %7$s%8$s limit %1$s + 1 offset %9$s) t $sql$,
    _page.row_limit, data.page_body('t.*', _page.row_limit, _page.meta), array_to_string(_list, ', '), source,
    case when _groups <> '{}' then ' group by '
      || (select string_agg(n::text, ', ' order by n) from generate_series(1, cardinality(_groups)) n) else '' end,
    _having, _page.after,
    coalesce(' order by ' || (select string_agg(k || ' ' || _directions[n], ', ' order by n) from unnest(_keys) with ordinality u (k, n)),
    ''),
    _page.row_offset));
end
$$;
comment on function data.compile_aggregate(jsonb, text, jsonb, text[]) is
  'Compiles an aggregate query over a source (from … where …) into {"sql", "params"}; the statement returns {"data": [group …], "meta": {limit, offset, next_cursor}} as text. RH400.';

create or replace function data.compile_entity_aggregate(entity data.entities, schema_name text, shape jsonb,
  parameters text[] default null) returns jsonb
language sql stable set search_path = '' as $$
  select data.compile_aggregate(jsonb_build_object('entity', entity.id), format('from %I.%I t%s where %s', schema_name, entity.name,
    data.path_joins(entity.id, schema_name, array(select g.path from data.group_terms(shape->'group', null) g
      union select a.path from data.aggregate_terms(shape->'aggregate') a where a.path is not null), 't'),
    access.seen_condition(entity.id, shape)
      || case when coalesce(shape->'filter', 'null') = 'null' then 'true'
      else data.compile_filter(entity.id, shape->'filter', 't', parameters) end), shape, parameters)
$$;
comment on function data.compile_entity_aggregate(data.entities, text, jsonb, text[]) is 'Compiles an aggregate query over the records of an entity and the records they refer to. RH400.';

create or replace function data.aggregate(entity text, query jsonb default '{}') returns jsonb
language plpgsql stable set search_path = '' set timezone = 'UTC' as $$
declare
  _r record := data.resolve_entity(regexp_replace(aggregate.entity, '/[^/]*$', ''), split_part(aggregate.entity, '/', 3));
  _p record := data.parameterize_query(query);
  _body text;
begin
  perform data.refuse_unknown_query(query, 'aggregate');
  execute data.compile_entity_aggregate(_r.entity_row, _r.schema_name, _p.shape, _p.parameters)->>'sql' into _body;
  return _body::jsonb;
end
$$;
comment on function data.aggregate(text, jsonb) is
  'Groups the records of an entity (acme/crm/orders) and computes, by {"filter", "group", "aggregate", "having", "sort", "limit", "offset" or "page", "cursor", "timezone"}: {"data": [{group keys and aggregates} …], "meta": {…}}. count, sum, avg, min, max, count_distinct; exact for integers and decimals. Without group one row of all records; of none count is 0 and the others are null. 100 groups unless told. RH400, RH404.';
