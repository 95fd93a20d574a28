-- Computed fields: "x-computed": "price * quantity" is a column of the view, computed from the row when it is read;
-- {"expression": "…", "stored": true}, and any with x-index or x-unique, is kept in data and made anew by every write.

create or replace function data.computed_expression(property jsonb) returns text
language sql immutable parallel safe set search_path = '' as $$
  select case jsonb_typeof(property->'x-computed') when 'string' then property->>'x-computed'
    when 'object' then property #>> '{x-computed,expression}' end
$$;
comment on function data.computed_expression(jsonb) is 'The expression of a computed property; null for one that clients write.';

create or replace function data.is_virtual(property jsonb) returns boolean
language sql immutable parallel safe set search_path = '' as $$
  select property ? 'x-alias' or data.is_linked(property) or property ? 'x-computed' and not coalesce(property->'x-index' = 'true', false)
    and not coalesce(property->'x-unique' = 'true', false)
    and not coalesce(property #> '{x-computed,stored}' = 'true', false)
$$;
comment on function data.is_virtual(jsonb) is 'Whether a property is not stored in the record: computed when it is read, another name of one, or a list of links.';

create or replace function data.computed_names(schema jsonb) returns text[]
language sql immutable parallel safe set search_path = '' as $$
  select array(select key from jsonb_each(computed_names.schema->'properties') where value ? 'x-computed' order by key)
$$;
comment on function data.computed_names(jsonb) is 'The names of an entity''s computed properties.';

create or replace function data.expression_names(tree jsonb) returns text[]
language sql immutable parallel safe set search_path = '' as $$
  select array(select distinct f->>0 from jsonb_path_query(tree, 'strict $.**.field', silent => true) f)
$$;
comment on function data.expression_names(jsonb) is 'The names of the fields that a syntax tree refers to.';

create or replace function data.computed_order(schema jsonb) returns text[]
language plpgsql immutable set search_path = '' as $$
declare
  _all text[] := data.computed_names(computed_order.schema);
  _needs jsonb := (select jsonb_object_agg(n,
    data.expression_names(data.parse_expression(data.computed_expression(computed_order.schema->'properties'->n)))) from unnest(_all) n);
  _done text[] := '{}';
  _next text[];
begin
  loop
    select array_agg(n order by n) into _next from unnest(_all) n
    where n <> all (_done) and not exists (
      select from jsonb_array_elements_text(_needs->n) d
      where d = any (_all) and d <> all (_done));
    exit when _next is null;
    _done := _done || _next;
  end loop;
  return _done;
end
$$;
comment on function data.computed_order(jsonb) is 'The names of an entity''s computed properties, each after those it refers to; those in a cycle are left out. RH400.';

create or replace function data.assign_part(part jsonb, kind text) returns jsonb
language plpgsql immutable set search_path = '' as $$
declare
  _type text := data.expression_type(kind);
  _sql_type text := data.expression_sql_type(_type);
  _sql text;
begin
  if _type in ('integer', 'number') and part->>'sql_type' <> _sql_type
    and (_type = 'integer' and part->>'type' = 'integer' or _type = 'number' and data.is_number_type(part->>'type')) then
    _sql := data.expression_as(part, 'decimal', 'numeric');
    return jsonb_build_object('value', format('data.%s_or_null(%s)', _sql_type, _sql),
      'fails', format(case _type when 'integer' then '(%s) not between -9223372036854775808 and 9223372036854775807'
        else 'abs(%s) > 1.7e308' end, _sql));
  elsif _type = 'integer' and data.is_number_type(part->>'type') and part->>'type' <> 'integer' then
    perform data.refuse_expression(format('this is %s, and the field is an integer', data.type_name(part->>'type')), 1,
      'round(x), floor(x) and ceil(x) make an integer.');
  elsif _type = 'decimal' and data.is_number_type(part->>'type') then
    return jsonb_build_object('value', data.expression_as(part, 'decimal', 'numeric'));
  end if;
  if part->>'type' not in (_type, 'null') and not (_type in ('date', 'date-time', 'uuid') and part ? 'literal')
    and not (_type = 'date-time' and part->>'type' = 'date') then
    perform data.refuse_expression(format('this is %s, and the field is %s', data.type_name(part->>'type'), data.type_name(_type)), 1,
      'to_text(x) and to_number(x) convert.');
  end if;
  return jsonb_build_object('value', data.expression_as(part, _type, _sql_type));
end
$$;
comment on function data.assign_part(jsonb, text) is
  'A compiled part as the value of a property of a kind: {"value", "fails"}, value being null and fails true where it is out of range. RH400.';

create or replace function data.expression_fields(schema jsonb, base jsonb) returns jsonb
language sql immutable set search_path = '' as $$
  select coalesce((
      select jsonb_object_agg(p.key,
        jsonb_build_object('kind', data.kind(p.value), 'schema', p.value, 'sql', base->p.key, 'names', jsonb_build_array(p.key)))
      from jsonb_each(expression_fields.schema->'properties') p where not data.is_virtual(p.value)), '{}')
    || (select jsonb_object_agg(c, jsonb_build_object('kind', k, 'names', '[]'::jsonb)
        || case when base ? c then jsonb_build_object('sql', base->c)
          else '{"unusable": "it is not known before the record is written"}' end)
      from (values ('id', 'uuid'), ('created_at', 'date-time'), ('updated_at', 'date-time'), ('version', 'integer'),
        ('created_by', 'uuid')) s (c, k))
$$;
comment on function data.expression_fields(jsonb, jsonb) is
  'What names mean in an entity''s expressions, without its virtual fields; base is {name: SQL}. Without SQL for the system columns, expressions that use them are refused.';

create or replace function data.with_computed(fields jsonb, name text, property jsonb) returns jsonb
language plpgsql immutable set search_path = '' as $$
declare
  _tree jsonb := data.parse_expression(data.computed_expression(property));
  _kind text := data.kind(property);
  _used text[] := data.expression_names(_tree);
  _unusable text := (select u from unnest(_used) u where fields ? u and not fields->u ? 'sql' order by u limit 1);
  _now boolean := data.uses_now(_tree, fields);
  _value jsonb;
begin
  if property ? 'x-rollup' then
    return fields || jsonb_build_object(with_computed.name, jsonb_build_object('kind', _kind, 'names', '[]'::jsonb,
      'unusable', 'it is a rollup, which only reads compute'));
  elsif fields->_unusable->>'unusable' like 'it is a rollup%' then
    perform data.refuse_expression(format('%s is a rollup, and other fields cannot be computed from it', _unusable), 1);
  elsif data.is_virtual(property) and _unusable is not null then
    return fields || jsonb_build_object(with_computed.name, jsonb_build_object('kind', _kind, 'names', '[]'::jsonb, 'now', _now,
      'unusable', format('it depends on %s; %s', _unusable, fields #>> array[_unusable, 'unusable'])));
  end if;
  _value := data.assign_part(data.compile_expression(_tree, fields), _kind);
  if length(_value->>'value') > 100000 then
    perform data.refuse_expression('together with the computed fields it uses, this is too long', 1);
  elsif not data.is_virtual(property) and _now then
    perform data.refuse_expression('now() and today() change by themselves: only virtual fields and rules may use them', 1,
      'Leave out stored, x-index and x-unique.');
  end if;
  return fields || jsonb_build_object(with_computed.name, coalesce(fields->with_computed.name, '{}') || _value
    || jsonb_build_object('kind', _kind, 'schema', property, 'now', _now, 'names', data.base_names(_used, fields))
    || case when data.is_virtual(property) then jsonb_build_object('sql', '(' || (_value->>'value') || ')') else '{}' end);
end
$$;
comment on function data.with_computed(jsonb, text, jsonb) is
  'The meanings of names with those of a computed property, {"kind", "value", "fails", "names", "now"}; a virtual one stands for its expression. RH400.';

create or replace function data.base_names(names text[], fields jsonb) returns jsonb
language sql immutable set search_path = '' as $$
  select coalesce(jsonb_agg(distinct b), '[]') from unnest(base_names.names) n, jsonb_array_elements(fields->n->'names') b
$$;
comment on function data.base_names(text[], jsonb) is 'The stored fields behind names.';

create or replace function data.uses_now(tree jsonb, fields jsonb) returns boolean
language sql immutable set search_path = '' as $$
  select jsonb_path_exists(tree, 'strict $.** ? (@.function == "now" || @.function == "today")', silent => true)
    or exists (select from unnest(data.expression_names(tree)) n where fields #> array[n, 'now'] = 'true')
$$;
comment on function data.uses_now(jsonb, jsonb) is 'Whether an expression''s result changes with time.';

create or replace function data.all_fields(schema jsonb, base jsonb) returns jsonb
language plpgsql immutable set search_path = '' as $$
declare
  _fields jsonb := data.expression_fields(all_fields.schema, base);
  _name text;
begin
  foreach _name in array data.computed_order(all_fields.schema) loop
    if base ? 'id' and not data.is_virtual(all_fields.schema->'properties'->_name) then
      continue; -- a row has its value already
    end if;
    _fields := data.with_computed(_fields, _name, all_fields.schema->'properties'->_name);
  end loop;
  return _fields;
end
$$;
comment on function data.all_fields(jsonb, jsonb) is 'What names mean in an entity''s expressions, computed ones included. RH400.';

create or replace function data.data_columns(schema jsonb, source text) returns jsonb
language sql immutable set search_path = '' as $$
  select coalesce(jsonb_object_agg(p.key, data.column_value(jsonb_populate_record(null::data.fields,
    jsonb_build_object('name', p.key, 'schema', p.value, 'kind', data.kind(p.value), 'sql_type', data.sql_type(p.value))), source)), '{}')
  from jsonb_each(data_columns.schema->'properties') p
$$;
comment on function data.data_columns(jsonb, text) is 'The SQL that reads each property out of the jsonb expression source, as {name: SQL}.';

create or replace function data.virtual_columns(schema jsonb, base jsonb) returns table (name text, expression text)
language sql immutable set search_path = '' as $$
  with fields as materialized (select data.all_fields(virtual_columns.schema, base) as map
    where virtual_columns.schema @? '$.properties.*."x-computed"')
  select p.key, f.map #>> array[p.key, 'value']
  from fields f, jsonb_each(virtual_columns.schema->'properties') p where data.is_virtual(p.value) and p.value ? 'x-computed'
$$;
comment on function data.virtual_columns(jsonb, jsonb) is 'The SQL of an entity''s virtual fields; base is {name: SQL} of its other columns, the system''s included.';
