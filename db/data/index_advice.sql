-- Which indexes an app's statements would gain by, from what PostgreSQL counted anyway: nothing is kept per request. The
-- statements that data.compile and PostGraphile make name the entity's view, and after its alias field and operator.

create or replace function data.app_statements(app_id uuid) returns table (query text, calls bigint, total_ms float8)
language plpgsql stable set search_path = '' as $$
declare
  _schema name := (select n.nspname from pg_catalog.pg_extension e join pg_catalog.pg_namespace n on n.oid = e.extnamespace
    where e.extname = 'pg_stat_statements');
begin
  if _schema is null then
    return;
  end if;
  return query execute format($sql$
    select s.query, sum(s.calls)::bigint, sum(s.total_exec_time)
    from %I.pg_stat_statements s, tenancy.apps a join tenancy.sites t on t.id = a.site_id
    where a.id = $1 and s.dbid = (select d.oid from pg_catalog.pg_database d where d.datname = current_database())
      and s.userid = to_regrole(quote_ident(t.role_name)) and strpos(s.query, a.schema_name) > 0 and s.query !~* '^\s*explain'
    group by s.query $sql$, _schema) using app_statements.app_id;
exception when object_not_in_prerequisite_state or insufficient_privilege then
  return; -- not in shared_preload_libraries
end
$$;
comment on function data.app_statements(uuid) is
  'The statements that the site of an app ran over it, with how often and how many ms in all; none where pg_stat_statements is missing or may not be read.';

create or replace function data.statement_fields(query text, schema_name text, entity text, out equal text[], out range text[],
  out sort text[])
language sql immutable set search_path = '' as $$
  with source (alias) as (
    select (regexp_match(query,
      format('\mfrom\s+"?%s"?\."?%s"?\s+(?:as\s+)?"?(\w+)"?\s', statement_fields.schema_name, statement_fields.entity)))[1]
  ), conditions (field, operator) as (
    select m[1], m[2] from source, regexp_matches(query, format('\m%s"?\."?([a-z]\w*)"?\s+(=|>=|<=|>|<)(?:\s|$)', alias), 'g') m
  ), keys (field, direction, n) as (
    select m[1], m[2], n
    from source, regexp_matches(substring(query from '.*\sorder\s+by\s(.*)'), format('\m%s"?\."?([a-z]\w*)"?\s+(asc|desc)', alias),
      'gi') with ordinality o (m, n)
  )
  select case when alias is not null then array(select distinct field from conditions where operator = '=' order by 1) end,
    array(select distinct field from conditions where operator <> '=' order by 1),
    -- The default is served by the index every entity has.
    case when (select string_agg(field, ' ' order by n) from keys) in ('created_at id', 'id') then '{}'
      else array(select case direction when 'desc' then '-' else '' end || field from keys where not (field = 'id' and n > 1)
        order by n) end
  from source
$$;
comment on function data.statement_fields(text, text, text) is
  'Which fields of an entity a statement compares for equality, by range, and sorts by; equal is null when the statement does not filter that entity.';

-- Columns have statistics; of what is only in data a sample is read: n d / (n - f + f n / N) distinct values (Haas and Stokes), with
-- d distinct values in n records read, f of them once, of N in all, as ANALYZE estimates.
create or replace function data.field_selectivity(entity data.entities, schema_name text, field text) returns float8
language plpgsql stable set search_path = '' as $$
declare
  _storage oid := to_regclass(data.storage_table(entity, schema_name));
  _records float8 := (select greatest(c.reltuples, 1) from pg_catalog.pg_class c where c.oid = _storage);
  _distinct float8;
  _nulls float8;
  _field data.fields;
begin
  select s.n_distinct, s.null_frac into _distinct, _nulls from pg_catalog.pg_stats s
  where s.schemaname = field_selectivity.schema_name and s.tablename = data.storage_name(entity) and s.attname = field_selectivity.field;
  select f.* into _field from data.fields f where f.entity_id = entity.id and f.name = field_selectivity.field;
  if _distinct is null and _field.name is not null then
    execute format($sql$
      select n * d / nullif(n - f + f * n / $1, 0), 1 - n / nullif(n + nulls, 0)
      from (select sum(c) filter (where v is not null)::float8 as n, count(v)::float8 as d, count(v) filter (where c = 1)::float8 as f, coalesce(sum(c) filter (where v is null), 0)::float8 as nulls
        from (select %s as v, count(*) as c from %s t tablesample system (%s) group by 1) g) s $sql$,
      case when _field.is_promoted then format('t.%I', _field.name) else data.column_value(_field, data.record_source(entity, 't')) end,
      data.storage_table(entity, schema_name), least(100, 30000 * 100 / _records)) into _distinct, _nulls using _records;
  end if;
  return case when _distinct is null then 1 when _distinct < 0 then 1 / greatest(-_distinct * _records, 1)
    else (1 - coalesce(_nulls, 0)) / greatest(_distinct, 1) end;
