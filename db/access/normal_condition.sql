-- A condition in normal form: negations pushed down to its comparisons. A comparison that cannot be evaluated (the account
-- has no such attribute) is then not true whether it is negated or not, and the whole is true only where enough else is.
--   {"and": [...]}, {"or": [...]}, {"leaf": {"name", "operator", "operand", "negated", "pointer"}}, {"problem", "pointer"}

create or replace function access.normal_condition(
  condition jsonb, negated boolean default false, pointer text default '', prefix text default '', depth int default 0
)
returns jsonb
language plpgsql immutable set search_path = '' as $$
declare
  _parts jsonb[] := '{}';
  _key text;
  _value jsonb;
  _at text;
begin
  if depth > 10 then
    return jsonb_build_object('problem', 'is nested too deeply: 10 levels at most', 'pointer', pointer);
  elsif jsonb_typeof(condition) is distinct from 'object' then
    return jsonb_build_object('problem', 'must be an object like {"status": "draft"}', 'pointer', pointer);
  end if;
  for _key, _value in select * from jsonb_each(condition) loop
    _at := pointer || '/' || data.pointer_part(_key);
    _parts := _parts || case
      when _key in ('$and', '$or') then case when jsonb_typeof(_value) <> 'array' or _value = '[]'
        then jsonb_build_object('problem', 'must be a list of conditions', 'pointer', _at)
        else (select jsonb_build_object(case when (_key = '$and') <> negated then 'and' else 'or' end,
            jsonb_agg(access.normal_condition(c, negated, _at || '/' || n - 1, prefix, depth + 1) order by n))
          from jsonb_array_elements(_value) with ordinality x (c, n)) end
      when _key = '$not' then access.normal_condition(_value, not negated, _at, prefix, depth + 1)
      when _key ~ '^\$' and (prefix <> '' or _key !~ '^\$(account|env|record)\.|^\$action$') or _key = ''
        then jsonb_build_object('problem', 'is neither a field, $account.…, $env.… or $action, nor $and, $or or $not', 'pointer', _at)
      when jsonb_typeof(_value) = 'object' and not _value ? '$literal'
        then access.normal_operators(prefix || regexp_replace(_key, '^\$record\.', ''), _value, negated, _at, depth)
      else access.leaf(prefix || regexp_replace(_key, '^\$record\.', ''), '$eq', _value, negated, _at) end;
  end loop;
  return case when cardinality(_parts) = 1 then _parts[1]
    else jsonb_build_object(case when negated then 'or' else 'and' end, to_jsonb(_parts)) end;
end
$$;
comment on function access.normal_condition(jsonb, boolean, text, text, int) is
  'A condition (or, negated, its contrary) as a tree of and, or and comparisons ("leaf"), each negated or not; what has not the form of a condition is a "problem".';

create or replace function access.normal_operators(name text, operators jsonb, negated boolean, pointer text, depth int) returns jsonb
language sql immutable set search_path = '' as $$
  select case when operators = '{}' then jsonb_build_object('problem', 'compares with nothing', 'pointer', normal_operators.pointer)
    when count(*) = 1 then (array_agg(part))[1]
    else jsonb_build_object(case when negated then 'or' else 'and' end, jsonb_agg(part order by k)) end
  from jsonb_each(operators) o (k, v), lateral (select case
    when k = '$not' then access.normal_condition(jsonb_build_object(normal_operators.name, v), not negated,
      normal_operators.pointer || '/$not', depth => depth + 1)
    when name ~ '^\$' or k ~ '^\$'
      and k not in ('$and', '$or')
      then access.leaf(normal_operators.name, k, v, negated, normal_operators.pointer || '/' || data.pointer_part(k))
    else access.normal_condition(jsonb_build_object(k, v), negated, normal_operators.pointer, normal_operators.name || '.',
      depth + 1) end) x (part)
$$;
comment on function access.normal_operators(text, jsonb, boolean, text, int) is 'The comparisons of one field in normal form; what is no operator names a field of the object or relation.';

