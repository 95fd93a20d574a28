-- Conditions that differ only in their values are asked as one: 33 roles that each see another region are one comparison with the
-- regions of the roles that are held. A list of 20 under 66 conditions spent 200 µs on them, and 25 so.

create or replace function access.shape(sql text, out shape text, out literals text[])
language sql immutable parallel safe set search_path = '' as $$
  -- What %L and %I wrote is told apart; within a subquery a value stays, so that it is computed once per statement.
  select case when x.stays then shape.sql
      else string_agg(case when p.type is null then p.text else E'\x01' || p.type end, '' order by p.n) end,
    case when x.stays then '{}' else coalesce(array_agg(p.text order by p.n) filter (where p.type is not null), '{}') end
  from (select shape.sql ~ '\mselect\M|[\x01\x02]' as stays) x, (
    select r.n, case when r.m[1] ~ '^E?''' then r.m[1] else concat(r.m[1], r.m[2]) end as text,
      case when r.m[1] ~ '^E?''' then r.m[2] end as type
    from regexp_matches(shape.sql,
      $re$("(?:[^"]|"")*"|E?'(?:[^']|'')*'|[^"'E]+|E)(::(?:text|int8|float8|numeric|date|timestamptz|uuid|boolean)(?![[\w]))?$re$,
      'g') with ordinality r (m, n)
  ) p
  group by x.stays
$$;
comment on function access.shape(text) is
  'The SQL of a condition with a mark (a character 1) for each quoted value of a scalar type, and these values as SQL.';

create or replace function access.fill_shape(shape text, fillers text[]) returns text
language sql immutable parallel safe set search_path = '' as $$
  -- Without values there are no marks, whatever characters are in it.
  select case when coalesce(cardinality(fill_shape.fillers), 0) = 0 then fill_shape.shape
    else string_agg(p.text || coalesce(fill_shape.fillers[p.n], ''), '' order by p.n) end
  from unnest(string_to_array(fill_shape.shape, E'\x01')) with ordinality p (text, n)
$$;
comment on function access.fill_shape(text, text[]) is 'The SQL of a condition: a shape with values, or other SQL, at its marks.';

-- A list in place of a value: of rows, one comparison with a list is 0.6 µs, where a subquery over the list is 1.4 and more.
-- That the condition is true for some value is that the comparison is, or, within one "not" or "is not true", that it is for all.
create or replace function access.any_of(shape text, list text) returns text
language plpgsql immutable parallel safe set search_path = '' as $$
declare
  _mark int := strpos(shape, E'\x02');
  _around int[] := access.parentheses(shape, _mark);
  _m text[] := regexp_match(substr(shape, _around[1] + 1, _around[2] - _around[1] - 1), '^(.+) (=|<|>|<=|>=) \x02::\w+$');
  _before text;
  _after text;
  _first int[] := _around;
  _negated boolean := false;
begin
  -- What stands left of the operator is one operand: nothing in it binds weaker than a comparison.
  if regexp_replace(shape, '''[\w{},]*''', '', 'g') ~ '["'']' or _m is null or _m[1] ~* '\m(and|or|not|is|in|like|ilike|between|case)\M'
  then
    return null;
  end if;
  while _around is not null loop
    _before := left(shape, _around[1] - 1);
    _after := substr(shape, _around[2] + 1);
    if _after like ' is not true%' then
      _negated := not _negated;
      _after := substr(_after, 13);
    end if;
    if _before like '%(not ' then
      _negated := not _negated;
      _before := left(_before, -4);
    end if;
    if _before !~ '(^|\(| and | or )$' or _after !~ '^($|\)| and | or )' then
      return null;
    end if;
    _around := access.parentheses(shape, _around[1]);
  end loop;
  return overlay(shape placing format('((%s) %s %s (%s))', _m[1], _m[2], case when _negated then 'all' else 'any' end, any_of.list)
    from _first[1] for _first[2] - _first[1] + 1);
end
$$;
comment on function access.any_of(text, text) is
  'Whether the condition of a shape, with a character 2 for the value, is true for one of a list that is not empty, without a subquery; null where it cannot be said so.';

create or replace function access.parentheses(sql text, place int, out around int[])
language plpgsql immutable parallel safe set search_path = '' as $$
declare
  _depth int := 0;
  _char text;
begin
  for _from in reverse place - 1 .. 1 loop
    _char := substr(sql, _from, 1);
    _depth := _depth + case _char when ')' then 1 when '(' then -1 else 0 end;
    if _depth < 0 then
      _depth := 0;
      for _to in place .. length(sql) loop
        _char := substr(sql, _to, 1);
        _depth := _depth + case _char when '(' then 1 when ')' then -1 else 0 end;
        if _depth < 0 then
          around := array[_from, _to];
          return;
        end if;
      end loop;
    end if;
  end loop;
end
$$;
comment on function access.parentheses(text, int) is 'The places of the parentheses around a place in SQL without quoted parentheses; null for none.';

-- Mostly none, one or all are held: what is done once per statement is done for each rule that holds, not for each there is. One is
-- found in two statements: each is made ready anew in every transaction, which is half of its cost.
create or replace function access.held(bits bigint, mask bigint, of bigint[], list anyarray) returns anyarray
language plpgsql immutable parallel safe as $$
declare
  _held list%type := list[array_position(held.of, bits & mask) : array_position(held.of, bits & mask)];
  _left bigint;
begin
  if _held is not null then
    return _held;
  end if;
  _left := bits & mask;
  if _left = mask then
    return list;
  end if;
  while _left <> 0 loop
    _held := _held || list[array_position(held.of, _left & -_left)];
    _left := _left & (_left - 1);
  end loop;
  return _held;
end
$$;
comment on function access.held(bigint, bigint, bigint[], anyarray) is
  'Those elements of a list whose bit (of) is among bits, null for none; mask is all bits of the list.';
