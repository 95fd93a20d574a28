-- The types of the expression language. A compiled part is {"sql", "type", "sql_type", "at", "literal"?}. Whole numbers and
-- floating-point ones are int8 and float8 where they are compared as they are, so that an index serves, and numeric where
-- something is computed, so that 0.1 + 0.2 is 0.3 and nothing overflows on the way.

create or replace function data.type_name(type text) returns text
language sql immutable parallel safe
return case when type in ('integer', 'array', 'object') then 'an ' || type when type in ('text', 'null') then type else 'a ' || type end;
comment on function data.type_name(text) is 'A type of the expression language with its article: an integer, a date, text.';

create or replace function data.expression_type(kind text) returns text
language sql immutable parallel safe
return case when kind in ('string', 'email') then 'text' else kind end;
comment on function data.expression_type(text) is 'The type that a property''s kind has in expressions.';

create or replace function data.expression_sql_type(type text) returns text
language sql immutable parallel safe
return case type when 'integer' then 'int8' when 'number' then 'float8' when 'decimal' then 'numeric' when 'date-time' then 'timestamptz'
  when 'array' then 'jsonb' when 'object' then 'jsonb' when 'null' then 'text' else type end;
comment on function data.expression_sql_type(text) is 'The SQL type of a type of the expression language.';

create or replace function data.is_number_type(type text) returns boolean
language sql immutable parallel safe return type in ('integer', 'number', 'decimal');
comment on function data.is_number_type(text) is 'Whether a type of the expression language is a number.';

create or replace function data.time_literal(value text, type text) returns text
language sql immutable set search_path = '' as $$
  select case
    when type = 'date' and value ~ '^\d{4}-\d{2}-\d{2}$' and pg_input_is_valid(value, 'date') then value
    when type = 'uuid' and value ~ '^[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}$' then value
    when type = 'date-time' and t ~ '^\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?([Zz]|[+-]\d{2}:\d{2})$'
      and pg_input_is_valid(t, 'timestamptz') then t
  end
  from (select case when value ~ '^\d{4}-\d{2}-\d{2}$' then value || 'T00:00:00Z'
    when value ~ ':\d{2}(\.\d+)?$' and value !~ '[+-]\d{2}:\d{2}$' then value || 'Z' else value end) x (t)
$$;
comment on function data.time_literal(text, text) is 'A text as the literal of a date, date-time (UTC unless it says otherwise) or uuid; null when it is none.';

create or replace function data.expression_as(part jsonb, type text, sql_type text) returns text
language plpgsql immutable set search_path = '' as $$
declare
  _literal text := part->>'literal';
  _from text := part->>'type';
begin
  if _from = 'null' then
    return format('null::%s', expression_as.sql_type);
  elsif part->>'sql_type' = expression_as.sql_type then
    return part->>'sql';
  elsif _from = 'text' and _literal is not null and expression_as.type in ('date', 'date-time', 'uuid') then
    if data.time_literal(_literal, expression_as.type) is null then
      perform data.refuse_expression(format('%L is not %s', left(_literal, 60), data.type_name(expression_as.type)), (part->>'at')::int,
        'Dates are ''2026-01-31'', times ''2026-01-31T12:00:00Z''.');
    end if;
    return format('%L::%s', data.time_literal(_literal, expression_as.type), expression_as.sql_type);
  elsif data.is_number_type(_from) and data.is_number_type(expression_as.type) and _literal is not null then
    return format('%L::%s', _literal, expression_as.sql_type);
  elsif expression_as.sql_type = 'numeric' and part->>'sql_type' = 'int8' then
    return format('(%s)::numeric', part->>'sql');
  elsif expression_as.sql_type = 'numeric' and part->>'sql_type' = 'float8' then
    return format('(%s)::text::numeric', part->>'sql'); -- float8::numeric keeps 15 digits of 17
  elsif expression_as.type = 'date-time' and _from = 'date' then
    return format('((%s)::timestamp at time zone ''UTC'')', part->>'sql');
  end if;
  perform data.refuse_expression(format('this is %s, and %s is needed', data.type_name(_from), data.type_name(expression_as.type)),
    (part->>'at')::int,
    'to_text(x) and to_number(x) convert; null is tested with is null.');
