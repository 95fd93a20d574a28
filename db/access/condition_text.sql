-- A condition said in words: the way back from a filter to the text that access.parse_condition takes.

create or replace function access.name_text(name text) returns text
language sql immutable set search_path = '' as $$
  select case
    when name_text.name like '$account.%' then 'current_user' || substr(name_text.name, 9)
    when name_text.name like '$env.%' or name_text.name = '$action' then substr(name_text.name, 2)
    else (
      select string_agg(case
        when p ~ '^[A-Za-z_][A-Za-z0-9_]*$'
          and not lower(p) = any (array['and', 'or', 'not', 'in', 'is', 'like', 'ilike', 'between', 'null', 'true', 'false', 'contains',
          'cidr', 'date'])
          and not (n = 1 and lower(p) = any (array['action', 'env', 'current_user'])) then p
        else '"' || replace(p, '"', '""') || '"' end, '.' order by n)
      from unnest(string_to_array(regexp_replace(name_text.name, '^\$record\.', ''), '.')) with ordinality x (p, n)) end
$$;
comment on function access.name_text(text) is 'How the text of a condition names a field, $account.…, $env.… or $action.';

create or replace function access.operand_text(operand jsonb) returns text
language sql immutable set search_path = '' as $$
  select case
    when jsonb_typeof(operand) = 'array' then '('
      || (select string_agg(access.operand_text(o), ', ' order by n) from jsonb_array_elements(operand) with ordinality x (o, n)) || ')'
    when operand ? '$literal' and jsonb_typeof(operand) = 'object' then '''' || replace(operand->>'$literal', '''', '''''') || ''''
    when jsonb_typeof(operand) = 'string'
      and operand #>> '{}' ~ '^\$(account\.|env\.|record\.|action$)' then access.name_text(operand #>> '{}')
    when jsonb_typeof(operand) = 'string' then '''' || replace(operand #>> '{}', '''', '''''') || ''''
    else operand #>> '{}' end
$$;
comment on function access.operand_text(jsonb) is 'An operand of a condition as text: ''draft'', 5, (1, 2), current_user.id.';

create or replace function access.comparison_text(name text, operator text, operand jsonb) returns text
language sql immutable set search_path = '' as $$
  select case
    when operator in ('$eq', '$ne')
      and operand = 'null' then access.name_text(name) || case operator when '$eq' then ' is null' else ' is not null' end
    when operator = '$exists' then access.name_text(name) || case operand when 'true' then ' is not null' else ' is null' end
    when operator = '$cidr' and jsonb_typeof(operand) = 'array' then '(' || (
      select string_agg(access.comparison_text(name, operator, o), ' or ' order by n)
      from jsonb_array_elements(operand) with ordinality x (o, n)) || ')'
    when operator = '$cidr' then format('%s in cidr %s', access.name_text(name), access.operand_text(operand))
    else format('%s %s %s', access.name_text(name),
      case operator when '$eq' then '=' when '$ne' then '<>' when '$gt' then '>' when '$gte' then '>=' when '$lt' then '<'
      when '$lte' then '<=' when '$nin' then 'not in' else substr(operator, 2) end, access.operand_text(operand)) end
$$;
comment on function access.comparison_text(text, text, jsonb) is 'One comparison of a condition as text.';

-- strength is what stands around it: nothing 0, or 1, and 2, not 3.
create or replace function access.condition_text(condition jsonb, strength int default 0, prefix text default '') returns text
language plpgsql immutable set search_path = '' as $$
declare
  _parts text[] := '{}';
  _many boolean := (select count(*) > 1 from jsonb_object_keys(condition));
  _around int := case when _many then 2 else condition_text.strength end;
  _key text;
  _value jsonb;
begin
  for _key, _value in select * from jsonb_each(condition) loop
    _parts := _parts || case
      when _key in ('$and', '$or') then (
        select case when _around > case _key when '$or' then 1 else 2 end then '(' || t || ')' else t end
        from (select string_agg(access.condition_text(c, case _key when '$and' then 2 else 1 end, prefix), ' ' || substr(_key, 2) || ' '
          order by n)
          from jsonb_array_elements(_value) with ordinality x (c, n)) y (t))
      when _key = '$not' then 'not ' || access.condition_text(_value, 3, prefix)
      when jsonb_typeof(_value) = 'object' and not _value ? '$literal' then access.operators_text(prefix || _key, _value, _around)
      else access.comparison_text(prefix || _key, '$eq', _value) end;
  end loop;
  return case when _parts = '{}' then 'true'
    when _many and condition_text.strength > 2 then '(' || array_to_string(_parts, ' and ') || ')'
    else array_to_string(_parts, ' and ') end;
end
$$;
comment on function access.condition_text(jsonb, int, text) is
  'A condition in words, as access.parse_condition takes them: {"age": {"$gte": 18}} is age >= 18. strength is how strongly what stands around it binds (0 for nothing), prefix the path to its fields.';

create or replace function access.operators_text(name text, operators jsonb, strength int) returns text
language sql immutable set search_path = '' as $$
  select case
    when operators ?& array['$gte', '$lte']
      and operators - '$gte' - '$lte' = '{}'
      then format('%s between %s and %s', access.name_text(name), access.operand_text(operators->'$gte'),
      access.operand_text(operators->'$lte'))
    when count(*) > 1 and operators_text.strength > 2 then '(' || string_agg(t, ' and ' order by k) || ')'
    else string_agg(t, ' and ' order by k) end
  from jsonb_each(operators) o (k, v), lateral (select case
    when k = '$not' then 'not ' || access.condition_text(jsonb_build_object(operators_text.name, v), 3)
    when k in ('$and', '$or') then access.condition_text(jsonb_build_object(k, v), 3, operators_text.name || '.')
    when k like '$%' then access.comparison_text(operators_text.name, k, v)
    else access.condition_text(jsonb_build_object(k, v), 3, operators_text.name || '.') end) x (t)
$$;
comment on function access.operators_text(text, jsonb, int) is 'The comparisons of one field of a condition as text.';
