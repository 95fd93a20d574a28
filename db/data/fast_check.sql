-- Most records are valid. One SQL expression that says so costs a fifth of the PL/pgSQL that says what is wrong (8 fields: 4 µs
-- against 26), so that is asked only when the expression does not hold. Both are made of the tests in validation.sql.

drop function if exists data.fast_scalar(jsonb, text, text), data.fast_check(jsonb, text, int), data.fit(jsonb, text, text[]);

create or replace function data.fit(schema jsonb, record text, path text[], defs jsonb) returns text
language plpgsql immutable set search_path = '' as $$
declare
  _s jsonb := fit.schema;
  _kind text := data.kind(_s);
  _items text := data.kind(_s->'items');
  _value text := case cardinality(path) when 1 then format('(%s->%L)', fit.record, path[1]) else format('(%s#>%L)', fit.record, path) end;
  _text text := case cardinality(path) when 1 then format('(%s->>%L)', fit.record, path[1]) else format('(%s#>>%L)', fit.record, path) end;
  _rest text := case when _kind is not null then data.fits_part(data.interpreted_part(_s, _kind, fit.defs), _s, _value, false) end;
  _parts text[];
begin
  if _rest is null then
    return null;
  elsif _kind = 'any' then
    return format('jsonb_typeof(%s) <> ''null'' and %s', _value,
      concat_ws(' and ', case when cardinality(path) = 1 then 'not ' || data.number_is_extreme(_value) end, _rest));
  end if;
  if _kind = 'decimal' then
    -- Writing a number costs 0.2 µs; with a precision its scale says enough.
    return format('case jsonb_typeof(%s) when ''number'' then %s and %s when ''string'' then not (%s) and %s when ''null'' then false end',
      _value,
      case when (_s->>'precision')::int <= 90 then format('scale(%s::numeric) < 900', _value) else format('length(%s) <= 1000', _text) end,
      data.all_pass(_s, _kind, _value, _text, _value || '::numeric'), data.type_test(_kind, _value),
      data.all_pass(_s, _kind, _value, _text, _text || '::numeric'))
      || case when _rest <> 'true' then ' and ' || _rest else '' end;
  end if;
  _parts := array[case when cardinality(path) > 1
    or data.type_path(_kind, '@') is null then format('not (%s)', data.type_test(_kind, _value)) end,
    data.all_pass(_s, _kind, _value, _text, _value || '::numeric'), _rest];
  if _kind = 'array' and _s ? 'items' and not _s ? 'prefixItems' then
    if coalesce(_items, '') not in ('string', 'boolean', 'uuid')
      or (_s->'items') - array['type', case _items when 'uuid' then 'format' end, 'title', 'description', 'examples', '$comment'] <> '{}'
      then
      return null;
    end if;
    -- strict, or a list in the list would be looked into.
    _parts := _parts || format('not jsonb_path_exists(%s, %L, silent => true)', _value, 'strict $[*] ? (' || case _items
      when 'uuid' then '@.type() != "string" || !(@ like_regex "^[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}$")'
      else format('@.type() != "%s"', _items) end || ')');
  elsif _kind in ('array', 'object') and cardinality(path) = 1 then
    _parts := _parts || format('not %s', data.number_is_extreme(_value));
  end if;
  if _kind = 'object' then
    _parts := _parts || data.fit_object(_s, _value, _s->'additionalProperties' = 'false')
      || array(select coalesce(data.fit(p.value, fit.record, path || p.key, fit.defs), 'false') from jsonb_each(_s->'properties') p);
  end if;
  _parts := array_remove(_parts, null);
  return case when not 'false' = any (_parts) then array_to_string(_parts, ' and ') end;
end
$$;
comment on function data.fit(jsonb, text, text[], jsonb) is
  'SQL that is false when the value at path of record (a jsonb expression) may not fit schema or is null, and null or true when it does; null where there is none.';

-- Seven types cost 0.7 µs asked by one path, 1.2 by jsonb_typeof. In strict mode a list is no text, and what is missing is unknown.
create or replace function data.type_path(kind text, value text) returns text
language sql immutable parallel safe set search_path = '' as $$
  select format(case
    when kind in ('string', 'email', 'uuid', 'date', 'date-time') then '%s starts with ""'
    when kind = 'boolean' then '%1$s == true || %1$s == false'
    when kind in ('integer', 'number') then '%1$s >= 0 || %1$s < 0' end, value)
