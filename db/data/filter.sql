-- The filter language: JSON in, a native predicate out. Names come from data.fields and are quoted; values are
-- parameters ($1, $2 …, bound as text and cast to the field's type) or, for psql, quoted literals.

create or replace function data.field_path(
  field data.fields, parts text[], base text, out expression text, out kind text, out item_kind text, out is_required boolean,
  out sql_type text
)
language plpgsql immutable set search_path = '' as $$
declare
  _schema jsonb := field.schema;
begin
  expression := base;
  kind := field.kind;
  sql_type := field.sql_type;
  is_required := field.is_required;
  if cardinality(parts) > 1 then
    for i in 2 .. cardinality(parts) loop
      _schema := _schema->'properties'->parts[i];
    end loop;
    is_required := false;
    kind := coalesce(data.kind(_schema), 'string');
    sql_type := case when _schema is null then 'text' else data.sql_type(_schema) end;
    expression := case when sql_type = 'jsonb' then format('(%s #> %L)', base, parts[2:])
      when sql_type = 'text' then format('(%s #>> %L)', base, parts[2:])
      else format('(%s #>> %L)::%s', base, parts[2:], sql_type) end;
  end if;
  item_kind := coalesce(data.kind(_schema->'items'), 'string');
end
$$;
comment on function data.field_path(data.fields, text[], text) is
  'The SQL expression, kind and type of a field whose value is the expression base, or of a path into it ({address,city}).';

create or replace function data.field_expression(
  entity_id uuid, path text, alias text, out expression text, out kind text, out item_kind text, out is_required boolean, out sql_type text
)
language plpgsql stable set search_path = '' as $$
declare
  _parts text[] := string_to_array(path, '.');
  _field data.fields;
  _found record;
begin
  if path = any (data.system_columns()) then
    expression := format('%s.%I', alias, path);
    kind := case when path in ('id', 'created_by') then 'uuid' when path = 'version' then 'integer' else 'date-time' end;
    is_required := path <> 'created_by';
    sql_type := case kind when 'uuid' then 'uuid' when 'integer' then 'int8' else 'timestamptz' end;
    return;
  end if;
  select f.* into _field from data.fields f where f.entity_id = field_expression.entity_id and f.name = _parts[1];
  if _field.name is null or (cardinality(_parts) > 1 and _field.kind not in ('object', 'any')) or cardinality(_parts) > 8 then
    perform rowhouse.fail(400,
      format('%L is not a field of %s', left(path, 120), (select e.name from data.entities e where e.id = field_expression.entity_id)),
      'Fields: ' || (select string_agg(f.name, ', ' order by f.position) from data.fields f where f.entity_id = field_expression.entity_id)
        || ', ' || array_to_string(data.system_columns(), ', ') || '. Inside objects: address.city. Relations: '
        || data.relation_names(field_expression.entity_id) || '.', 'unknown_field');
  end if;
  _found := data.field_path(_field, _parts, format('%s.%I', alias, _field.name));
  expression := _found.expression;
  kind := _found.kind;
  item_kind := _found.item_kind;
  is_required := _found.is_required;
  sql_type := _found.sql_type;
end
$$;
comment on function data.field_expression(uuid, text, text) is
  'The SQL expression, kind and type of a field (or a path into an object, address.city) of an entity''s view. RH400 lists the fields there are.';

create or replace function data.filter_value(value jsonb, sql_type text, parameters text[]) returns text
language plpgsql immutable set search_path = '' as $$
declare
  _n int;
begin
  if jsonb_typeof(value) is distinct from 'object' or jsonb_typeof(value->'$param') is distinct from 'number' then
    perform rowhouse.fail(400, 'A filter compares a field with a value', '{"age": {"$gte": 18}}', 'invalid_filter');
  end if;
  _n := (value->>'$param')::int;
  return case when parameters is null then format('$%s::%s', _n, sql_type) else format('%L::%s', parameters[_n], sql_type) end;
end
$$;
comment on function data.filter_value(jsonb, text, text[]) is 'A placeholder {"$param": n} as a typed parameter, or as a quoted literal when parameters are given.';

create or replace function data.comparison_type(operator text, kind text, item_kind text, sql_type text) returns text
language sql immutable parallel safe
return case
  when operator in ('$in', '$nin') then sql_type || '[]'
  when operator = '$exists' then 'boolean'
  when operator in ('$like', '$ilike') then 'text'
  when operator = '$contains'
    then case when sql_type = 'text' or kind = 'array'
    and item_kind not in ('integer', 'number', 'boolean', 'array', 'object') then 'text' else 'jsonb' end
  else sql_type end;
comment on function data.comparison_type(text, text, text, text) is 'The SQL type of the value that an operator compares an expression of a kind and type with.';

create or replace function data.comparison(expression text, kind text, item_kind text, sql_type text, path text, operator text, value text)
returns text
language plpgsql stable set search_path = '' as $$
begin
  if operator in ('$in', '$nin') then
    return format(case operator when '$in' then '%s = any (%s)' else '(%s = any (%s)) is not true' end, expression, value);
  elsif operator = '$exists' then
    return format('(%s is not null) = %s', expression, value);
  elsif operator in ('$like', '$ilike') then
    if sql_type <> 'text' then
      perform rowhouse.fail(400, format('%s needs text, and %L is %s', operator, path, kind), 'Compare it with $eq, $gt or $in instead.',
        'invalid_filter');
    end if;
    return format('%s %s %s', expression, case operator when '$like' then 'like' else 'ilike' end, value);
  elsif operator = '$contains' then
    if sql_type not in ('text', 'jsonb') then
      perform rowhouse.fail(400, format('$contains needs text, an array or an object, and %L is %s', path, kind),
        'Compare it with $eq or $in instead.', 'invalid_filter');
    end if;
    return format(case when sql_type = 'text' then 'strpos(%s, %s) > 0'
      when data.comparison_type(operator, kind, item_kind, sql_type) = 'text' then '%s ? %s' else '%s @> %s' end,
      expression, value);
  elsif operator in ('$eq', '$ne', '$gt', '$gte', '$lt', '$lte') then
    return format('%s %s %s', expression, case operator when '$eq' then '=' when '$ne' then 'is distinct from' when '$gt' then '>'
      when '$gte' then '>=' when '$lt' then '<' else '<=' end, value);
  end if;
  perform rowhouse.fail(400, format('%L is not an operator', left(operator, 40)),
    'Operators: $eq, $ne, $gt, $gte, $lt, $lte, $in, $nin, $like, $ilike, $contains, $exists, $and, $or, $not.', 'unknown_operator');
end
$$;
comment on function data.comparison(text, text, text, text, text, text, text) is
  'An expression of a kind and type, called path, compared by an operator with value, SQL of data.comparison_type. RH400 for operators that do not fit it.';

create or replace function data.compile_comparison(
  expression text, kind text, item_kind text, sql_type text, path text, operator text, operand jsonb, parameters text[]
)
returns text
language plpgsql stable set search_path = '' as $$
begin
  if operator in ('$eq', '$ne') and operand = 'null' then
    return format('%s is %s null', expression, case operator when '$eq' then '' else 'not' end);
  elsif not operator = any (array['$eq', '$ne', '$gt', '$gte', '$lt', '$lte', '$in', '$nin', '$like', '$ilike', '$contains', '$exists'])
    then
    return data.comparison(expression, kind, item_kind, sql_type, path, operator, null); -- says what is wrong
  elsif operator in ('$in', '$nin') then
    return data.comparison(expression, kind, item_kind, sql_type, path, operator,
      format('(select array(select jsonb_array_elements_text(%s)))::%s[]', data.filter_value(operand, 'jsonb', parameters), sql_type));
  end if;
  return data.comparison(expression, kind, item_kind, sql_type, path, operator,
    data.filter_value(operand, data.comparison_type(operator, kind, item_kind, sql_type), parameters));
end
$$;
comment on function data.compile_comparison(text, text, text, text, text, text, jsonb, text[]) is
  'An expression of a kind and type, called path, compared as SQL. RH400 for operators that do not fit it.';

create or replace function data.compile_condition(entity_id uuid, path text, operator text, operand jsonb, alias text, parameters text[])
returns text
language sql stable set search_path = '' as $$
  select data.compile_comparison(f.expression, f.kind, f.item_kind, f.sql_type, path, operator, operand, parameters)
  from data.field_expression(entity_id, path, alias) f
$$;
comment on function data.compile_condition(uuid, text, text, jsonb, text, text[]) is 'One comparison of a filter as SQL. RH400 for unknown fields and operators.';

create or replace function data.is_field(entity_id uuid, name text) returns boolean
language sql stable set search_path = '' as $$
  select is_field.name = any (data.system_columns())
    or exists (select from data.fields f where f.entity_id = is_field.entity_id and f.name = is_field.name)
$$;
comment on function data.is_field(uuid, text) is 'Whether an entity has a field of this name.';

create or replace function data.compile_filter(entity_id uuid, filter jsonb, alias text, parameters text[] default null,
  depth int default 0)
returns text
language plpgsql stable set search_path = '' as $$
declare
  _out text[] := '{}';
  _key text;
  _value jsonb;
  _operator text;
  _operand jsonb;
begin
  if depth > 10 then
    perform rowhouse.fail(400, 'The filter is nested too deeply', 'Nest $and, $or and $not at most 10 levels deep.', 'invalid_filter');
  elsif jsonb_typeof(filter) is distinct from 'object' then
    perform rowhouse.fail(400, 'A filter is a JSON object', '{"age": {"$gte": 18}, "city": "Oslo"}', 'invalid_filter');
  end if;
  for _key, _value in select * from jsonb_each(filter) loop
    if _key in ('$and', '$or') then
      if jsonb_typeof(_value) <> 'array' or _value = '[]' then
        perform rowhouse.fail(400, format('%s takes a list of filters', _key), format('{"%s": [{"age": 1}, {"age": 2}]}', _key),
          'invalid_filter');
      end if;
      _out := _out || ('(' || (select string_agg(data.compile_filter(entity_id, f, alias, parameters, depth + 1),
        case _key when '$and' then ' and ' else ' or ' end) from jsonb_array_elements(_value) f) || ')');
    elsif _key = '$not' then
      _out := _out || format('(%s) is not true', data.compile_filter(entity_id, _value, alias, parameters, depth + 1));
    elsif _key like '$%' then
      perform rowhouse.fail(400, format('%L is not an operator here', left(_key, 40)),
        'A filter has fields, $and, $or and $not at its top; operators stand under a field: {"age": {"$gte": 18}}.', 'unknown_operator');
    elsif data.is_link_filter(entity_id, _key, _value) or not data.is_field(entity_id, split_part(_key, '.', 1))
      and (data.relation_of(entity_id, split_part(_key, '.', 1))).id is not null then
      _out := _out || data.compile_relation_filter(entity_id, _key, _value, alias, parameters, depth);
    elsif jsonb_typeof(_value) = 'object' and not _value ? '$param' then
      if _value = '{}' then
        perform rowhouse.fail(400, format('The filter on %L is empty', left(_key, 60)), '{"age": {"$gte": 18}}', 'invalid_filter');
      end if;
      for _operator, _operand in select * from jsonb_each(_value) loop
        if _operator = '$not' then
          _out := _out || format('(%s) is not true',
            data.compile_filter(entity_id, jsonb_build_object(_key, _operand), alias, parameters, depth + 1));
        else
          _out := _out || data.compile_condition(entity_id, _key, _operator, _operand, alias, parameters);
        end if;
      end loop;
    else
      _out := _out || data.compile_condition(entity_id, _key, '$eq', _value, alias, parameters);
    end if;
  end loop;
  return case when _out = '{}' then 'true' else array_to_string(_out, ' and ') end;
end
$$;
comment on function data.compile_filter(uuid, jsonb, text, text[], int) is
  'Compiles a filter whose literals are placeholders {"$param": n} into an SQL predicate over the entity''s view (alias). RH400 says what is wrong with it.';