end
$$;
comment on function data.expression_as(jsonb, text, text) is 'A compiled part as SQL of another type. RH400 where there is no exact way.';

create or replace function data.require_part(part jsonb, type text, who text) returns text
language plpgsql immutable set search_path = '' as $$
begin
  if part->>'type' = 'null' or part->>'type' = require_part.type
    or (require_part.type in ('decimal', 'integer') and part->>'type' = 'integer')
    or (require_part.type = 'decimal' and data.is_number_type(part->>'type'))
  then
    return data.expression_as(part, require_part.type,
      case when require_part.type = 'integer' then 'numeric' else data.expression_sql_type(require_part.type) end);
  end if;
  perform data.refuse_expression(format('%s takes %s, and this is %s', who,
    case require_part.type when 'decimal' then 'numbers' when 'integer' then 'an integer'
    when 'boolean' then 'true or false' else require_part.type end, data.type_name(part->>'type')), (part->>'at')::int,
      'to_text(x) and to_number(x) convert.');
end
$$;
comment on function data.require_part(jsonb, text, text) is 'A compiled part as SQL of the type that who takes: text, boolean, or a number (decimal, integer) as numeric. RH400.';

-- Of a text literal beside a date, the date decides.
create or replace function data.unify_parts(parts jsonb) returns jsonb
language plpgsql immutable set search_path = '' as $$
declare
  _part jsonb;
  _type text := 'null';
  _sql_type text;
  _next text;
begin
  for _part in select p from jsonb_array_elements(parts) with ordinality x (p, n)
    order by coalesce(p->>'type' = 'text' and p ? 'literal', false), n
  loop
    _next := _part->>'type';
    if _next in ('array', 'object') then
      perform data.refuse_expression(format('%s can only be tested with is null', data.type_name(_next)), (_part->>'at')::int);
    end if;
    _type := case when _next = 'null' or _next = _type then _type
      when _type = 'null' then _next
      when data.is_number_type(_type)
        and data.is_number_type(_next) then case when 'number' in (_type, _next) then 'number' else 'decimal' end
      when _type in ('date', 'date-time') and _next in ('date', 'date-time') then 'date-time'
      when _type in ('date', 'date-time', 'uuid') and _next = 'text' and _part ? 'literal' then _type
      else '' end;
    if _type = '' then
      perform data.refuse_expression(format('this is %s, and what it stands beside is not', data.type_name(_next)), (_part->>'at')::int,
        'Both sides must be of one kind; to_text(x) and to_number(x) convert.');
    end if;
  end loop;
  _sql_type := data.expression_sql_type(_type);
  if data.is_number_type(_type) then
    select case when count(distinct p->>'sql_type') = 1 then min(p->>'sql_type') else 'numeric' end into _sql_type
    from jsonb_array_elements(parts) p where p->>'type' <> 'null' and not p ? 'literal';
    if _sql_type <> 'numeric' and exists (select from jsonb_array_elements(parts) p where p ? 'literal' and p->>'type' <> 'null'
      and (_sql_type = 'int8' and p->>'sql_type' <> 'int8' or _sql_type = 'float8' and not pg_input_is_valid(p->>'literal', 'float8')))
    then
      _sql_type := 'numeric';
    end if;
  end if;
  return jsonb_build_object('type', _type, 'sql_type', _sql_type,
    'sql', (select jsonb_agg(data.expression_as(p, _type, _sql_type) order by n)
      from jsonb_array_elements(parts) with ordinality x (p, n)));
end
$$;
comment on function data.unify_parts(jsonb) is 'Compiled parts brought to one type: {"type", "sql_type", "sql": […]}. RH400 where they have none in common.';