$$;
comment on function data.type_path(text, text) is 'The jsonpath predicate (strict) that is true for values of a scalar kind, else false or unknown; null for other kinds.';

create or replace function data.fit_types(schema jsonb, record text) returns text
language sql immutable set search_path = '' as $$
  select format('(%s @@ %L) is true', record,
    'strict ' || string_agg(format('(%s || (exists(%s)) is unknown)', t, v), ' && ' order by p.key))
  from jsonb_each(schema->'properties') p, format('$.%s', to_json(p.key)) v, data.type_path(data.kind(p.value), v) t
  where t is not null
$$;
comment on function data.fit_types(jsonb, text) is
  'SQL that is true when the scalar properties of record (a jsonb expression) are missing or of their types, else false; null where there are none.';

create or replace function data.all_pass(schema jsonb, kind text, j text, t text, n text) returns text
language sql immutable set search_path = '' as $$
  select coalesce(string_agg(format('not (%s)', v.fails), ' and '), 'true') from data.value_tests(schema, kind, j, t, n) v
$$;
comment on function data.all_pass(jsonb, text, text, text, text) is 'SQL that is false when a value fails one of data.value_tests.';

create or replace function data.fit_object(schema jsonb, value text, closed boolean) returns text[]
language sql immutable set search_path = '' as $$
  select array_remove(array[
      case when schema->'required' <> '[]'
        then format('%s ?& %L::text[]', value, array(select jsonb_array_elements_text(schema->'required'))) end,
      case when closed then format('%s - %L::text[] = ''{}''', value,
        array(select jsonb_object_keys(coalesce(schema->'properties', '{}')))) end], null)
    || array(select format('not (%s)', t.fails) from data.dependency_tests(schema, value) t)
$$;
comment on function data.fit_object(jsonb, text, boolean) is 'What data.fit asks of the names of an object''s properties.';

create or replace function data.fast_check(schema jsonb, value text) returns text
language sql immutable set search_path = '' as $$
  select case when r.rest is not null and bool_and(f is not null)
    then format('(%s) is not false',
      array_to_string(data.fit_object(schema, fast_check.value, true) || data.fit_types(schema, fast_check.value)
      || array_agg(f order by p.key) || nullif(r.rest, 'true'), E'\n      and ')) end
  from data.fits_part(data.interpreted_part(schema, 'object', schema->'$defs'), schema, fast_check.value, true) r (rest),
    jsonb_each(schema->'properties') p, data.fit(p.value, fast_check.value, array[p.key], schema->'$defs') f
  group by r.rest
$$;
comment on function data.fast_check(jsonb, text) is
  'SQL that is true only for a record (jsonb expression value) in which nothing is wrong, and no property null; null for schemas of which it would not tell all.';

create or replace function data.compile_record(schema jsonb) returns text
language plpgsql immutable set search_path = '' as $$
declare
  _s jsonb := compile_record.schema;
  _fits text;
  _rest jsonb;
  _interpreted text := coalesce(data.compile_interpreted(data.interpreted_part(_s, 'object', _s->'$defs'), _s, '_v0', quote_literal('')),
    '') || data.compile_rules(_s, '_v0');
begin
  select array_to_string(data.fit_object(_s, '_v0', true) || data.fit_types(_s, '_v0')
    || array_agg(f order by p.key) filter (where f is not null), E'\n  and '),
    coalesce(jsonb_object_agg(p.key, p.value) filter (where f is null), '{}')
  into _fits, _rest
  from jsonb_each(_s->'properties') p, data.fit(p.value, '_v0', array[p.key], _s->'$defs') f;
  return format(E'if (%s) is not false then\n%s%sreturn _e;\nend if;\n%s%s', _fits,
    data.compile_properties(jsonb_build_object('properties', _rest), '_v0', quote_literal(''), 0, _s->'$defs'),
    _interpreted, data.compile_names(_s, '_v0', quote_literal(''), true)
      || data.compile_properties(_s, '_v0', quote_literal(''), 0, _s->'$defs'), _interpreted);
end
$$;
comment on function data.compile_record(jsonb) is 'PL/pgSQL that appends to _e every violation of an entity''s schema by the record in _v0.';
