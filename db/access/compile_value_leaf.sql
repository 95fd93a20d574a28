-- Comparisons that concern no record: of the account, its circumstances and the action.

create or replace function access.compile_value_leaf(leaf jsonb, context jsonb) returns text
language plpgsql stable set search_path = '' as $$
declare
  _name text := leaf->>'name';
  _operator text := leaf->>'operator';
  _operand jsonb := leaf->'operand';
  _term record := access.term(_name, context->'attributes');
  _reference text := case when access.is_reference(_operand) then _operand #>> '{}' end;
  _other record := access.term(coalesce(_reference, '$action'), context->'attributes');
  _source text := access.term_source(_term.scope, _term.path, context->>'account', context->>'env', context->>'action');
  _kind text;
  _sql_type text;
  _left text;
  _value text;
  _out text;
begin
  if context ? 'strict' and _term.scope = 'account' then
    perform access.check_declared(_name, _term);
  end if;
  if context ? 'strict' and _other.scope = 'account' then
    perform access.check_declared(_reference, _other);
  end if;
  _kind := access.compared_kind(_name, _term.kind, _operator, _operand, _other.kind, context ? 'strict');
  _sql_type := case when _kind = 'array' then 'array' when _kind in ('integer', 'number', 'decimal') then 'numeric'
    else data.expression_sql_type(data.expression_type(_kind)) end;
  _left := format('access.value_as(%s, %L)::%s', _source, _sql_type, case _sql_type when 'array' then 'jsonb' else _sql_type end);
  if _operator = '$exists' then
    _out := format('access.value_as(%s, ''jsonb'') is %s null', _source, case when (leaf->>'negated')::boolean then '' else 'not' end);
  else
    _value := access.compared_value(_name, _operator, _operand, _kind, coalesce(_term.item_kind, 'string'), _sql_type,
      case when _reference is not null
        then access.term_source(_other.scope, _other.path, context->>'account', context->>'env', context->>'action') end,
        (leaf->>'negated')::boolean);
    _out := case when _operator = '$cidr' then format('access.ip_in(%s, %s)', _left, _value)
      else data.comparison(_left, _kind, coalesce(_term.item_kind, 'string'), case _sql_type when 'array' then 'jsonb' else _sql_type end,
        _name, _operator, _value) end;
    if (leaf->>'negated')::boolean then
      _out := format('not (%s)', _out); -- null, and so not true, where either side is unknown
    end if;
  end if;
  -- Once per statement; in a function, where these are variables, a subquery would only cost.
  return case when context->>'account' like '(select%' then format('(select %s)', _out) else '(' || _out || ')' end;
end
$$;
comment on function access.compile_value_leaf(jsonb, jsonb) is 'A comparison of $account.…, $env.… or $action with a value or with another of these, as SQL. RH400.';

create or replace function access.compared_kind(name text, kind text, operator text, operand jsonb, other_kind text, strict boolean)
  returns text
