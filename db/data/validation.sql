-- Turns a schema into PL/pgSQL: checks compiled once per definition, so that a write interprets no schema.

create or replace function data.compile_check(test text, pointer text, message text) returns text
language sql immutable set search_path = '' as $$
  select format(E'if %s then _e := _e || data.violation(%s, %L); end if;\n', test, pointer, message)
$$;
comment on function data.compile_check(text, text, text) is 'PL/pgSQL that notes message at pointer (an SQL expression) when test is true.';

drop function if exists data.compile_checks(jsonb, text, text, int), data.compile_properties(jsonb, text, text, int);

-- The tests of a keyword: fails is an SQL expression that is true when the value breaks it.
create or replace function data.text_tests(schema jsonb, t text) returns table (fails text, message text)
language sql immutable set search_path = '' as $$
  select format('length(%s) < %s', t, schema->>'minLength'), format('must have at least %s characters', schema->>'minLength')
  where schema ? 'minLength'
  union all
  select format('length(%s) > %s', t, schema->>'maxLength'), format('must have at most %s characters', schema->>'maxLength')
  where schema ? 'maxLength'
  union all
  select format('%s !~ %L', t, data.regex(schema->>'pattern')), format('must match %s', schema->>'pattern') where schema ? 'pattern'
  union all
  select format('not %s = any (%L::text[])', t, array(select e #>> '{}' from jsonb_array_elements(l) e where jsonb_typeof(e) = 'string')),
    'must be ' || case when schema ? 'enum' then 'one of ' else '' end
      || (select string_agg(e #>> '{}', ', ') from jsonb_array_elements(l) e)
  from unnest(array[schema->'enum', case when schema ? 'const' then jsonb_build_array(schema->'const') end]) l where l is not null
  union all
  select format('data.format_problem(%L, %s) is not null', schema->>'format', t), data.format_problem(schema->>'format', '%')
  where schema ? 'format'
$$;
comment on function data.text_tests(jsonb, text) is 'The tests that the keywords for strings make of the text expression t.';

create or replace function data.number_tests(schema jsonb, kind text, n text) returns table (fails text, message text)
language sql immutable set search_path = '' as $$
  select format('scale(%1$s) > 0 and %1$s <> trunc(%1$s) or %1$s > 9223372036854775807', n)
      || case when schema->'minimum' >= '-9223372036854775808' then '' else format(' or %s < -9223372036854775808', n) end,
      'must be a whole number of at most 64 bits'
  where kind = 'integer'
  union all
  select format('%s not between -1.7e308 and 1.7e308', n), 'is too large' where kind = 'number'
  union all
  select format('scale(trim_scale(%1$s)) > %2$s or abs(%1$s) >= %3$L::numeric', n, coalesce(schema->>'scale', '0'),
      10::numeric ^ ((schema->>'precision')::int - coalesce((schema->>'scale')::int, 0))),
    format('must have at most %s digits, %s of them after the point', schema->>'precision', coalesce(schema->>'scale', '0'))
      where kind = 'decimal' and schema ? 'precision'
  union all
  select format('%s %s %L::numeric', n, k.operator, schema->>k.key), format('must be %s %s', k.words, schema->>k.key)
  from (values ('minimum', '<', 'at least'), ('maximum', '>', 'at most'), ('exclusiveMinimum', '<=', 'more than'),
    ('exclusiveMaximum', '>=', 'less than')) k (key, operator, words)
  where schema ? k.key
  union all
  select format('mod(%s, %L::numeric) <> 0', n, schema->>'multipleOf'), format('must be a multiple of %s', schema->>'multipleOf')
  where schema ? 'multipleOf'
  union all
  select format('not %s = any (%L::numeric[])', n,
    array(select (e #>> '{}')::numeric from jsonb_array_elements(l) e where jsonb_typeof(e) = 'number')),
    'must be ' || case when schema ? 'enum' then 'one of ' else '' end || (select string_agg(e::text, ', ') from jsonb_array_elements(l) e)
  from unnest(array[schema->'enum', case when schema ? 'const' then jsonb_build_array(schema->'const') end]) l where l is not null
$$;
comment on function data.number_tests(jsonb, text, text) is 'The tests that the keywords for numbers, and the kind, make of the numeric expression n.';

create or replace function data.array_tests(schema jsonb, j text) returns table (fails text, message text)
language sql immutable set search_path = '' as $$
  select format('jsonb_array_length(%s) < %s', j, schema->>'minItems'), format('must have at least %s items', schema->>'minItems')
  where schema ? 'minItems'
  union all
  select format('jsonb_array_length(%s) > %s', j, schema->>'maxItems'), format('must have at most %s items', schema->>'maxItems')
  where schema ? 'maxItems'
  union all
  select format('data.has_duplicates(%s)', j), 'must not have the same item twice' where schema->'uniqueItems' = 'true'
$$;
comment on function data.array_tests(jsonb, text) is 'The tests that keywords for arrays make of the jsonb expression j, without its items.';

create or replace function data.has_duplicates(list jsonb) returns boolean
language sql immutable parallel safe set search_path = '' as $$
  select count(*) > count(distinct i) from jsonb_array_elements(list) i
$$;
comment on function data.has_duplicates(jsonb) is 'Whether a JSON array has the same item twice; 1 and 1.0 are the same.';

drop function if exists data.value_tests(jsonb, text, text);
create or replace function data.value_tests(schema jsonb, kind text, j text, t text, n text) returns table (fails text, message text)
language sql immutable set search_path = '' as $$
  select * from data.text_tests(schema, t) where kind in ('string', 'email', 'uuid', 'date', 'date-time')
  union all
  select * from data.number_tests(schema, kind, n) where kind in ('integer', 'number', 'decimal')
  union all
  select * from data.array_tests(schema, j) where kind = 'array'
  union all
  select format('not %L::jsonb @> %s', l, j), 'must be ' || (l->>0)
  from unnest(array[schema->'enum', case when schema ? 'const' then jsonb_build_array(schema->'const') end]) l
  where kind = 'boolean' and l is not null
$$;
comment on function data.value_tests(jsonb, text, text, text, text) is
  'The tests of a property of a kind that look at nothing inside of it; its value is the SQL expressions j (jsonb), t (text) and n (numeric).';

create or replace function data.type_test(kind text, value text) returns text
language sql immutable set search_path = '' as $$
  select case kind
    when 'decimal'
      then format('jsonb_typeof(%1$s) not in (''number'', ''string'') or (%1$s #>> ''{}'') !~ ''^-?[0-9]+(\.[0-9]+)?$'' or length(%1$s #>> ''{}'') > 1000',
      value)
    else format('jsonb_typeof(%s) <> %L', value, data.json_type(kind)) end
$$;
comment on function data.type_test(text, text) is 'The SQL expression that is true when the jsonb expression value has not the type of a kind.';

create or replace function data.json_type(kind text) returns text
language sql immutable parallel safe as $$
  select case when kind in ('integer', 'number') then 'number' when kind in ('boolean', 'array', 'object') then kind
    when kind = 'decimal' then 'decimal number' else 'string' end
$$;
comment on function data.json_type(text) is 'What values of a kind are in JSON, as messages call it.';

create or replace function data.compile_interpreted(part jsonb, schema jsonb, value text, pointer text) returns text
language sql immutable set search_path = '' as $$
  select case when part is not null
    and part <> 'true' then format(E'_e := _e || data.apply_prepared(%L::jsonb, %s, %s);\n', data.prepare_schema(part, true),
    case when decimals is null then format('jsonb_strip_nulls(%s)', value)
      else format('data.exact_decimals(jsonb_strip_nulls(%s), %L)', value, decimals) end, pointer) end
  from data.decimals_of(schema) decimals
$$;
comment on function data.compile_interpreted(jsonb, jsonb, text, text) is
  'PL/pgSQL that notes what is wrong with value by a part of its schema that is interpreted. null is absent there too, and a decimal sent as text is a number.';

create or replace function data.compile_checks(schema jsonb, value text, pointer text, depth int, defs jsonb default null) returns text
language plpgsql immutable set search_path = '' as $$
declare
  _s jsonb := compile_checks.schema;
  _kind text := coalesce(data.kind(_s), 'any');
  _type text := data.json_type(_kind);
  _part jsonb := case jsonb_typeof(_s) when 'object' then data.interpreted_part(_s, _kind, compile_checks.defs) else _s end;
  _out text;
  _child text := '_v' || (depth + 1);
begin
  select coalesce(string_agg(data.compile_check(t.fails, compile_checks.pointer, t.message), ''), '') into _out
  from data.value_tests(_s, _kind, value, format('(%s #>> ''{}'')', value),
    case _kind when 'decimal' then format('(%s #>> ''{}'')::numeric', value) else value || '::numeric' end) t;
  if _kind = 'array' and not _s ? 'prefixItems' then
    if jsonb_typeof(_s->'items') = 'object' then
      _out := _out
        || format(E'for _i%1$s, %2$s in select ordinality - 1, a.value from jsonb_array_elements(%3$s) with ordinality a loop\n%4$send loop;\n',
        depth, _child, value,
        coalesce(nullif(data.compile_checks(_s->'items', _child, format('%s || ''/'' || _i%s', pointer, depth), depth + 1, defs), ''),
        'null;'));
    elsif _s->'items' = 'false' then
      _out := _out || data.compile_check(format('jsonb_array_length(%s) > 0', value), pointer, 'must be empty');
    end if;
  elsif _kind = 'object' then
    _out := _out || data.compile_names(_s, value, pointer, _s->'additionalProperties' = 'false' and not _s ? 'patternProperties')
      || data.compile_properties(_s, value, pointer, depth, defs);
  end if;
  _out := _out || coalesce(data.compile_interpreted(_part, _s, value, pointer), '');
  if depth = 1 and (_kind in ('object', 'any') or _kind = 'array'
    and coalesce(data.kind(_s->'items'), 'object') in ('object', 'array', 'any')) then
    _out := _out || data.compile_check(data.number_is_extreme(value), pointer, 'holds a number beyond 1e309 or below 1e-400');
  end if;
  if _kind = 'any' then
    return _out;
  end if;
  return format(E'if %s then _e := _e || data.violation(%s, %L); %send if;\n', data.type_test(_kind, value), pointer,
    format('must be %s %s', case when _type ~ '^[aeiou]' then 'an' else 'a' end, _type),
    case when _out = '' then '' else E'else\n' || _out end);
end
$$;
comment on function data.compile_checks(jsonb, text, text, int, jsonb) is
  'PL/pgSQL that appends to _e every violation of schema by the jsonb variable value; pointer is an SQL expression, defs the entity''s $defs.';

create or replace function data.number_is_extreme(value text) returns text
language sql immutable set search_path = '' as $$
  select format('jsonb_path_exists(%s, ''$.** ? (@.type() == "number" && (@.abs() > 1e309 || @.abs() < 1e-400 && @ <> 0))'')', value)
$$;
comment on function data.number_is_extreme(text) is 'An SQL expression: value holds a number like 1e131071, whose ten bytes are 130 kB when read again.';

create or replace function data.compile_names(schema jsonb, value text, pointer text, closed boolean) returns text
language sql immutable set search_path = '' as $$
  with names (list) as (select array(select jsonb_object_keys(coalesce(schema->'properties', '{}'))))
  select case when closed
    then format(E'if %1$s - %2$L::text[] <> ''{}'' then for _k in select jsonb_object_keys(%1$s - %2$L::text[]) loop _e := _e || data.violation(%3$s || ''/'' || data.pointer_part(_k), %4$L); end loop; end if;\n',
      value, names.list, pointer, 'is not a property; known: ' || array_to_string(names.list, ', ')) else '' end
    || coalesce((select string_agg(data.compile_check(format('coalesce(%s->%L, ''null'') = ''null''', compile_names.value, r),
      format('%s || %L', pointer, '/' || data.pointer_part(r)), 'is required'), '')
      from jsonb_array_elements_text(schema->'required') r where r <> all (names.list)), '')
    || coalesce((select string_agg(data.compile_check(t.fails, format('%s || %L', pointer, '/' || data.pointer_part(t.name)), t.message),
      '') from data.dependency_tests(schema, value) t), '')
  from names
$$;
comment on function data.compile_names(jsonb, text, text, boolean) is 'PL/pgSQL that checks which names the object in the jsonb variable value has; closed: those of its properties alone.';

create or replace function data.dependency_tests(schema jsonb, value text) returns table (name text, fails text, message text)
language sql immutable set search_path = '' as $$
  select r, format('coalesce(%1$s->%2$L, ''null'') <> ''null'' and coalesce(%1$s->%3$L, ''null'') = ''null''', dependency_tests.value,
    d.key, r), format('is required when %s is there', left(d.key, 100))
  from jsonb_each(schema->'dependentRequired') d, jsonb_array_elements_text(d.value) r
$$;
comment on function data.dependency_tests(jsonb, text) is 'The tests that dependentRequired makes of the jsonb expression value, with the name that is missing.';

create or replace function data.compile_properties(schema jsonb, value text, pointer text, depth int, defs jsonb default null) returns text
language plpgsql immutable set search_path = '' as $$
declare
  _child text := '_v' || (depth + 1);
  _out text := '';
  _key text;
  _property jsonb;
  _at text;
begin
  for _key, _property in select * from jsonb_each(compile_properties.schema->'properties') loop
    _at := format('%s || %L', pointer, '/' || data.pointer_part(_key));
    _out := _out || format(E'%s := %s->%L;\nif %s is null or %s = ''null'' then %s\nelse %send if;\n',
      _child, value, _key, _child, _child,
      case when compile_properties.schema->'required' ? _key then format('_e := _e || data.violation(%s, ''is required'');', _at)
        else 'null;' end,
      coalesce(nullif(data.compile_checks(_property, _child, _at, depth + 1, defs), ''), E'null;\n'));
  end loop;
  return _out;
end
$$;
comment on function data.compile_properties(jsonb, text, text, int, jsonb) is 'PL/pgSQL that checks the properties of the object in the jsonb variable value.';