create or replace function access.is_reference(operand jsonb) returns boolean
language sql immutable parallel safe
return jsonb_typeof(operand) = 'string' and operand #>> '{}' ~ '^\$[A-Za-z]';
comment on function access.is_reference(jsonb) is 'Whether an operand is a reference ($account.id) and not a value.';

-- A field stands on the left: {"$account.id": "$record.owner_id"} is {"owner_id": "$account.id"}.
create or replace function access.leaf(name text, operator text, operand jsonb, negated boolean, pointer text) returns jsonb
language plpgsql immutable set search_path = '' as $$
declare
  _negated boolean := negated;
  _operator text := operator;
  _name text := name;
  _operand jsonb := operand;
begin
  if _operator in ('$ne', '$nin') then
    _operator := case _operator when '$ne' then '$eq' else '$in' end;
    _negated := not _negated;
  end if;
  if _operator = '$eq' and _operand = 'null' then
    _operator := '$exists';
    _operand := 'false';
  end if;
  if _operator = '$exists' and _operand = 'false' then
    _operand := 'true';
    _negated := not _negated;
  end if;
  if _name ~ '^\$' and access.is_reference(_operand) and _operand #>> '{}' like '$record.%' then
    _operator := case _operator when '$lt' then '$gt' when '$lte' then '$gte' when '$gt' then '$lt' when '$gte' then '$lte'
      when '$in' then '$contains' when '$contains' then '$in' else _operator end;
    _name := substr(_operand #>> '{}', 9);
    _operand := to_jsonb(leaf.name);
  end if;
  return jsonb_build_object('leaf', jsonb_build_object('name', _name, 'operator', _operator, 'operand', _operand, 'negated', _negated,
    'pointer', pointer));
end
$$;
comment on function access.leaf(text, text, jsonb, boolean, text) is
  'One comparison in normal form: $ne, $nin, null and {"$exists": false} are the negations of $eq, $in and $exists.';

create or replace function access.nodes(tree jsonb) returns setof jsonb
language sql immutable set search_path = '' as $$
  with recursive nodes (node) as (
    select tree
    union all
    select c from nodes n, jsonb_array_elements(coalesce(n.node->'and', n.node->'or', '[]')) c
  )
  select node from nodes
$$;
comment on function access.nodes(jsonb) is 'All nodes of a condition in normal form.';

create or replace function access.condition_leaves(condition jsonb) returns table (name text, reference text)
language sql immutable set search_path = '' as $$
  select node #>> '{leaf,name}', case when access.is_reference(node #> '{leaf,operand}') then node #>> '{leaf,operand}' end
  from access.nodes(access.normal_condition(condition)) n (node)
  where node ? 'leaf'
$$;
comment on function access.condition_leaves(jsonb) is 'What each comparison of a condition compares: a field, $account.…, $env.… or $action, and the reference it is compared with, if any.';

create or replace function access.condition_uses(condition jsonb) returns text[]
language sql immutable set search_path = '' as $$
  select coalesce(array_agg(distinct case when n ~ '^\$(account|env)\.|^\$action$' then substring(n from '^\$([a-z]+)') else 'record' end),
    '{}')
  from access.condition_leaves(condition) l, unnest(array[l.name, l.reference]) n
  where n is not null
$$;
comment on function access.condition_uses(jsonb) is 'What a condition depends on, a subset of {account,action,env,record}: without record it is the same for every record of a statement.';

create or replace function access.condition_fields(condition jsonb) returns text[]
language sql immutable set search_path = '' as $$
  select coalesce(array_agg(distinct regexp_replace(n, '^\$record\.', '')), '{}')
  from access.condition_leaves(condition) l, unnest(array[l.name, l.reference]) n
  where n is not null and n !~ '^\$(account|env)\.|^\$action$'
$$;
comment on function access.condition_fields(jsonb) is 'The record''s fields and paths (address.city, company.city) that a condition compares.';
