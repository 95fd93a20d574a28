-- The functions of the expression language: those of one form as rows, the others by name.

create or replace function data.expression_functions() returns table (name text, takes text[], gives text, sql_type text, template text)
language sql immutable set search_path = '' as $$
  values ('lower', array['text'], 'text', 'text', 'lower(%s)'),
    ('upper', array['text'], 'text', 'text', 'upper(%s)'),
    ('trim', array['text'], 'text', 'text', 'btrim(%s)'),
    ('length', array['text'], 'integer', 'int8', 'length(%s)::int8'),
    ('substr', array['text', 'integer'], 'text', 'text', 'substr(%s, data.clamped_int(%s))'),
    ('substr', array['text', 'integer', 'integer'], 'text', 'text', 'substr(%s, data.clamped_int(%s), greatest(data.clamped_int(%s), 0))'),
    ('replace', array['text', 'text', 'text'], 'text', 'text', 'data.text_replaced(%s, %s, %s)'),
    ('round', array['decimal'], 'integer', 'numeric', 'round(%s)'),
    ('round', array['decimal', 'integer'], 'decimal', 'numeric', 'round(%s, least(greatest(%s, -30), 30)::int)'),
    ('floor', array['decimal'], 'integer', 'numeric', 'floor(%s)'),
    ('ceil', array['decimal'], 'integer', 'numeric', 'ceil(%s)'),
    ('to_number', array['text'], 'decimal', 'numeric', 'data.text_number(%s)'),
    ('now', '{}', 'date-time', 'timestamptz', 'now()'),
    ('today', '{}', 'date', 'date', '(now() at time zone ''UTC'')::date')
$$;
comment on function data.expression_functions() is 'The functions of expressions that have one form: what each takes and gives, and its SQL. The others are in data.compile_call.';

create or replace function data.refuse_call(name text, form text, at int) returns void
language sql immutable set search_path = '' as $$
  select data.refuse_expression(format('%s is written %s', refuse_call.name, refuse_call.form), refuse_call.at)
$$;
comment on function data.refuse_call(text, text, int) is 'Raises RH400: how a function is called.';

create or replace function data.compile_call(name text, parts jsonb, at int) returns jsonb
language plpgsql immutable set search_path = '' as $$
declare
  _n int := jsonb_array_length(parts);
  _f record;
  _same jsonb;
  _sql text[];
