-- A decimal may be sent as text, so that no JSON parser on the way rounds it. The interpreter of JSON Schema wants a number.

create or replace function data.decimals_of(schema jsonb) returns jsonb
language plpgsql immutable parallel safe set search_path = '' as $$
declare
  _out jsonb;
begin
  if data.kind(schema) = 'decimal' then
    return 'true';
  elsif jsonb_typeof(schema->'items') = 'object' then
    _out := data.decimals_of(schema->'items');
    return case when _out is not null then jsonb_build_object('items', _out) end;
  elsif jsonb_typeof(schema->'properties') = 'object' then
    select jsonb_build_object('properties', jsonb_object_agg(p.key, d)) into _out
    from jsonb_each(schema->'properties') p, data.decimals_of(p.value) d where d is not null having count(*) > 0;
    return _out;
  end if;
  return null;
end
$$;
comment on function data.decimals_of(jsonb) is 'Where values of a schema are decimals: true, {"items": …} or {"properties": {name: …}}; null for nowhere.';

create or replace function data.exact_decimals(value jsonb, decimals jsonb) returns jsonb
language plpgsql immutable parallel safe set search_path = '' as $$
begin
  return case
    when decimals is null then value
    when decimals = 'true'
      then case when jsonb_typeof(value) = 'string' and length(value #>> '{}') <= 1000
      and value #>> '{}' ~ '^-?[0-9]+(\.[0-9]+)?$' then to_jsonb((value #>> '{}')::numeric) else value end
    when decimals ? 'items' and jsonb_typeof(value) = 'array' then
      (select coalesce(jsonb_agg(data.exact_decimals(i, decimals->'items') order by n), '[]')
        from jsonb_array_elements(value) with ordinality x (i, n))
    when decimals ? 'properties' and jsonb_typeof(value) = 'object' then
      value || (select coalesce(jsonb_object_agg(k.key, data.exact_decimals(k.value, decimals->'properties'->k.key)), '{}')
        from jsonb_each(value) k where decimals->'properties' ? k.key)
    else value end;
end
$$;
comment on function data.exact_decimals(jsonb, jsonb) is 'A value with the decimals that are texts (data.decimals_of its schema) as numbers.';
