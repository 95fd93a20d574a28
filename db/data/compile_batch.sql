-- Statements that write many records: by filter with an expected maximum, by a list of ids, by a unique key.

create or replace function data.compile_batch(entity data.entities, schema_name text, operation text, shape jsonb,
  parameters text[] default null)
returns jsonb
language plpgsql stable set search_path = '' as $$
declare
  _records boolean := coalesce(shape->>'return', 'count') = 'records';
  _done text := case operation when 'delete_where' then 'deleted' else 'updated' end;
  _n int := case when parameters is null
    then coalesce((select max((p #>> '{}')::int) from jsonb_path_query(shape->'filter', 'strict $.**."$param"', silent => true) p), 0)
    else 0 end;
  _where text;
  _max bigint;
  _call text;
begin
  if coalesce(shape->>'return', 'count') not in ('count', 'records') then
    perform rowhouse.fail(400, 'return is count or records', 'return=records answers with the records written, too.', 'invalid_return');
  elsif operation = 'update_list' then
    return jsonb_build_object('params', 1,
      'sql', format('select coalesce(json_agg(row_to_json(r.*)), ''[]'')::text as body from %I.%I($1::jsonb) r',
      schema_name, entity.name || '_update_list'));
  elsif operation = 'upsert' then
    if jsonb_typeof(shape->'key') is distinct from 'array' then
      perform rowhouse.fail(400, 'An upsert needs a key', 'Name the unique property that identifies a record: key=email.', 'invalid_key');
    end if;
    return jsonb_build_object('params', 1,
      'sql', format('select %I.%I($1::jsonb, %L::text[], %L) as body', schema_name, entity.name || '_upsert',
      array(select jsonb_array_elements_text(shape->'key')), _records));
  elsif jsonb_typeof(shape->'filter') is distinct from 'object' then
    perform rowhouse.fail(400, format('A filter must say which records are to be %s', _done),
      'filter={"active":false}, percent-encoded; filter={} means all of them.',
      'filter_missing');
  elsif shape->'max' is null or shape->'max' = 'null' then
    perform rowhouse.fail(400, 'max must say how many records you expect at most', 'max=100: when more than 100 match, nothing is written.',
      'max_missing');
  elsif greatest(_n, cardinality(parameters)) > 1000 then
    perform rowhouse.fail(400, 'The filter has too many values', 'Compare with at most 1,000 values; $in takes a list as one.',
      'invalid_filter');
  end if;
  _max := data.page_number(shape->>'max', 'max', 1, 10000);
  _where := access.seen_condition(entity.id, jsonb_build_object('filter', shape->'filter'))
    || format('(%s)', data.compile_filter(entity.id, shape->'filter', 't', parameters));
  _call := case operation when 'update_where' then format('%I.%I((select array(select m.id from matched m)), $%s::jsonb, %s)', schema_name,
      entity.name || '_update_many', _n + 1, _max)
    else format('%I.%I((select array(select m.id from matched m)), (select array(select m.version::int from matched m)), %s)', schema_name,
      entity.name || '_delete_many', _max) end;
  -- Locked before they are written: a record that another transaction changed meanwhile is compared with the filter again.
  -- In the order of ids, so that two at once wait for each other and never for ever. A lock asks for the right to update, so
  -- what is to be deleted is not locked; it is deleted only in the version that matched.
  return jsonb_build_object('params', _n + (operation = 'update_where')::int, 'sql', format($sql$
    with matched as materialized (
      select t.id, t.version from %I.%I t where %s order by t.id limit %s%s
    )
    select '{' || %s || '"meta":{"%s":' || count(*) || '}}' as body from %s r$sql$,
    schema_name, entity.name, _where, _max + 1, case operation when 'update_where' then ' for update of t' else '' end,
    case when _records then $sql$'"data":[' || coalesce(string_agg(row_to_json(r.*)::text, ','), '') || '],'$sql$ else '''''' end, _done, _call));
end
$$;
comment on function data.compile_batch(data.entities, text, text, jsonb, text[]) is
  'Compiles update_list, update_where, delete_where and upsert into {"sql", "params"}. Parameters: the literals of the filter, then the changes or records. RH400.';

