-- The plan of a query in plain words.

create or replace function data.explain(entity text, query jsonb default '{}', measure boolean default false) returns jsonb
language plpgsql set search_path = '' set timezone = 'UTC' as $$
declare
  _r record := data.resolve_entity(regexp_replace(explain.entity, '/[^/]*$', ''), split_part(explain.entity, '/', 3));
  _entity data.entities := _r.entity_row;
  _app text := (select a.name from tenancy.apps a where a.id = _entity.app_id);
  _query jsonb := coalesce(explain.query, '{}');
  _p record;
  _plan jsonb;
  _steps jsonb;
begin
  -- Estimates are made of all records: who may read none learns none.
  perform access.require_right(_entity.id, 'read');
  if not access.sees_all(_entity.id) then
    perform rowhouse.fail(403, format('You do not see all records of %s, and a plan tells of all', _entity.name),
      'Ask somebody who may read every record.', 'forbidden');
  end if;
  perform data.refuse_unknown_query(_query, 'find');
  if _query->'q' = 'true' then
    perform data.search_terms(null); -- a place for a value, as in data.find
  end if;
  _p := data.parameterize(coalesce(_query->'filter', '{}'), '{}');
  execute 'select ' || access.seen_condition(_entity.id, _query || jsonb_build_object('filter', _p.shape)) || 'true';
  execute format('explain (format json%s) %s', case when explain.measure then ', analyze, buffers off' else '' end,
    data.compile_find(_entity, _r.schema_name, _query || jsonb_build_object('filter', _p.shape), _p.parameters)->>'sql') into _plan;
  _steps := data.plan_steps(_entity, _r.schema_name, _plan->0->'Plan', _query);
  return jsonb_strip_nulls(jsonb_build_object(
    'summary', (select string_agg(s->>'message', '; ' order by n) from jsonb_array_elements(_steps) with ordinality o (s, n)),
    'steps', _steps, 'ms', case when explain.measure then round((_plan->0->>'Execution Time')::numeric, 3) end,
    'advice', data.query_advice(_entity, _r.schema_name, _query, _steps)));
end
$$;
comment on function data.explain(text, jsonb, boolean) is
  'How PostgreSQL would answer data.find(entity, query), for you, in plain words: {"summary", "steps" [{step, entity, index, message, rows_estimated; with measure also rows, rows_read and ms}], "ms", "advice" [{message, definition}]}. measure runs the query, and tells what it did. For those who may read the entity. RH400, RH403, RH404.';

-- limit_rows: how many rows are asked of a node, where nothing between it and the limit has to see all rows first.
create or replace function data.plan_nodes(plan jsonb)
returns table (n bigint, node text, relation text, index_name text, condition text, filter text, limit_rows numeric, estimated numeric,
  actual numeric, removed numeric, ms numeric)
