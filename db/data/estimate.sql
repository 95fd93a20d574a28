-- count=estimated: how many records match, by the planner's statistics instead of a scan.

create or replace function data.filter_entities(entity_id uuid, filter jsonb) returns setof text
language plpgsql stable set search_path = '' as $$
declare
  _key text;
  _value jsonb;
  _rest text;
  _r record;
begin
  for _key, _value in select k, v from jsonb_each(case jsonb_typeof(filter) when 'object' then filter else '{}' end) e (k, v) loop
    if _key in ('$and', '$or') then
      return query select data.filter_entities(filter_entities.entity_id, f) from jsonb_array_elements(_value) f;
      continue;
    elsif _key in ('$not', '$some', '$every', '$none') then
      return query select data.filter_entities(filter_entities.entity_id, _value);
      continue;
    elsif _key like '$%' or data.is_field(filter_entities.entity_id, split_part(_key, '.', 1))
      and not data.is_link_filter(filter_entities.entity_id, _key, _value) then
      continue;
    end if;
    select * into _r from data.relation_of(filter_entities.entity_id, split_part(_key, '.', 1));
    _rest := substr(_key, length(split_part(_key, '.', 1)) + 2);
    return next _r.entity;
    return query select data.filter_entities(_r.id, case _rest when '' then _value else jsonb_build_object(_rest, _value) end);
  end loop;
end
$$;
comment on function data.filter_entities(uuid, jsonb) is 'The entities that a valid filter looks at by way of relations.';

-- The planner takes the check of rights, one value for the whole statement, for a condition that half of the rows meet
-- (25,000 of 50,000): each such check at the head of the entity's own filter doubles the estimate again.
create or replace function data.plan_rows(plan jsonb) returns float8
language sql immutable set search_path = '' as $$
  select (plan #>> '{0,Plan,Plan Rows}')::float8 * 2 ^ coalesce((
    select regexp_count(substring(f #>> '{}' from '^\(?((?:\(InitPlan \d+\)\.col1(?: AND |\)?$))+)'), 'InitPlan')
    from jsonb_path_query(plan, 'strict $.**."Plans"[*] ? (@.Alias == "t").Filter', silent => true) f limit 1), (
    select regexp_count(substring(plan #>> '{0,Plan,Filter}' from '^\(?((?:\(InitPlan \d+\)\.col1(?: AND |\)?$))+)'), 'InitPlan')), 0)
$$;
comment on function data.plan_rows(jsonb) is 'How many rows EXPLAIN (format json) expects of a list of records (alias t), with the check of rights not counted as a condition.';

create or replace function data.estimated_count(statement text, views text[], "values" text[]) returns text
language plpgsql set search_path = '' as $$
declare
  _exact_below int := 1000;
  _exact_cost int := 5000; -- of the planner; about 20 ms
  _exact_most int := 10000;
  _view text;
  _is_visible boolean;
  _plan jsonb;
  _rows bigint;
  _count bigint;
begin
  -- Statistics know of records that their reader must not: where not everything is visible, only counting tells no more.
  foreach _view in array views loop
    execute format('select exists (select from %s limit 1)', _view) into _is_visible;
    if not _is_visible or not access.sees_view(_view) then
      execute 'select count(*) ' || statement into _count using "values";
      return format(',"count":%s,"count_is_estimated":false', _count);
    end if;
  end loop;
  execute 'explain (format json) select ' || statement into _plan using "values";
  _rows := round(data.plan_rows(_plan));
  if _rows < _exact_below and (_plan #>> '{0,Plan,Total Cost}')::float8 < _exact_cost then
    execute format('select count(*) from (select %s limit %s) x', statement, _exact_most + 1) into _count using "values";
    if _count <= _exact_most then
      return format(',"count":%s,"count_is_estimated":false', _count);
    end if;
    _rows := greatest(_rows, _count);
  end if;
  return format(',"count":%s,"count_is_estimated":true', _rows);
end
$$;
comment on function data.estimated_count(text, text[], text[]) is
  'meta.count of count=estimated, as JSON text: by the planner''s statistics, with the values of the filter and under row-level security; below 1,000 counted, where that costs at most about 20 ms. For compiled statements: from … where …, the views it reads, and its values as $1.';
