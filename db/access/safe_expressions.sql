-- Which computed fields no values can make impossible. Where some could, whether a change is accepted tells of every field that the
-- expression reads: the length of a text beyond 1,000,000 characters, the size of a number beyond 64 bits.

create or replace function access.field_bound(property jsonb, path text[]) returns numeric
language sql immutable parallel safe set search_path = '' as $$
  select case
    when k in ('string', 'email') then case when (p->>'maxLength')::numeric <= 100000 then (p->>'maxLength')::numeric end
    when k in ('integer', 'number') and p ?& array['minimum', 'maximum']
      then greatest(abs((p->>'minimum')::numeric), abs((p->>'maximum')::numeric))
    when k = 'integer' then 9223372036854775807
    when k = 'number' then 1.7e308
    when k = 'decimal'
      then case when p ? 'precision' then 10::numeric ^ ((p->>'precision')::int - coalesce((p->>'scale')::int, 0)) else 1e1000 end
    when k in ('date', 'date-time') then 10000000 -- days between two
    else 40 end
  from (select field_bound.property #> array(select s from unnest(path) n, unnest(array['properties', n]) s)) f (p), data.kind(p) k
$$;
comment on function access.field_bound(jsonb, text[]) is
  'The most characters or the largest amount that a property, or what a path leads to within it, may have; null for a text without a '
  'maxLength.';

-- A text without a maxLength is open, and counts as one of 100 characters.
create or replace function access.expression_bound(schema jsonb, tree jsonb, out is_safe boolean, out bound numeric, out is_open boolean,
  out longest numeric)
language plpgsql immutable set search_path = '' as $$
declare
  _name text := coalesce(tree->>'operator', tree->>'function');
  _property jsonb := expression_bound.schema->'properties'->(tree #>> '{field,0}');
  _part record;
  _bounds numeric[] := '{}';
begin
  is_safe := true;
  is_open := false;
  longest := 0;
  if tree ? 'literal' then
    bound := case when tree->>'type' in ('integer', 'number', 'decimal') then abs((tree->>'literal')::numeric)
      else coalesce(length(tree->>'literal'), 0) end;
    return;
  elsif _property ? 'x-computed' and data.is_virtual(_property) then -- stands for its expression; a stored one for itself
    select b.* into is_safe, bound, is_open, longest
    from access.expression_bound(expression_bound.schema, data.parse_expression(data.computed_expression(_property))) b;
    return;
  elsif tree ? 'field' then
    bound := access.field_bound(_property, array(select jsonb_array_elements_text((tree->'field') - 0)));
    is_open := bound is null;
    bound := coalesce(bound, 100);
    return;
  end if;
  for _part in
    select b.* from jsonb_array_elements(tree->'arguments') with ordinality a (value, n),
      access.expression_bound(expression_bound.schema, a.value) b order by a.n
  loop
    is_safe := is_safe and _part.is_safe;
    is_open := is_open or _part.is_open;
    longest := greatest(longest, _part.longest);
    _bounds := _bounds || _part.bound;
  end loop;
  bound := case
    when _name in ('=', '!=', '<', '<=', '>', '>=', 'in', 'between', 'is null', 'is not null', 'and', 'or', 'not', 'like', 'ilike') then 5
    when _name in ('length', 'now', 'today', 'year', 'month', 'day', 'date_add', 'date_diff') then 1e12
    when _name in ('if', 'coalesce', 'least', 'greatest', 'min', 'max') then (select max(b) from unnest(_bounds) b)
    when _name in ('||', 'concat')
      then (select sum(case when b <= 1e6 then b else 0 end + 1100) from unnest(_bounds) b) -- a number has fewer digits
    when _name in ('+', '-') then (select sum(b) from unnest(_bounds) b)
    when _name in ('lower', 'upper') then 3 * _bounds[1] -- one letter may become three
    when _name = 'trim' then _bounds[1]
    when _name in ('negate', 'abs') or _name in ('round', 'floor', 'ceil') and cardinality(_bounds) = 1 then _bounds[1] + 1
    when _name = '/' and _bounds[1] <= 1e500 then _bounds[1] * 1e400 -- JSON holds nothing smaller
    when _name = '*' and (select sum(log(greatest(b, 1))) from unnest(_bounds) b) < 1000
      then (select exp(sum(ln(greatest(b, 1)))) * 1.001 from unnest(_bounds) b) end;
  is_safe := is_safe and coalesce(bound <= case when _name in ('||', 'concat', 'lower', 'upper') then 1e6
    when _name in ('+', '-') and cardinality(_bounds) > 2 then 9223372036854775807 -- what moves a date is added up in 64 bits
    else 1e1000 end, false);
  if _name in ('||', 'concat') and is_open then
    longest := greatest(longest, bound);
  end if;
  is_open := is_open and bound not in (5, 1e12);
end
$$;
comment on function access.expression_bound(jsonb, jsonb) is
  'Of a syntax tree over the fields of a schema: whether no values make it impossible, as far as that is known and while texts without '
  'a maxLength have 100 characters (is_safe); the most characters or the largest amount that it gives (bound), whether that is such a '
  'text (is_open), and the longest that such texts are joined to (longest, 0 for none).';

create or replace function access.computed_limit(schema jsonb, property jsonb) returns int
language plpgsql immutable set search_path = '' as $$
declare
  _kind text := data.kind(property);
  _tree jsonb := data.parse_expression(data.computed_expression(property));
  _b record := access.expression_bound(computed_limit.schema, _tree);
begin
  -- Of ids and addresses it is known only of copies; what else is said of the property is a test of its value.
  if not _b.is_safe or _kind not in ('string', 'boolean', 'integer', 'number', 'date', 'date-time', 'decimal') and not _tree ? 'field'
    or _kind = 'integer' and _b.bound > 9223372036854775807 or _kind = 'number' and _b.bound > 1.7e308
    or _kind = 'decimal' and not data.is_virtual(property)
    or property - (case when _kind in ('date', 'date-time', 'decimal') then 'format' else '' end)
      - '{type,title,description,examples,deprecated,readOnly,$comment,x-computed,x-index,x-unique,x-pii,x-mask,x-renamed-from}'::text[]
      <> '{}'
  then
    return 0;
  elsif _kind = 'string' and property->'x-index' = 'true' and (_b.is_open or _b.bound > 600) then
    return 100; -- an entry of an index has at most 2,704 bytes
  end if;
  return case when _b.longest > 0 then 12000000 / _b.longest end;
end
$$;
comment on function access.computed_limit(jsonb, jsonb) is
  'How long the texts may be together from which a computed property of a schema is computed, for the others to be no matter: 0 where '
  'they always are, null where it can be computed whatever its fields hold.';
