-- Turns a schema into PL/pgSQL: checks compiled once per definition, so that a write interprets no schema.

create or replace function data.compile_check(test text, pointer text, message text) returns text
language sql immutable set search_path = '' as $$
  select format(E'if %s then _e := _e || data.violation(%s, %L); end if;\n', test, pointer, message)
$$;
comment on function data.compile_check(text, text, text) is 'PL/pgSQL that notes message at pointer (an SQL expression) when test is true.';

create or replace function data.compile_checks(schema jsonb, value text, pointer text, depth int) returns text
language plpgsql immutable set search_path = '' as $$
declare
  _s jsonb := compile_checks.schema;
  _kind text := data.kind(_s);
  _json_type text := case _kind
    when 'integer' then 'number' when 'number' then 'number' when 'boolean' then 'boolean'
    when 'array' then 'array' when 'object' then 'object' else 'string' end;
  _out text := '';
  _key text;
  _property jsonb;
  _child text := '_v' || (depth + 1);
begin
  if _kind in ('string', 'email', 'uuid', 'date', 'date-time') then
    _out := format(E'_t := %s #>> ''{}'';\n', value);
    if _s ? 'minLength' then
      _out := _out || data.compile_check(format('length(_t) < %s', _s->>'minLength'), pointer, format('must have at least %s characters', _s->>'minLength'));
    end if;
    if _s ? 'maxLength' then
      _out := _out || data.compile_check(format('length(_t) > %s', _s->>'maxLength'), pointer, format('must have at most %s characters', _s->>'maxLength'));
    end if;
    if _s ? 'pattern' then
      _out := _out || data.compile_check(format('_t !~ %L', _s->>'pattern'), pointer, format('must match %s', _s->>'pattern'));
    end if;
    if _s ? 'enum' then
      _out := _out || data.compile_check(format('not _t = any (%L::text[])', array(select jsonb_array_elements_text(_s->'enum'))),
        pointer, format('must be one of %s', (select string_agg(e, ', ') from jsonb_array_elements_text(_s->'enum') e)));
    end if;
    _out := _out || case _kind
      when 'email' then data.compile_check('_t !~ ''^[^@[:space:]]+@[^@[:space:]]+\.[^@[:space:].]+$'' or strpos(_t, ''@'') > 65 or length(_t) > 254', pointer, 'must be an email address')
      when 'uuid' then data.compile_check('_t !~ ''^[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}$''', pointer, 'must be a UUID')
      when 'date' then data.compile_check('_t !~ ''^\d{4}-\d{2}-\d{2}$'' or not pg_input_is_valid(_t, ''date'')', pointer, 'must be a date like 2026-01-31')
      when 'date-time' then data.compile_check('_t !~ ''^\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:\d{2})$'' or not pg_input_is_valid(_t, ''timestamptz'')', pointer, 'must be a date and time with offset like 2026-01-31T12:00:00Z')
      else '' end;
  elsif _kind in ('integer', 'number', 'decimal') then
    _out := format(E'_n := (%s #>> ''{}'')::numeric;\n', value);
    if _kind = 'integer' then
      _out := _out || data.compile_check('_n <> trunc(_n) or _n not between -9223372036854775808 and 9223372036854775807', pointer, 'must be a whole number of at most 64 bits');
    elsif _kind = 'number' then
      _out := _out || data.compile_check('abs(_n) > 1.7e308', pointer, 'is too large');
    elsif _s ? 'precision' then
      _out := _out || data.compile_check(
        format('scale(trim_scale(_n)) > %s or abs(_n) >= 10::numeric ^ %s', coalesce(_s->>'scale', '0'), (_s->>'precision')::int - coalesce((_s->>'scale')::int, 0)),
        pointer, format('must have at most %s digits, %s of them after the point', _s->>'precision', coalesce(_s->>'scale', '0')));
    end if;
    for _key, _property in select * from jsonb_each(_s) where key in ('minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum') loop
      _out := _out || data.compile_check(format('_n %s %L::numeric', case _key
          when 'minimum' then '<' when 'maximum' then '>' when 'exclusiveMinimum' then '<=' else '>=' end, _property #>> '{}'),
        pointer, format('must be %s %s', case _key
          when 'minimum' then 'at least' when 'maximum' then 'at most' when 'exclusiveMinimum' then 'more than' else 'less than' end, _property #>> '{}'));
    end loop;
    if _kind = 'decimal' then
      return format(E'if jsonb_typeof(%1$s) not in (''number'', ''string'') or (%1$s #>> ''{}'') !~ ''^-?[0-9]+(\\.[0-9]+)?$'' or length(%1$s #>> ''{}'') > 1000 then _e := _e || data.violation(%2$s, ''must be a decimal number''); else\n%3$send if;\n',
        value, pointer, _out);
    end if;
  elsif _kind = 'array' then
    if _s ? 'minItems' then
      _out := _out || data.compile_check(format('jsonb_array_length(%s) < %s', value, _s->>'minItems'), pointer, format('must have at least %s items', _s->>'minItems'));
    end if;
    if _s ? 'maxItems' then
      _out := _out || data.compile_check(format('jsonb_array_length(%s) > %s', value, _s->>'maxItems'), pointer, format('must have at most %s items', _s->>'maxItems'));
    end if;
    if _s ? 'items' then
      _out := _out || format(E'for _i%1$s, %2$s in select ordinality - 1, a.value from jsonb_array_elements(%3$s) with ordinality a loop\n%4$send loop;\n',
        depth, _child, value, data.compile_checks(_s->'items', _child, format('%s || ''/'' || _i%s', pointer, depth), depth + 1));
    end if;
  elsif _kind = 'object' then
    _out := data.compile_properties(_s, value, pointer, depth);
  end if;
  -- Ten bytes like 1e131071 are 130 kB when read again.
  if depth = 1 and (_kind = 'object' or _kind = 'array' and coalesce(data.kind(_s->'items'), 'object') in ('object', 'array')) then
    _out := _out || data.compile_check(
      format('jsonb_path_exists(%s, ''$.** ? (@.type() == "number" && (@.abs() > 1e309 || @.abs() < 1e-400 && @ <> 0))'')', value),
      pointer, 'holds a number beyond 1e309 or below 1e-400');
  end if;
  return format(E'if jsonb_typeof(%s) <> %L then _e := _e || data.violation(%s, %L); else\n%send if;\n',
    value, _json_type, pointer, format('must be %s %s', case when _json_type ~ '^[aeiou]' then 'an' else 'a' end, _json_type), _out);
end
$$;
comment on function data.compile_checks(jsonb, text, text, int) is
  'PL/pgSQL that appends to _e every violation of schema by the jsonb variable value; pointer is an SQL expression.';

create or replace function data.compile_properties(schema jsonb, value text, pointer text, depth int) returns text
language plpgsql immutable set search_path = '' as $$
declare
  _names text[] := array(select jsonb_object_keys(coalesce(compile_properties.schema->'properties', '{}')));
  _child text := '_v' || (depth + 1);
  _out text := '';
  _key text;
  _property jsonb;
  _at text;
begin
  if depth = 0 or compile_properties.schema->'additionalProperties' = 'false' then
    _out := format(E'if %1$s - %2$L::text[] <> ''{}'' then for _k in select jsonb_object_keys(%1$s - %2$L::text[]) loop _e := _e || data.violation(%3$s || ''/'' || _k, %4$L); end loop; end if;\n',
      value, _names, pointer, 'is not a property; known: ' || array_to_string(_names, ', '));
  end if;
  for _key, _property in select * from jsonb_each(coalesce(compile_properties.schema->'properties', '{}')) loop
    _at := format('%s || %L', pointer, '/' || replace(replace(_key, '~', '~0'), '/', '~1'));
    _out := _out || format(E'%s := %s->%L;\nif %s is null or %s = ''null'' then %s\nelse %send if;\n',
      _child, value, _key, _child, _child,
      case when coalesce(compile_properties.schema->'required', '[]') ? _key
        then format('_e := _e || data.violation(%s, ''is required'');', _at) else 'null;' end,
      data.compile_checks(_property, _child, _at, depth + 1));
  end loop;
  return _out;
end
$$;
comment on function data.compile_properties(jsonb, text, text, int) is 'PL/pgSQL that checks the properties of the object in the jsonb variable value.';