end
$$;
comment on function data.field_selectivity(data.entities, text, text) is 'The estimated share of an entity''s records that have one value of a field.';

-- In the planner's units. Reading all: pages × seq_page_cost + records × (cpu_tuple_cost + cpu_operator_cost). Through an index:
-- log2(records) × cpu_operator_cost + 3 random pages to its leaf, then per record that fits random_page_cost + cpu_tuple_cost +
-- cpu_index_tuple_cost; when the index has the sort too, one page of 21 records.
create or replace function data.read_cost(records float8, pages float8, fitting float8 default null) returns float8
language sql stable set search_path = '' as $$
  select case when fitting is null then pages * seq_page + records * (tuple + operator)
    else ln(greatest(records, 2)) / ln(2) * operator + (3 + fitting) * random_page + fitting * (tuple + index_tuple) end
  from (select current_setting('seq_page_cost')::float8, current_setting('random_page_cost')::float8,
    current_setting('cpu_tuple_cost')::float8,
    current_setting('cpu_operator_cost')::float8, current_setting('cpu_index_tuple_cost')::float8) c (seq_page, random_page, tuple,
    operator, index_tuple)
$$;
comment on function data.read_cost(float8, float8, float8) is
  'What reading costs in the planner''s units: fitting records through an index, or all of them when fitting is null.';

create or replace function data.index_gain(entity data.entities, schema_name text, equal text[], range text[], sort text[], fields text[])
  returns numeric
language sql stable set search_path = '' as $$
  select round((1 - least(data.read_cost(t.n, t.pages,
    case when cardinality(sort) > 0 then least(w.fitting, 21) else w.fitting end) / n.cost, 1))::numeric, 3)
  from (select greatest(c.reltuples, 1)::float8, greatest(c.relpages, 1)::float8 from pg_catalog.pg_class c
    where c.oid = to_regclass(data.storage_table(entity, index_gain.schema_name))) t (n, pages),
  -- A third of the records for a range, as the planner has it when it knows nothing of the value.
  lateral (select t.n * coalesce(exp(sum(ln(case when f = any (equal) then data.field_selectivity(entity, index_gain.schema_name, f)
    when f = any (range) then 1.0 / 3 else 1 end))), 1)
    from (select ltrim(f, '-') from unnest(fields) f) u (f)) w (fitting),
  -- What is best without it.
  lateral (select least(data.read_cost(t.n, t.pages),
    min(data.read_cost(t.n, t.pages, t.n * data.field_selectivity(entity, index_gain.schema_name, i.columns[1]))))
    from data.entity_indexes(entity, index_gain.schema_name) i where not i.is_partial and i.columns[1] = any (equal)) n (cost)
$$;
comment on function data.index_gain(data.entities, text, text[], text[], text[], text[]) is
  'Which share of a query''s cost an index on fields would spare, 0 to 1, by the planner''s costs.';

create or replace function data.missing_indexes(app_id uuid)
returns table (entity text, fields text[], calls bigint, total_ms numeric, gain numeric)
language sql stable set search_path = '' as $$
  with shapes as (
    select e, a.schema_name::text as schema_name, f.equal, f.range, f.sort, sum(s.calls)::bigint as calls,
      sum(s.total_ms)::numeric as total_ms
    from tenancy.apps a join data.entities e on e.app_id = a.id cross join data.app_statements(a.id) s
    cross join data.statement_fields(s.query, a.schema_name, e.name) f
    where a.id = missing_indexes.app_id and f.equal is not null and (f.equal || f.range || f.sort) <> '{}'
    group by 1, 2, 3, 4, 5
  ), wanted as (
    select s.*, data.wanted_fields((s.e).id, s.equal, s.range, s.sort) as fields from shapes s
    where (select c.reltuples from pg_catalog.pg_class c where c.oid = to_regclass(data.storage_table(s.e, s.schema_name))) >= 1000
  )
  select (w.e).name, w.fields, sum(w.calls)::bigint, round(sum(w.total_ms), 1),
    max(data.index_gain(w.e, w.schema_name, w.equal, w.range, w.sort, w.fields))
  from wanted w
  where w.fields <> '{}' and not data.is_served(w.e, w.schema_name, w.equal, w.fields)
    -- What an index would spare is estimated from the values.
    and (access.administers((w.e).site_id)
      or access.reads_all(w.e) and not (access.unseen((w.e).id) && array(select ltrim(f, '-') from unnest(w.equal || w.range || w.sort) f)))
  group by 1, 2
