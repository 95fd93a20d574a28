-- The compiler of the expression language: a tree of data.parse_expression becomes one SQL expression. Names are looked up
-- in fields, {name: {"kind", "sql", "schema"}}, whose SQL the caller made; nothing of the text reaches SQL but by %L.

create or replace function data.compile_expression(tree jsonb, fields jsonb) returns jsonb
language plpgsql immutable set search_path = '' as $$
declare
  _parts jsonb;
  _type text := tree->>'type';
begin
  if tree ? 'field' then
    return data.compile_field(tree, fields);
  elsif tree ? 'literal' then
    if _type = 'integer' and not pg_input_is_valid(tree->>'literal', 'int8') then
      _type := 'decimal';
    end if;
    return jsonb_build_object('type', _type, 'sql_type', data.expression_sql_type(_type), 'at', tree->'at', 'literal', tree->'literal',
      'sql', format('%L::%s', tree->>'literal', data.expression_sql_type(_type)));
  end if;
  select coalesce(jsonb_agg(data.compile_expression(a, compile_expression.fields) order by n), '[]') into _parts
  from jsonb_array_elements(tree->'arguments') with ordinality x (a, n);
  return case when tree ? 'function' then data.compile_call(tree->>'function', _parts, (tree->>'at')::int)
    else data.compile_operator(tree->>'operator', _parts, (tree->>'at')::int) end || jsonb_build_object('at', tree->'at');
end
$$;
comment on function data.compile_expression(jsonb, jsonb) is
  'A syntax tree as SQL: {"sql", "type", "sql_type"}, over fields {name: {"kind", "sql", "schema"}}. Types are text, integer, number, decimal, boolean, date, date-time, uuid, null. RH400 names the position and what was expected.';

create or replace function data.compile_field(tree jsonb, fields jsonb) returns jsonb
language plpgsql immutable set search_path = '' as $$
declare
  _path text[] := array(select jsonb_array_elements_text(tree->'field'));
  _field jsonb := fields->_path[1];
  _at int := (tree->>'at')::int;
  _schema jsonb;
  _kind text;
  _sql text;
  _sql_type text;
begin
  if _field is null then
    perform data.refuse_expression(format('%L is not a field here', left(array_to_string(_path, '.'), 80)), _at,
      'Fields: ' || coalesce(left((select string_agg(k, ', ' order by k) from jsonb_object_keys(fields) k), 1000), 'none')
        || '. Texts stand in single quotes: ''draft''.');
  elsif not _field ? 'sql' then
    perform data.refuse_expression(format('%s cannot be used here: %s', _path[1], _field->>'unusable'), _at);
  end if;
  _schema := _field->'schema';
  _kind := _field->>'kind';
  _sql := _field->>'sql';
  for i in 2 .. cardinality(_path) loop
    _schema := _schema->'properties'->_path[i];
    _kind := data.kind(_schema);
    if _kind is null then
      perform data.refuse_expression(format('%L is not a field here: %L has no property %L in its schema',
        left(array_to_string(_path, '.'), 80),
        array_to_string(_path[:i - 1], '.'), left(_path[i], 40)), _at);
    end if;
  end loop;
  _sql_type := data.expression_sql_type(data.expression_type(_kind));
  if cardinality(_path) > 1 then
    _sql := case when _sql_type = 'jsonb' then format('(%s #> %L::text[])', _sql, _path[2:])
      else format('(%s #>> %L::text[])::%s', _sql, _path[2:], _sql_type) end;
  end if;
  return jsonb_build_object('type', data.expression_type(_kind), 'sql_type', _sql_type, 'sql', _sql, 'at', _at);
end
$$;
comment on function data.compile_field(jsonb, jsonb) is 'A field, or a path into an object (address.city), as a compiled part. RH400 lists the fields there are.';

create or replace function data.compile_operator(operator text, parts jsonb, at int) returns jsonb
language plpgsql immutable set search_path = '' as $$
declare
  _sql text[];
  _same jsonb;
  _types text[] := array(select p->>'type' from jsonb_array_elements(parts) with ordinality x (p, n) order by n);
