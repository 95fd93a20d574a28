-- What is wrong with the expressions of a definition.

create or replace function data.computed_shape(name text, property jsonb, required jsonb) returns jsonb
language plpgsql immutable set search_path = '' as $$
declare
  _computed jsonb := property->'x-computed';
  _at text := '/properties/' || computed_shape.name;
  _wrong text;
begin
  if jsonb_typeof(_computed) not in ('string', 'object') or data.computed_expression(property) is null
    or jsonb_typeof(_computed) = 'object'
      and (_computed - '{expression,stored}'::text[] <> '{}' or jsonb_typeof(_computed->'expression') <> 'string'
      or jsonb_typeof(coalesce(_computed->'stored', 'true')) <> 'boolean')
  then
    return data.violation(_at || '/x-computed',
      'must be an expression, "price * quantity", or {"expression": "price * quantity", "stored": true}');
  elsif data.kind(property) in ('array', 'object') then
    return data.violation(_at || '/x-computed', 'is for text, numbers, booleans, dates and UUIDs');
  elsif property ?| array['default', 'x-relation', 'x-search'] then
    return data.violation(_at || '/x-computed', 'goes with none of default, x-relation and x-search; search the fields it is made of');
  elsif coalesce(required, '[]') ? computed_shape.name then
    return data.violation('/required',
      format('%s is computed, and clients cannot send it; write a rule instead: "%1$s is not null"', computed_shape.name));
  elsif (property->'x-index' = 'true' or property->'x-unique' = 'true') and _computed->'stored' = 'false' then
    return data.violation(_at || '/x-computed/stored', 'must be true: what is indexed or unique is stored');
  end if;
  if data.is_virtual(property) then
    select string_agg(k, ', ' order by k) into _wrong from jsonb_object_keys(property) k
    where k in ('enum', 'minLength', 'maxLength', 'pattern', 'minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum', 'precision',
      'scale');
    if _wrong is not null then
      return data.violation(_at,
        _wrong || ' would not be checked: that is for stored fields. Store it, or write a rule (x-rules); round(x, 2) sets the digits');
    end if;
  end if;
  return '[]';
end
$$;
comment on function data.computed_shape(text, jsonb, jsonb) is 'What is wrong with a computed property, its expression apart: a JSON array of {pointer, message}.';

create or replace function data.computed_cycle(schema jsonb, rest text[]) returns text
language plpgsql immutable set search_path = '' as $$
declare
  _way text[] := array[rest[1]];
  _next text;
begin
  loop
    select n into _next
    from unnest(data.expression_names(data.parse_expression(data.computed_expression(computed_cycle.schema->'properties'->_way[cardinality(_way)])))) n
    where n = any (rest) order by n limit 1;
    if _next = any (_way) then
      return array_to_string(_way[array_position(_way, _next):] || _next, ' → ');
    end if;
    _way := _way || _next;
  end loop;
end
$$;
comment on function data.computed_cycle(jsonb, text[]) is 'One cycle among computed properties that all depend on one: a → b → a.';

create or replace function data.expression_violations(schema jsonb) returns jsonb
language plpgsql immutable set search_path = '' as $$
declare
  _properties jsonb := expression_violations.schema->'properties';
  _names text[] := data.computed_names(expression_violations.schema);
  _errors jsonb;
  _name text;
  _order text[];
  _base jsonb;
  _fields jsonb;
  _row_fields jsonb;
  _detail text;
begin
  if cardinality(_names) > 100 then
    return data.violation('/properties', 'at most 100 of them may be computed');
  end if;
  select coalesce(jsonb_agg(e), '[]') into _errors
  from unnest(_names) n, jsonb_array_elements(data.computed_shape(n, _properties->n, expression_violations.schema->'required')) e;
  if _errors <> '[]' then
    return _errors;
  end if;
  foreach _name in array _names loop
    begin
      perform data.parse_expression(data.computed_expression(_properties->_name));
    exception when sqlstate 'RH400' then
      get stacked diagnostics _detail = pg_exception_detail;
      _errors := _errors || data.expression_problem(data.computed_pointer(_name, _properties->_name), sqlerrm, _detail::jsonb);
    end;
  end loop;
  if _errors <> '[]' then
    return _errors;
  end if;
  _order := data.computed_order(expression_violations.schema);
  if cardinality(_order) < cardinality(_names) then
    _names := array(select n from unnest(_names) n where n <> all (_order));
    return data.violation(data.computed_pointer(_names[1], _properties->_names[1]),
      'refers to itself: ' || data.computed_cycle(expression_violations.schema, _names));
  end if;
  _base := data.data_columns(expression_violations.schema, 'x');
  _fields := data.expression_fields(expression_violations.schema, _base);
  _row_fields := data.expression_fields(expression_violations.schema,
    _base || jsonb_build_object('id', 'x', 'created_at', 'x', 'updated_at', 'x', 'version', 'x', 'created_by', 'x'));
  foreach _name in array _order loop
    begin
      _fields := data.with_computed(_fields, _name, _properties->_name);
      if data.is_virtual(_properties->_name) then
        _row_fields := data.with_computed(_row_fields, _name, _properties->_name);
      end if;
    exception when sqlstate 'RH400' then
      get stacked diagnostics _detail = pg_exception_detail;
      return _errors || data.expression_problem(data.computed_pointer(_name, _properties->_name), sqlerrm, _detail::jsonb);
    end;
  end loop;
  return case when expression_violations.schema ? 'x-rules' then data.rule_violations(expression_violations.schema, _fields) else '[]' end;
end
$$;
comment on function data.expression_violations(jsonb) is
  'What is wrong with the expressions of an entity''s definition (x-computed, x-rules): a JSON array of {pointer, message, position}.';

create or replace function data.computed_pointer(name text, property jsonb) returns text
language sql immutable parallel safe set search_path = '' as $$
  select format('/properties/%s/x-computed%s', computed_pointer.name,
    case jsonb_typeof(property->'x-computed') when 'object' then '/expression' else '' end)
$$;
comment on function data.computed_pointer(text, jsonb) is 'The JSON pointer to the expression of a computed property.';