$$;
comment on function data.missing_indexes(uuid) is 'The indexes that the statements of an app would be served by and that are not there.';

create or replace function data.index_advice(app text)
returns table (kind text, entity text, fields text[], message text, calls bigint, total_ms numeric, gain numeric, definition jsonb)
language plpgsql stable security definer set search_path = '' as $$
declare
  _app tenancy.apps := access.require_definer(index_advice.app);
  _since text := (
    select to_char(coalesce(d.stats_reset, pg_postmaster_start_time()) at time zone 'UTC', 'YYYY-MM-DD')
    from pg_catalog.pg_stat_database d where d.datname = current_database());
begin
  return query
  select 'missing', m.entity, m.fields,
    format('an index on %s would spare %s %% of %s ms in %s statements over %s', array_to_string(m.fields, ', '),
      floor(m.gain * 100), m.total_ms, m.calls, m.entity),
    m.calls, m.total_ms, m.gain, data.index_snippet(m.fields)
  from data.missing_indexes(_app.id) m where m.gain >= 0.1 order by m.gain * m.total_ms desc, m.entity, m.fields;

  return query
  select 'unused', e.name, string_to_array(data.index_words(i.columns), ', '),
    format('the index on %s was not used since %s; it takes %s, and time with every write', data.index_words(i.columns),
      _since, case when access.sees_whole(e.id) then pg_size_pretty(pg_relation_size(s.indexrelid)) else 'space' end),
    s.idx_scan, null::numeric, null::numeric,
    case when i.name ~ '_ix_[0-9a-f]{8}$' then jsonb_build_object('x-indexes', coalesce((
        select jsonb_agg(x) from jsonb_array_elements(e.schema->'x-indexes') x
        where data.compound_index_name(e, e.schema, x) <> i.name), '[]'))
      else jsonb_build_object('properties', jsonb_build_object(i.columns[1], '{"x-index": false}'::jsonb)) end
  from data.entities e cross join data.entity_indexes(e, _app.schema_name) i
  join pg_catalog.pg_stat_user_indexes s on s.schemaname = _app.schema_name and s.indexrelname = i.name
  where e.app_id = _app.id and s.idx_scan = 0 and not i.is_unique
    and i.columns[1] not in ('created_at', '_search', 'expires_at') -- these are not a definition's to take away
    -- A relation's is used when what it refers to is deleted.
    and not exists (
      select from data.relations r where r.entity_id = e.id and r.field = i.columns[1] and i.name !~ '_ix_[0-9a-f]{8}$')
  order by pg_relation_size(s.indexrelid) desc, i.name;

  return query
  select 'unfinished', e.name, array(select f.name from data.fields f where f.entity_id = e.id and f.is_building order by f.name),
    format('%s of %s records are done', o.records_done, o.records_total), null::bigint, null::numeric, null::numeric, null::jsonb
  from data.operations o join data.entities e on e.id = o.entity_id
  where e.app_id = _app.id and o.kind = 'build_index' and o.state in ('waiting', 'running');

  if not exists (select from data.app_statements(_app.id)) then
    return query select 'unknown', null::text, null::text[],
      'no statement of this app was counted: pg_stat_statements is not installed, may not be read by rowhouse_owner '
        '(grant pg_read_all_stats), or nobody asked for anything yet',
      null::bigint, null::numeric, null::numeric, null::jsonb;
  end if;
end
$$;
comment on function data.index_advice(text) is
  'Which indexes an app (acme/crm) lacks, by the statements that pg_stat_statements counted, and which it never uses: kind (missing, unused, unfinished, unknown), entity, fields, message, calls, total_ms, gain (share of total_ms it would spare, estimated from the planner''s costs) and definition, what to write into the entity''s schema; without what is estimated from fields or records that you do not see. Owners, admins and @entities:define. RH400, RH403, RH404.';