language sql immutable set search_path = '' as $$
  with recursive nodes (path, node, limit_rows, processes, is_aside) as (
    select array[0]::bigint[], plan_nodes.plan, null::numeric, null::numeric, false
    union all
    select path || o, child, case
      when child->>'Parent Relationship' in ('InitPlan', 'SubPlan')
        or p.node->>'Node Type' in ('Sort', 'Incremental Sort', 'Aggregate', 'Hash', 'Materialize') then null
      when p.node->>'Node Type' = 'Limit' then (p.node->>'Plan Rows')::numeric
      else p.limit_rows end,
      -- The leader helps by what its workers leave it time for, as the planner has it.
      coalesce(w + greatest(1 - 0.3 * w, 0), p.processes),
      p.is_aside or coalesce(child->>'Parent Relationship' in ('InitPlan', 'SubPlan'), false)
    from nodes p, jsonb_array_elements(p.node->'Plans') with ordinality c (child, o),
      lateral (select (p.node->>'Workers Planned')::numeric) g (w)
  )
  select row_number() over (order by n.is_aside, n.path desc), n.node->>'Node Type', n.node->>'Relation Name',
    coalesce(n.node->>'Index Name', jsonb_path_query_first(n.node, '$.Plans[*].**."Index Name"') #>> '{}'),
    coalesce(n.node->>'Index Cond', jsonb_path_query_first(n.node, '$.Plans[*].**."Index Cond"') #>> '{}'),
    -- Without what row-level security adds.
    nullif(regexp_replace(n.node->>'Filter', '\(InitPlan \d+\)\.col\d+|\mAND\M|[()\s]', '', 'g'), ''), n.limit_rows,
    (s->>'Plan Rows')::numeric * coalesce(n.processes, 1), (s->>'Actual Rows')::numeric * (s->>'Actual Loops')::numeric,
    coalesce((n.node->>'Rows Removed by Filter')::numeric * (n.node->>'Actual Loops')::numeric, 0)
      + coalesce((n.node->>'Rows Removed by Index Recheck')::numeric * (n.node->>'Actual Loops')::numeric, 0),
    (n.node->>'Actual Total Time')::numeric * case when n.processes is null then (n.node->>'Actual Loops')::numeric else 1 end
  from nodes n,
    lateral (select case when n.node->>'Node Type' in ('Sort', 'Incremental Sort') then n.node->'Plans'->0
      else n.node end) x (s) -- a sort is told by what goes into it
$$;
comment on function data.plan_nodes(jsonb) is 'The nodes of a plan in JSON: those that run first first, what is looked up on the way last.';

create or replace function data.plan_steps(entity data.entities, schema_name text, plan jsonb, query jsonb) returns jsonb
language sql stable set search_path = '' as $$
  select coalesce(jsonb_agg(jsonb_strip_nulls(jsonb_build_object(
      'step', case when p.relation is null then 'sort' else 'read' end, 'entity', e.name, 'index', w.words,
      'message', coalesce(data.read_message(case when e.id <> entity.id then e.name || ' ' else '' end || 'records', e.total, w.words,
        p.condition is not null,
          p.filter is not null, p.limit_rows, p.estimated, p.actual, p.removed)
          || case when e.id = entity.id and p.filter is not null then data.missing_words(entity, schema_name, query, w.columns) else '' end,
        format('sorts %s records by %s', coalesce(data.count_words(p.actual), 'about ' || data.count_words(p.estimated)), s.words)),
      'rows_estimated', round(p.estimated), 'rows', round(p.actual), 'rows_read', round(p.actual + p.removed), 'ms', round(p.ms, 3),
      'reads_all', case when e.id = entity.id and (p.condition is null) and (p.filter is not null or p.limit_rows is null) then true end))
        order by p.n), '[]')
  from data.plan_nodes(plan_steps.plan) p
  left join lateral (
    select x.id, x.name, greatest(c.reltuples::numeric, p.estimated) as total
    from data.entities x join pg_catalog.pg_class c on c.oid = to_regclass(data.storage_table(x, plan_steps.schema_name))
    where x.app_id = entity.app_id and data.storage_name(x) = p.relation
  ) e on true
  left join lateral (
    select i.columns, data.index_words(i.columns) || case when i.is_partial then ' (a part of the records)' else '' end as words
    from data.entities x, data.entity_indexes(x, plan_steps.schema_name) i where x.id = e.id and i.name = p.index_name
  ) w on true
  cross join lateral (select case when query ? 'q'
    and not query ? 'sort' then 'rank' else string_agg(f->>'field', ', ' order by n) end as words
    from jsonb_array_elements(data.any_sort(query)) with ordinality o (f, n)) s
  where e.id is not null and p.node <> 'Bitmap Index Scan' or p.node in ('Sort', 'Incremental Sort')
$$;
comment on function data.plan_steps(data.entities, text, jsonb, jsonb) is 'What a plan reads and sorts, as steps with a message each.';

create or replace function data.any_sort(query jsonb) returns jsonb
language sql immutable set search_path = '' as $$ select data.normalize_sort(query->'sort') $$;
comment on function data.any_sort(jsonb) is 'What a query sorts by, [{field, direction}].';

create or replace function data.read_message(what text, total numeric, index_words text, conditioned boolean, filtered boolean,
  limit_rows numeric, estimated numeric, actual numeric, removed numeric)
returns text
language sql immutable set search_path = '' as $$
  select case
    when total is null then null
    when not conditioned and not filtered and limit_rows is not null
      then format('reads the first %s of %s %s%s', data.count_words(coalesce(actual, limit_rows)), data.count_words(total), what,
        coalesce(', in the order of ' || index_words, ''))
    when conditioned and actual is not null
      then format('reads %s of %s %s through the index on %s%s', data.count_words(actual + removed), data.count_words(total), what,
      index_words,
      case when filtered then ' and keeps ' || data.count_words(actual) else '' end)
    when conditioned then format('reads %s of %s %s through the index on %s%s',
      case when limit_rows < estimated
        and not filtered then 'at most ' || data.count_words(limit_rows) else 'about ' || data.count_words(estimated) end,
        data.count_words(total), what, index_words,
      case when filtered then ', those that also fit the rest of the filter' else '' end)
    when actual is not null
      then format('reads %s of %s %s%s and keeps %s', data.count_words(actual + removed), data.count_words(total), what,
      coalesce(' in the order of ' || index_words, ''), data.count_words(actual))
    when not filtered then format('reads all %s %s', data.count_words(total), what)
    when limit_rows is not null
      then format('reads %s%s until %s fit, all %s if need be', what, coalesce(' in the order of ' || index_words, ''),
      data.count_words(limit_rows), data.count_words(total))
    else format('reads all %s %s and keeps about %s', data.count_words(total), what, data.count_words(estimated))
  end
$$;
comment on function data.read_message(text, numeric, text, boolean, boolean, numeric, numeric, numeric, numeric) is 'What a scan does, in words.';

create or replace function data.missing_words(entity data.entities, schema_name text, query jsonb, used text[]) returns text
language sql stable set search_path = '' as $$
  select coalesce(': ' || string_agg(distinct case
      when c.operator not in ('$eq', '$in', '$gt', '$gte', '$lt', '$lte') or not data.is_indexable(entity.id, c.field)
        then format('no index helps %s on %s', c.operator, c.field)
      when exists (select from data.entity_indexes(entity, missing_words.schema_name) i where i.columns[1] = c.field and not i.is_partial)
        then format('the index on %s would not read less', c.field)
      else 'no index on ' || c.field end, ', '), '')
  from data.filter_conditions(query->'filter') c where c.field <> all (coalesce(used, '{}'))
$$;
comment on function data.missing_words(data.entities, text, jsonb, text[]) is 'Why a scan has to look at every record it reads.';

-- With fewer records reading them all takes less than a millisecond.
create or replace function data.query_advice(entity data.entities, schema_name text, query jsonb, steps jsonb) returns jsonb
language sql stable set search_path = '' as $$
  with wanted as (
    select x.equal, data.wanted_fields(entity.id, x.equal, x.range, x.sort) as fields
    from (
      select array(select c.field from data.filter_conditions(query->'filter') c
        where c.operator in ('$eq', '$in') and not c.is_alternative),
        array(select c.field from data.filter_conditions(query->'filter') c
          where c.operator in ('$gt', '$gte', '$lt', '$lte') and not c.is_alternative),
        case when coalesce(query->'sort', '[]') in ('null', '[]') then '{}'
          else array(select case f->>'direction' when 'desc' then '-' else '' end || (f->>'field')
            from jsonb_array_elements(data.any_sort(query)) with ordinality o (f, n) order by n) end
    ) x (equal, range, sort)
  )
  select coalesce(jsonb_agg(jsonb_build_object('message', format('an index on %s would serve this query', array_to_string(w.fields, ', ')),
    'definition', data.index_snippet(w.fields))), '[]')
  from wanted w, pg_catalog.pg_class c
  where c.oid = to_regclass(data.storage_table(entity, query_advice.schema_name)) and c.reltuples >= 1000
    and w.fields <> '{}' and not data.is_served(entity, query_advice.schema_name, w.equal, w.fields)
    and exists (select from jsonb_array_elements(steps) s
      where s->'reads_all' = 'true' or s->>'step' = 'sort' and (s->>'rows_estimated')::numeric > 1000
        or (s->>'rows_read')::numeric > 1000 + 10 * (s->>'rows')::numeric)
$$;
comment on function data.query_advice(data.entities, text, jsonb, jsonb) is 'The index that would spare a query its reading or sorting, as [{message, definition}].';
