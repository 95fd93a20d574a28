-- The keywords of JSON Schema for one type of value. Part of the interpreter in json_schema_apply.sql.

create or replace function data.string_violations(_c jsonb, _s jsonb, _v text, _at text) returns jsonb
language plpgsql immutable parallel safe as $$
declare
  _e jsonb := '[]';
  _problem text;
begin
  if length(_v) < (_s->'minLength')::numeric then
    _e := _e || data.violation(_at, format('must have at least %s characters', _s->>'minLength'));
  end if;
  if length(_v) > (_s->'maxLength')::numeric then
    _e := _e || data.violation(_at, format('must have at most %s characters', _s->>'maxLength'));
  end if;
  if _s ? 'pattern' and not _v ~ (_c #>> array['patterns', _s->>'pattern']) then
    _e := _e || data.violation(_at, format('must match %s', _s->>'pattern'));
  end if;
  if _c ? 'formats' and _s ? 'format' then
    _problem := data.format_problem(_s->>'format', _v);
    if _problem is not null then
      _e := _e || data.violation(_at, _problem);
    end if;
  end if;
  return _e;
end
$$;
comment on function data.string_violations(jsonb, jsonb, text, text) is 'What is wrong with a text: minLength, maxLength, pattern, and format where formats are asserted.';

create or replace function data.number_violations(_s jsonb, _v numeric, _at text) returns jsonb
language sql immutable parallel safe as $$
  select case when _s ?| array['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum', 'multipleOf'] then
    (select coalesce(jsonb_agg(jsonb_build_object('pointer', _at, 'message', x.message)), '[]') from (values
      (_v < (_s->'minimum')::numeric, 'must be at least ' || (_s->>'minimum')),
      (_v > (_s->'maximum')::numeric, 'must be at most ' || (_s->>'maximum')),
      (_v <= (_s->'exclusiveMinimum')::numeric, 'must be more than ' || (_s->>'exclusiveMinimum')),
      (_v >= (_s->'exclusiveMaximum')::numeric, 'must be less than ' || (_s->>'exclusiveMaximum')),
      (mod(_v, (_s->'multipleOf')::numeric) <> 0, 'must be a multiple of ' || (_s->>'multipleOf'))) x (fails, message) where x.fails)
    else '[]' end
$$;
comment on function data.number_violations(jsonb, numeric, text) is 'What is wrong with a number: its bounds, and multipleOf.';

create or replace function data.apply_to_object(
  _c jsonb, _s jsonb, _v jsonb, _at text, _base text, _scope jsonb, _depth int, out e jsonb, out props text[]
)
language plpgsql immutable parallel safe as $$
declare
  _key text;
  _value jsonb;
  _pattern text;
  _part jsonb;
  _is_known boolean;
  _place text;
  _count int;
begin
  e := '[]';
  if _s ? 'required' then
    e := e || coalesce((select jsonb_agg(jsonb_build_object('pointer', _at || '/' || data.pointer_part(r), 'message', 'is required'))
      from jsonb_array_elements_text(_s->'required') r where not _v ? r), '[]');
  end if;
  if _s ? 'dependentRequired' then
    e := e || coalesce((select jsonb_agg(jsonb_build_object('pointer', _at || '/' || data.pointer_part(r),
      'message', format('is required when %s is there', left(d.key, 100))))
      from jsonb_each(_s->'dependentRequired') d, jsonb_array_elements_text(d.value) r where _v ? d.key and not _v ? r), '[]');
  end if;
  if _s ?| array['minProperties', 'maxProperties'] then
    _count := (select count(*) from jsonb_object_keys(_v));
    if _count < (_s->'minProperties')::numeric then
      e := e || data.violation(_at, format('must have at least %s properties', _s->>'minProperties'));
    elsif _count > (_s->'maxProperties')::numeric then
      e := e || data.violation(_at, format('must have at most %s properties', _s->>'maxProperties'));
    end if;
  end if;
  if not _s ?| array['properties', 'patternProperties', 'additionalProperties', 'propertyNames'] then
    return;
  end if;
  for _key, _value in select * from jsonb_each(_v) loop
    _place := _at || '/' || data.pointer_part(_key);
    _part := _s->'properties'->_key;
    _is_known := _part is not null;
    if _is_known then
      e := e || (data.apply_schema(_c, _part, _value, _place, _base, _scope, _depth)).e;
    end if;
    if _s ? 'patternProperties' then
      for _pattern, _part in select * from jsonb_each(_s->'patternProperties') loop
        if _key ~ (_c #>> array['patterns', _pattern]) then
          _is_known := true;
          e := e || (data.apply_schema(_c, _part, _value, _place, _base, _scope, _depth)).e;
        end if;
      end loop;
    end if;
    if not _is_known and _s ? 'additionalProperties' then
      if _s->'additionalProperties' = 'false' then
        e := e || data.violation(_place, 'is not a property'
          || coalesce('; known: ' || left((select string_agg(k, ', ') from jsonb_object_keys(_s->'properties') k), 400), ''));
      else
        e := e || (data.apply_schema(_c, _s->'additionalProperties', _value, _place, _base, _scope, _depth)).e;
      end if;
      _is_known := true;
    end if;
    if _s ? 'propertyNames' then
      e := e || coalesce((select jsonb_agg(jsonb_build_object('pointer', _place, 'message', 'has a name that ' || (x->>'message')))
        from jsonb_array_elements((data.apply_schema(_c, _s->'propertyNames', to_jsonb(_key), '', _base, _scope, _depth)).e) x), '[]');
    end if;
    if _is_known and _c ? 'track' then
      props := props || _key;
    end if;
    exit when jsonb_array_length(e) >= 100;
  end loop;
end
$$;
comment on function data.apply_to_object(jsonb, jsonb, jsonb, text, text, jsonb, int) is 'Applies the keywords for objects: what is wrong (e), and which properties were evaluated.';

create or replace function data.apply_to_array(
  _c jsonb, _s jsonb, _v jsonb, _at text, _base text, _scope jsonb, _depth int, out e jsonb, out items int, out extra int[]
)
language plpgsql immutable parallel safe as $$
declare
  _length int := jsonb_array_length(_v);
  _first int := jsonb_array_length(coalesce(_s->'prefixItems', '[]'));
  _found int := 0;
  _n int;
  _value jsonb;
begin
  e := '[]';
  if _length < (_s->'minItems')::numeric then
    e := e || data.violation(_at, format('must have at least %s items', _s->>'minItems'));
  end if;
  if _length > (_s->'maxItems')::numeric then
    e := e || data.violation(_at, format('must have at most %s items', _s->>'maxItems'));
  end if;
  if _s->'uniqueItems' = 'true' and _length > (select count(distinct i) from jsonb_array_elements(_v) i) then
    e := e || data.violation(_at, 'must not have the same item twice');
  end if;
  if not _s ?| array['prefixItems', 'items', 'contains'] then
    return;
  end if;
  for _value, _n in select i.value, i.n - 1 from jsonb_array_elements(_v) with ordinality i (value, n) loop
    if _n < _first then
      e := e || (data.apply_schema(_c, _s #> array['prefixItems', _n::text], _value, _at || '/' || _n, _base, _scope, _depth)).e;
    elsif _s ? 'items' then
      e := e || (data.apply_schema(_c, _s->'items', _value, _at || '/' || _n, _base, _scope, _depth)).e;
    end if;
    if _s ? 'contains' and (data.apply_schema(_c, _s->'contains', _value, _at, _base, _scope, _depth)).e = '[]' then
      _found := _found + 1;
      extra := extra || _n;
    end if;
    exit when jsonb_array_length(e) >= 100;
  end loop;
  if _s ? 'contains' and e = '[]' then
    if _found < coalesce((_s->'minContains')::numeric, 1) then
      e := data.violation(_at,
        format('must have at least %s items that fit %s', coalesce(_s->>'minContains', '1'), left((_s->'contains')::text, 200)));
    elsif _found > (_s->'maxContains')::numeric then
      e := data.violation(_at, format('must have at most %s items that fit %s', _s->>'maxContains', left((_s->'contains')::text, 200)));
    end if;
  end if;
  items := case when _s ? 'items' then _length else least(_first, _length) end;
end
$$;
comment on function data.apply_to_array(jsonb, jsonb, jsonb, text, text, jsonb, int) is 'Applies the keywords for arrays: what is wrong (e), and which items were evaluated.';
