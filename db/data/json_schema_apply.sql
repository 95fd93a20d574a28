-- Applies a JSON Schema that data.read_schema prepared to a value: an interpreter, for what is not compiled.
-- _c: the prepared schema. _base, _scope: where relative and dynamic references lead. After 100 problems it stops looking.

create or replace function data.apply_schema(
  _c jsonb, _s jsonb, _v jsonb, _at text, _base text, _scope jsonb, _depth int, out e jsonb, out props text[], out items int,
  out extra int[]
)
language plpgsql immutable parallel safe as $$
declare
  _type text := jsonb_typeof(_v);
  _r record;
begin
  e := '[]';
  if jsonb_typeof(_s) = 'boolean' then
    if not _s::boolean then
      e := data.violation(_at, 'is not allowed');
    end if;
    return;
  elsif _depth > 100 then
    perform rowhouse.fail(400, format('The value is nested too deeply to be validated at %s', left(_at, 120)),
      'A schema applies at most 100 levels deep: properties, items, references and combinations each count as one.', 'nested_too_deeply');
  end if;
  if _s ? '$id' then
    _base := _c #>> array['ids', _base, _s->>'$id'];
    _scope := coalesce(_c #> array['dynamic', _base], '{}') || _scope;
  end if;
  if _s ? 'type' and not (_s->'type' @> to_jsonb(_type)
    or _type = 'number' and _s->'type' @> '"integer"' and _v::numeric = trunc(_v::numeric))
  then
    e := data.violation(_at, 'must be of type ' || case jsonb_typeof(_s->'type') when 'string' then _s->>'type'
      else (select string_agg(t, ' or ') from jsonb_array_elements_text(_s->'type') t) end);
    return;
  end if;
  if _s ? 'const' and _s->'const' <> _v then
    e := e || data.violation(_at, 'must be ' || left((_s->'const')::text, 200));
  end if;
  if _s ? 'enum' and not exists (select from jsonb_array_elements(_s->'enum') a where a = _v) then
    e := e || data.violation(_at,
      'must be one of ' || left((select string_agg(a::text, ', ') from jsonb_array_elements(_s->'enum') a), 400));
  end if;
  if _type = 'string' then
    e := e || data.string_violations(_c, _s, _v #>> '{}', _at);
  elsif _type = 'number' then
    e := e || data.number_violations(_s, _v::numeric, _at);
  elsif _type = 'object' then
    _r := data.apply_to_object(_c, _s, _v, _at, _base, _scope, _depth + 1);
    e := e || _r.e;
    props := _r.props;
  elsif _type = 'array' then
    _r := data.apply_to_array(_c, _s, _v, _at, _base, _scope, _depth + 1);
    e := e || _r.e;
    items := _r.items;
    extra := _r.extra;
  end if;
  if _s ?| array['$ref', '$dynamicRef', 'allOf', 'anyOf', 'oneOf', 'not', 'if', 'dependentSchemas'] then
    _r := data.apply_combinations(_c, _s, _v, _at, _base, _scope, _depth);
    e := e || _r.e;
    props := props || _r.props;
    items := greatest(items, _r.items);
    extra := extra || _r.extra;
  end if;
  if e = '[]' and _s ?| array['unevaluatedProperties', 'unevaluatedItems'] then
    if _type = 'object' and _s ? 'unevaluatedProperties' then
      e := data.apply_to_rest(_c, _s->'unevaluatedProperties', _at, _base, _scope, _depth,
        array(select k.key from jsonb_each(_v) k where props is null or k.key <> all (props)), _v);
      props := array(select jsonb_object_keys(_v));
    elsif _type = 'array' and _s ? 'unevaluatedItems' then
      e := data.apply_to_rest(_c, _s->'unevaluatedItems', _at, _base, _scope, _depth,
        array(select n::text from generate_series(coalesce(items, 0), jsonb_array_length(_v) - 1) n
          where extra is null or n <> all (extra)), _v);
      items := jsonb_array_length(_v);
    end if;
  end if;
end
$$;
comment on function data.apply_schema(jsonb, jsonb, jsonb, text, text, jsonb, int) is
  'Applies a schema to a value: what is wrong (e), and which properties and items were evaluated.';

create or replace function data.apply_to_rest(_c jsonb, _s jsonb, _at text, _base text, _scope jsonb, _depth int, _names text[], _v jsonb)
  returns jsonb
language plpgsql immutable parallel safe as $$
declare
  _e jsonb := '[]';
  _name text;
begin
  foreach _name in array _names loop
    _e := _e || (data.apply_schema(_c, _s, _v #> array[_name], _at || '/' || data.pointer_part(_name), _base, _scope, _depth + 1)).e;
    exit when jsonb_array_length(_e) >= 100;
  end loop;
  return _e;
end
$$;
comment on function data.apply_to_rest(jsonb, jsonb, text, text, jsonb, int, text[], jsonb) is 'Applies a schema to what no other schema has evaluated.';

create or replace function data.apply_reference(_c jsonb, _ref text, _v jsonb, _at text, _base text, _scope jsonb, _depth int, out r record)
language plpgsql immutable parallel safe as $$
declare
  _target jsonb := _c #> array['refs', _base, _ref];
  _s jsonb;
begin
  if _target ? 'anchor' then
    _target := coalesce(_scope->(_target->>'anchor'), _target);
  end if;
  _s := _c #> array(select jsonb_array_elements_text(_target->'path'));
  if _c ? 'dynamic' and not _s ? '$id' then
    _scope := coalesce(_c #> array['dynamic', _target->>'base'], '{}') || _scope;
  end if;
  r := data.apply_schema(_c, _s, _v, _at, _target->>'base', _scope, _depth + 1);
end
$$;
comment on function data.apply_reference(jsonb, text, jsonb, text, text, jsonb, int) is 'Applies the schema that "$ref uri" or "$dynamicRef uri" leads to.';

create or replace function data.apply_combinations(
  _c jsonb, _s jsonb, _v jsonb, _at text, _base text, _scope jsonb, _depth int, out e jsonb, out props text[], out items int,
  out extra int[]
)
language plpgsql immutable parallel safe as $$
declare
  _r record;
  _key text;
  _part jsonb;
  _fits int;
  _said text[];
begin
  e := '[]';
  foreach _key in array array['$ref', '$dynamicRef'] loop
    continue when not _s ? _key;
    _r := data.apply_reference(_c, _key || ' ' || (_s->>_key), _v, _at, _base, _scope, _depth);
    e := e || _r.e;
    props := props || _r.props;
    items := greatest(items, _r.items);
    extra := extra || _r.extra;
  end loop;
  for _part in
    select a from jsonb_array_elements(_s->'allOf') a
    union all
    select d.value from jsonb_each(case jsonb_typeof(_v) when 'object' then _s->'dependentSchemas' end) d where _v ? d.key
  loop
    _r := data.apply_schema(_c, _part, _v, _at, _base, _scope, _depth + 1);
    e := e || _r.e;
    props := props || _r.props;
    items := greatest(items, _r.items);
    extra := extra || _r.extra;
  end loop;
  foreach _key in array array['anyOf', 'oneOf'] loop
    continue when not _s ? _key;
    _fits := 0;
    _said := '{}';
    for _part in select a from jsonb_array_elements(_s->_key) a loop
      _r := data.apply_schema(_c, _part, _v, _at, _base, _scope, _depth + 1);
      if _r.e = '[]' then
        _fits := _fits + 1;
        props := props || _r.props;
        items := greatest(items, _r.items);
        extra := extra || _r.extra;
        exit when _fits > 1 and _key = 'oneOf' or _key = 'anyOf' and not _c ? 'track';
      else
        _said := _said || concat_ws(' ', nullif(substr(_r.e #>> '{0,pointer}', length(_at) + 1), ''), _r.e #>> '{0,message}');
      end if;
    end loop;
    if _fits = 0 then
      e := e || data.violation(_at,
        format('must fit one of %s schemas (%s): %s', jsonb_array_length(_s->_key), _key, left(array_to_string(_said[:3], '; or '), 300)));
    elsif _fits > 1 and _key = 'oneOf' then
      e := e || data.violation(_at, format('must fit only one of %s schemas (oneOf)', jsonb_array_length(_s->_key)));
    end if;
  end loop;
  if _s ? 'not' and (data.apply_schema(_c, _s->'not', _v, _at, _base, _scope, _depth + 1)).e = '[]' then
    e := e || data.violation(_at, 'must not fit ' || left((_s->'not')::text, 200));
  end if;
  if _s ? 'if' and (_s ?| array['then', 'else'] or _c ? 'track') then
    _r := data.apply_schema(_c, _s->'if', _v, _at, _base, _scope, _depth + 1);
    _part := _s->case when _r.e = '[]' then 'then' else 'else' end;
    if _r.e = '[]' then
      props := props || _r.props;
      items := greatest(items, _r.items);
      extra := extra || _r.extra;
    end if;
    if _part is not null then
      _r := data.apply_schema(_c, _part, _v, _at, _base, _scope, _depth + 1);
      e := e || _r.e;
      props := props || _r.props;
      items := greatest(items, _r.items);
      extra := extra || _r.extra;
    end if;
  end if;
end
$$;
comment on function data.apply_combinations(jsonb, jsonb, jsonb, text, text, jsonb, int) is
  'Applies the schemas that a schema combines for the same value: $ref, allOf, anyOf, oneOf, not, if, dependentSchemas.';