language plpgsql immutable set search_path = '' as $$
declare
  _value jsonb := case when jsonb_typeof(operand) = 'object' and operand ? '$literal' then operand->'$literal'
    when operator = '$in' and jsonb_typeof(operand) = 'array' then operand->0 else operand end;
  _operand_kind text := case when access.is_reference(operand) then case when operator = '$in' then null else other_kind end
    else case jsonb_typeof(_value) when 'number' then 'decimal' when 'boolean' then 'boolean' when 'object' then 'string'
      -- Moments are not in the order of their texts: 12:00Z is before 13:30+01:00.
      when 'string' then case when _value #>> '{}' ~ '^\d{4}-\d\d-\d\d[T ]\d\d:'
        and data.time_literal(_value #>> '{}', 'date-time') is not null then 'date-time' else 'string' end end end;
begin
  if operator = '$cidr' and name <> '$env.ip' and strict then
    perform rowhouse.fail(400, '$cidr is asked of $env.ip', '{"$env.ip": {"$cidr": "10.0.0.0/8"}}', 'invalid_condition');
  elsif operator in ('$cidr', '$like', '$ilike', '$exists') then
    return 'string';
  elsif operator = '$contains' then
    return case when coalesce(kind, 'array') = 'array' then 'array' else 'string' end;
  elsif kind in ('array', 'object') and operator <> '$exists' then
    perform rowhouse.fail(400, format('%s is a list, and %s compares one value', name, operator),
      '{"$account.roles": {"$contains": "editor"}}', 'invalid_condition');
  elsif kind in ('integer', 'number', 'decimal') and _operand_kind in ('integer', 'number', 'decimal') or kind = 'boolean'
    and _operand_kind = 'boolean'
    or kind in ('string', 'email', 'date', 'date-time', 'uuid') and _operand_kind in ('string', 'email', 'date', 'date-time', 'uuid')
      or kind is not null and _operand_kind is null
  then
    return case when kind = 'any' then 'string' else kind end;
  elsif kind is not null and kind <> 'any' and strict then
    perform rowhouse.fail(400, format('%s is %s and cannot be compared with %s', name, kind, left(operand::text, 80)), null,
      'invalid_condition');
  end if;
  return case when _operand_kind in ('array', 'object', 'any') or _operand_kind is null then 'string' else _operand_kind end;
end
$$;
comment on function access.compared_kind(text, text, text, jsonb, text, boolean) is
  'As which kind $account.… and the like is compared: its own, or, where no schema declares it, that of the operand. RH400, when strict also for kinds that do not go together.';

create or replace function access.compared_value(name text, operator text, operand jsonb, kind text, item_kind text, sql_type text,
  source text, whole boolean) returns text
language plpgsql immutable set search_path = '' as $$
declare
  _type text := data.comparison_type(operator, kind, item_kind, case sql_type when 'array' then 'jsonb' else sql_type end);
  _item text := regexp_replace(_type, '\[\]$', '');
  _list jsonb := case when jsonb_typeof(operand) = 'array' then operand else jsonb_build_array(operand) end;
  _number boolean := operator = '$contains' and kind = 'array' and jsonb_typeof(operand) in ('number', 'boolean');
begin
  if operator = '$cidr' then
    if source is not null then
      return format('case jsonb_typeof(%1$s) when ''string'' then array[%1$s #>> ''{}''] else access.values_as(%1$s, ''text'', true) end',
        source);
    elsif _list = '[]' or exists (select from jsonb_array_elements(_list) n
      where jsonb_typeof(n) <> 'string' or not pg_input_is_valid(n #>> '{}', 'cidr')) then
      perform rowhouse.fail(400, format('%s is no network', left(operand::text, 80)),
        '{"$env.ip": {"$cidr": ["10.0.0.0/8", "2001:db8::/32"]}}', 'invalid_condition');
    end if;
    return format('%L::text[]', array(select jsonb_array_elements_text(_list)));
  elsif source is not null then
    return format(case operator when '$in' then 'access.values_as(%1$s, %2$L, %3$L)::%4$s' else 'access.value_as(%1$s, %2$L)::%4$s' end,
      source, _item, whole, _type);
  elsif name = '$env.time' and exists (select from jsonb_array_elements(_list) t where t #>> '{}' !~ '^([01]\d|2[0-3]):[0-5]\d$') then
    perform rowhouse.fail(400, format('%s is no time of day', left(operand::text, 80)), '{"$env.time": {"$gte": "09:00", "$lt": "17:30"}}',
      'invalid_condition');
  elsif name = '$env.weekday' and exists (select from jsonb_array_elements(_list) d where d not in ('1', '2', '3', '4', '5', '6', '7')) then
    perform rowhouse.fail(400, format('%s is no weekday', left(operand::text, 80)), '$env.weekday is 1 (Monday) to 7 (Sunday).',
      'invalid_condition');
  end if;
  return access.operand_sql(operand, operator, case when _number then 'jsonb' else _type end, name);
end
$$;
comment on function access.compared_value(text, text, jsonb, text, text, text, text, boolean) is
  'What $account.… and the like is compared with, as SQL: a quoted literal, or read from source. RH400 for what does not fit.';