begin
  if operator in ('and', 'or', 'not') then
    _sql := array(select data.require_part(p, 'boolean', operator) from jsonb_array_elements(parts) with ordinality x (p, n) order by n);
    return data.boolean_part(case operator when 'not' then format('(not %s)', _sql[1])
      else '(' || array_to_string(_sql, ' ' || operator || ' ') || ')' end);
  elsif operator in ('is null', 'is not null') then
    return data.boolean_part(format('((%s) %s)', parts #>> '{0,sql}', operator));
  elsif operator in ('=', '!=', '<', '<=', '>', '>=', 'in', 'between') then
    if operator not in ('in', 'between') and 'null' = any (_types) then
      perform data.refuse_expression('a comparison with null is never true: write is null or is not null', at);
    end if;
    _same := data.unify_parts(parts);
    _sql := array(select jsonb_array_elements_text(_same->'sql'));
    return data.boolean_part(case operator
      when 'in' then format('(%s in (%s))', _sql[1], array_to_string(_sql[2:], ', '))
      when 'between' then format('(%s between %s and %s)', _sql[1], _sql[2], _sql[3])
      else format('(%s %s %s)', _sql[1], operator, _sql[2]) end);
  elsif operator in ('like', 'ilike') then
    if not parts->1 ? 'literal' or _types[2] <> 'text' or length(substring(parts #>> '{1,literal}' from '\\*$')) % 2 = 1 then
      perform data.refuse_expression(format('%s takes a text in quotes as its pattern: %% stands for any characters, _ for one, \ takes the next one as it is',
        operator), (parts #>> '{1,at}')::int);
    end if;
    return data.boolean_part(format('(%s %s %s)', data.require_part(parts->0, 'text', operator), operator, parts #>> '{1,sql}'));
  elsif operator = '||' then
    return data.compile_call('||', parts, at);
  end if;
  return data.compile_arithmetic(operator, parts, at, _types);
end
$$;
comment on function data.compile_operator(text, jsonb, int) is 'An operator over compiled parts as a compiled part. RH400.';

create or replace function data.boolean_part(sql text) returns jsonb
language sql immutable parallel safe return jsonb_build_object('type', 'boolean', 'sql_type', 'boolean', 'sql', sql);
comment on function data.boolean_part(text) is 'A compiled part that is true or false.';

create or replace function data.compile_arithmetic(operator text, parts jsonb, at int, types text[]) returns jsonb
language plpgsql immutable set search_path = '' as $$
declare
  _sql text[];
  _out text;
begin
  -- Dates: date + days, date - days, date - date.
  if operator in ('+', '-') and types && array['date', 'date-time'] then
    if operator = '-' and cardinality(types) = 2 and types[1] in ('date', 'text') and types[2] in ('date', 'text') then
      return jsonb_build_object('type', 'integer', 'sql_type', 'int8', 'sql',
        format('(%s - %s)::int8', data.expression_as(parts->0, 'date', 'date'), data.expression_as(parts->1, 'date', 'date')));
    elsif types[1] = 'date' and types[2:] <@ array['integer', 'null'] then
      select string_agg(data.require_part(p, 'integer', operator), ' + ' order by n) into _out
      from jsonb_array_elements(parts - 0) with ordinality x (p, n);
      return jsonb_build_object('type', 'date', 'sql_type', 'date', 'sql',
        format('data.time_added((%s)::timestamp, %s(%s), ''days'')::date', parts #>> '{0,sql}', operator, _out));
    end if;
    perform data.refuse_expression(format('%s of a date takes a number of days, or another date to subtract', operator), at,
      'start_date + 7, end_date - start_date, date_add(starts_at, 3, ''hours''), date_diff(ends_at, starts_at, ''hours'').');
  end if;
  _sql := array(select data.require_part(p, 'decimal', case operator when 'negate' then '-' else operator end)
    from jsonb_array_elements(parts) with ordinality x (p, n) order by n);
  _out := _sql[1];
  if operator = 'negate' then
    _out := format('(- %s)', _out);
  elsif operator in ('+', '-', '*') then
    _out := '(' || array_to_string(_sql, ' ' || operator || ' ') || ')';
  else
    for i in 2 .. cardinality(_sql) loop
      _out := case operator when '/' then format('trim_scale(%s / nullif(%s, 0))', _out, _sql[i])
        else format('(%s %% nullif(%s, 0))', _out, _sql[i]) end;
    end loop;
  end if;
  return jsonb_build_object('sql', _out, 'sql_type', 'numeric', 'type', case
    when 'number' = any (types) then 'number'
    when operator = '/' or 'decimal' = any (types) then 'decimal'
    else 'integer' end);
end
$$;
comment on function data.compile_arithmetic(text, jsonb, int, text[]) is '+ - * / % and negation over compiled parts: exact, in numeric; division by zero gives null. RH400.';