begin
  if _n > 100 then
    perform data.refuse_expression(format('%s takes at most 100 values', compile_call.name), compile_call.at);
  elsif compile_call.name = 'if' then
    if _n <> 3 then
      perform data.refuse_call('if', 'if(condition, then, else)', compile_call.at);
    end if;
    _same := data.unify_parts(parts - 0);
    return _same || jsonb_build_object('sql', format('(case when %s then %s else %s end)', data.require_part(parts->0, 'boolean', 'if'),
      _same #>> '{sql,0}', _same #>> '{sql,1}'));
  elsif compile_call.name in ('coalesce', 'min', 'least', 'max', 'greatest') then
    if _n = 0 then
      perform data.refuse_call(compile_call.name, compile_call.name || '(a, b, …)', compile_call.at);
    end if;
    _same := data.unify_parts(parts);
    return _same || jsonb_build_object('sql', format('%s(%s)',
      case compile_call.name when 'min' then 'least' when 'max' then 'greatest' else compile_call.name end,
      (select string_agg(s, ', ' order by n) from jsonb_array_elements_text(_same->'sql') with ordinality x (s, n))));
  elsif compile_call.name in ('||', 'concat') then
    if _n = 0 then
      perform data.refuse_call('concat', 'concat(a, b, …)', compile_call.at);
    end if;
    return jsonb_build_object('type', 'text', 'sql_type', 'text', 'sql', format('data.text_joined(array[%s], %s)',
      (select string_agg(data.text_of_part(p), ', ' order by n) from jsonb_array_elements(parts) with ordinality x (p, n)),
      case compile_call.name when 'concat' then 'true' else 'false' end));
  elsif compile_call.name = 'to_text' then
    if _n <> 1 then
      perform data.refuse_call('to_text', 'to_text(value)', compile_call.at);
    end if;
    return jsonb_build_object('type', 'text', 'sql_type', 'text', 'sql', data.text_of_part(parts->0));
  elsif compile_call.name = 'abs' then
    if _n <> 1 then
      perform data.refuse_call('abs', 'abs(number)', compile_call.at);
    end if;
    return jsonb_build_object('type', case parts #>> '{0,type}' when 'null' then 'decimal' else parts #>> '{0,type}' end,
      'sql_type', 'numeric',
      'sql', format('abs(%s)', data.require_part(parts->0, 'decimal', 'abs')));
  elsif compile_call.name in ('year', 'month', 'day', 'date_add', 'date_diff') then
    return data.compile_date_call(compile_call.name, parts, compile_call.at);
  end if;

  select f.* into _f from data.expression_functions() f where f.name = compile_call.name and cardinality(f.takes) = _n;
  if _f.name is null then
    if exists (select from data.expression_functions() f where f.name = compile_call.name) then
      perform data.refuse_call(compile_call.name,
        (select string_agg(format('%s(%s)', f.name, array_to_string(f.takes, ', ')), ' or ') from data.expression_functions() f
        where f.name = compile_call.name),
        compile_call.at);
    end if;
    perform data.refuse_expression(format('%L is not a function', left(compile_call.name, 60)), compile_call.at,
      'Functions: abs, ceil, coalesce, concat, date_add, date_diff, day, floor, greatest (max), if, least (min), length, lower, month, now, replace, round, substr, to_number, to_text, today, trim, upper, year.');
  end if;
  _sql := array(select data.require_part(p, _f.takes[n], compile_call.name) from jsonb_array_elements(parts) with ordinality x (p, n)
    order by n);
  return jsonb_build_object('type', _f.gives, 'sql_type', _f.sql_type, 'sql', format(_f.template, variadic _sql));
end
$$;
comment on function data.compile_call(text, jsonb, int) is 'A function''s call over compiled parts as a compiled part. RH400 lists the functions there are.';

create or replace function data.text_of_part(part jsonb) returns text
language plpgsql immutable set search_path = '' as $$
begin
  return case part->>'type'
    when 'text' then part->>'sql'
    when 'null' then 'null::text'
    when 'date-time' then format('data.utc_text(%s)', part->>'sql')
    when 'date' then format('(to_jsonb(%s) #>> ''{}'')', part->>'sql')
    when 'array' then data.expression_as(part, 'text', 'text') -- refuses
    when 'object' then data.expression_as(part, 'text', 'text')
    else format('(%s)::text', part->>'sql') end;
end
$$;
comment on function data.text_of_part(jsonb) is 'A compiled part as SQL of type text, in the form it has in JSON. RH400 for lists and objects.';

create or replace function data.date_unit(part jsonb) returns text
language plpgsql immutable set search_path = '' as $$
declare
  _unit text := rtrim(lower(part->>'literal'), 's') || 's';
begin
  if part is null then
    return 'days';
  elsif _unit is null or part->>'type' <> 'text' or _unit not in ('years', 'months', 'weeks', 'days', 'hours', 'minutes', 'seconds') then
    perform data.refuse_expression('expected a unit: ''years'', ''months'', ''weeks'', ''days'', ''hours'', ''minutes'' or ''seconds''',
      (part->>'at')::int);
  end if;
  return _unit;
end
$$;
comment on function data.date_unit(jsonb) is 'The unit that a compiled part names, days when there is none. RH400.';

create or replace function data.timestamp_of_part(part jsonb, who text) returns text
language plpgsql immutable set search_path = '' as $$
declare
  _type text := part->>'type';
begin
  if _type = 'text' and part ? 'literal' then
    return format('(%s at time zone ''UTC'')', data.expression_as(part, 'date-time', 'timestamptz'));
  elsif _type not in ('date', 'date-time', 'null') then
    perform data.refuse_expression(format('%s takes a date or a date-time, and this is %s', who, data.type_name(_type)),
      (part->>'at')::int);
  end if;
  return case _type when 'date-time' then format('(%s at time zone ''UTC'')', part->>'sql')
    else format('(%s)::timestamp', part->>'sql') end;
end
$$;
comment on function data.timestamp_of_part(jsonb, text) is 'A date or date-time as SQL of type timestamp, in UTC. RH400.';

create or replace function data.compile_date_call(name text, parts jsonb, at int) returns jsonb
language plpgsql immutable set search_path = '' as $$
declare
  _n int := jsonb_array_length(parts);
  _unit text;
  _sql text;
begin
  if compile_date_call.name in ('year', 'month', 'day') then
    if _n <> 1 then
      perform data.refuse_call(compile_date_call.name, compile_date_call.name || '(date)', compile_date_call.at);
    end if;
    return jsonb_build_object('type', 'integer', 'sql_type', 'int8',
      'sql', format('extract(%s from %s)::int8', compile_date_call.name, data.timestamp_of_part(parts->0, compile_date_call.name)));
  elsif compile_date_call.name = 'date_diff' then
    if _n not in (2, 3) then
      perform data.refuse_call('date_diff', 'date_diff(later, earlier, ''days'')', compile_date_call.at);
    end if;
    return jsonb_build_object('type', 'integer', 'sql_type', 'int8', 'sql', format('data.time_between(%s, %s, %L)',
      data.timestamp_of_part(parts->0, 'date_diff'), data.timestamp_of_part(parts->1, 'date_diff'), data.date_unit(parts->2)));
  end if;
  if _n not in (2, 3) then
    perform data.refuse_call('date_add', 'date_add(date, 7, ''days'')', compile_date_call.at);
  end if;
  _unit := data.date_unit(parts->2);
  if parts #>> '{0,type}' <> 'date-time' and _unit in ('hours', 'minutes', 'seconds') then
    perform data.refuse_expression(format('a date has no %s: give date_add a date-time', _unit), (parts #>> '{2,at}')::int);
  end if;
  _sql := format('data.time_added(%s, %s, %L)', data.timestamp_of_part(parts->0, 'date_add'),
    data.require_part(parts->1, 'integer', 'date_add'), _unit);
  return case parts #>> '{0,type}'
    when 'date-time' then jsonb_build_object('type', 'date-time', 'sql_type', 'timestamptz',
    'sql', format('(%s at time zone ''UTC'')', _sql))
    else jsonb_build_object('type', 'date', 'sql_type', 'date', 'sql', _sql || '::date') end;
end
$$;
comment on function data.compile_date_call(text, jsonb, int) is 'year, month, day, date_add and date_diff as a compiled part; times are in UTC. RH400.';
