-- Many conditions on records, as one subquery. <entity>__held(action) gives, once per statement, the words of the rules that hold
-- and, of conditions that differ only in their values (db/access/shapes.sql), the values of those rules.

create or replace function access.held_function(entity data.entities) returns text
language sql stable set search_path = '' as $$
  select format('%I.%I', a.schema_name, (entity).name || '__held') from tenancy.apps a where a.id = (entity).app_id
$$;
comment on function access.held_function(data.entities) is 'The function that gives what many conditions of an entity are asked with, as SQL.';

drop function if exists access.row_shapes(data.entities, text, text);
create or replace function access.row_shapes(entity data.entities, action text, alias text)
returns table (effect text, place bigint, test text, numbers int[], lists text[], columns text[])
language sql stable set search_path = '' as $$
  with compiled as materialized (
    select r.effect, r.number, s.shape, s.literals, min(r.number) over (partition by r.effect, s.shape) as first,
      (select case when not bool_or(x.sql = '') then '(' || string_agg(x.sql, ') or (' order by x.sql) || ')' end
        from (select access.subject_sql(o.subject, o.role_ids, o.action, o.effect)
          from access.rule_sources o
          where (o.entity_id, o.action, o.effect, o.number) = (r.entity_id, r.action, r.effect, r.number)
            and o.effect = 'deny') x (sql)) as holds
    from access.rules r, lateral access.shape(access.compile_condition((entity).id, r.row_condition, row_shapes.alias,
      action => row_shapes.action, effect => r.effect)) s
    where r.entity_id = (entity).id and r.action = row_shapes.action and r.row_condition is not null
      and (r.effect = 'allow' or r.fields is null)
  ),
  rule as materialized (
    select c.*, dense_rank() over (order by c.effect, c.first) as place, access.word(c.number) as word, access.bit(c.number) as bit
    from compiled c
  ),
  shape as materialized (
    select distinct r.effect, r.place, r.shape from rule r
  ),
  word as materialized (
    select r.effect, r.place, r.word, array_agg(r.bit order by r.number) as bits, bit_or(r.bit) as mask,
      access.word_variable(r.effect, r.word) as held,
      format('_h.%s%s & %s::bigint <> 0', left(r.effect, 1), r.word, bit_or(r.bit)) as test
    from rule r group by r.effect, r.place, r.word
  ),
  value as materialized (
    select s.place, l.n, format('g%s_%s', s.place, l.n) as name, count(distinct l.text) > 1 as varies, min(l.text) as text,
      substring((string_to_array(s.shape, E'\x01'))[l.n + 1] from '^::(\w+)') as type
    from shape s join rule r using (place), unnest(r.literals) with ordinality l (text, n) group by s.place, s.shape, l.n
  ),
  -- No denial is of roles: its values are everybody's, or taken by what it asks of the account, without a bit. 3 µs less for 10.
  denied as (
    select v.place, v.n, concat_ws(' || ',
      'array[' || string_agg(r.literals[v.n], ', ' order by r.number) filter (where r.holds is null) || ']::' || v.type || '[]',
      'array_remove(array[' || string_agg(format('case when %s then %s::%s end', r.holds, r.literals[v.n], v.type), ', ' order by r.number)
        filter (where r.holds is not null) || '], null)') as list,
      bool_or(r.holds is null) as is_filled
    from value v join rule r using (place) where v.varies and r.effect = 'deny' group by v.place, v.n, v.type
  ),
  list as materialized (
    select v.place, v.n, v.name, format('%s %s[]', v.name, v.type) as column, coalesce(
      (select case when d.is_filled then d.list else format('nullif(%s, ''{}'')', d.list) end
        from denied d where d.place = v.place and d.n = v.n), (
      select string_agg(format('case when %1$s & %2$s <> 0 then access.held(%1$s, %2$s, %3$L, array[%4$s]::%5$s[]) end',
        w.held, w.mask, w.bits, (
          select string_agg(r.literals[v.n], ', ' order by r.number)
          from rule r where r.place = v.place and r.word = w.word), v.type), ' || ' order by w.word)
      from word w where w.place = v.place)) as list
    from value v where v.varies
  )
  -- That there is a list, and not which rules it is of: so another role with such a condition changes no predicate.
  select s.effect, s.place, case
      when v.names is null then format('(%s) and %s',
        (select string_agg(w.test, ' or ' order by w.word) from word w where w.place = s.place), access.fill_shape(s.shape, v.texts))
      else format('_h.%s is not null and %s', v.names[1], case
        when v.names[2] is null and o.one is not null then access.fill_shape(o.one, v.constant)
        else format('exists (select from unnest(%s) _v (%s) where %s)',
          '_h.' || array_to_string(v.names, ', _h.'), array_to_string(v.names, ', '), access.fill_shape(s.shape, v.texts)) end) end,
    case when v.names is null then array(select r.number from rule r where r.place = s.place order by 1) else '{}' end,
    array(select l.list from list l where l.place = s.place order by l.n),
    array(select l.column from list l where l.place = s.place order by l.n)
  from shape s, lateral (
    select array_agg(v.name order by v.n) filter (where v.varies) as names,
      array_agg(case when v.varies then '_v.' || v.name else v.text end order by v.n) as texts,
      array_agg(v.text order by v.n) filter (where not v.varies) as constant,
      array_agg(case when v.varies then E'\x02' else E'\x01' end order by v.n) as marks
    from value v where v.place = s.place
  ) v, lateral (select access.any_of(access.fill_shape(s.shape, v.marks), '_h.' || v.names[1])) o (one)
$$;
comment on function access.row_shapes(data.entities, text, text) is
  'The conditions of an entity''s rules for an action on a storage row (alias), those that differ only in values together: the SQL of each test over _h, the numbers of the rules whose bits it asks, what <entity>__held gives for it as SQL over the words of bits, and the columns of that.';

-- An attribute that conditions compare is read with the rules: a statement of its own would cost 15 µs.
create or replace function access.hoist_values(sql text, out sql_after text, out held text[], out columns text[])
language plpgsql immutable set search_path = '' as $$
declare
  _value record;
begin
  sql_after := hoist_values.sql;
  for _value in
    select m[1] as text, format('%s(_account #> %s%s)::%s', m[2], m[3], m[4], m[5]) as held, m[5] as type,
      row_number() over (order by min(n)) as n
    from regexp_matches(hoist_values.sql,
      $re$(\(select (access\.values?_as)\(access\.account_value\(('\{attributes,[^']*\}')\)(, [^()]*)\)::(\w+(?:\[\])?)\))$re$, 'g')
      with ordinality r (m, n)
    group by m
  loop
    sql_after := replace(sql_after, _value.text, '_h.v' || _value.n);
    held := held || _value.held;
    columns := columns || format('v%s %s', _value.n, _value.type);
  end loop;
end
$$;
comment on function access.hoist_values(text) is
  'Conditions in which attributes of the account are columns of _h, with the SQL that reads these from _account and their definitions.';

create or replace function access.held_parts(entity data.entities, action text, alias text) returns jsonb
language sql stable set search_path = '' as $$
  with shape as materialized (select s.* from access.row_shapes(entity, held_parts.action, held_parts.alias) s),
  -- 1 is the plain permission.
  whole as (
    select format('_h.a%s & %s::bigint <> 0', access.word(n), bit_or(access.bit(n))) as test
    from (
      select 1
      union
      select r.number from access.rules r
      where r.entity_id = (entity).id and r.action = held_parts.action and r.effect = 'allow' and r.row_condition is null
    ) r (n) group by access.word(n)
  ),
  test as (
    select format('(%s)%s', (
        select string_agg(t.test, ' or ' order by t.place, t.test)
        from (select 0 as place, w.test from whole w union all select s.place, s.test from shape s where s.effect = 'allow') t),
      coalesce(' and (' || (
        select string_agg(s.test, ' or ' order by s.place) from shape s where s.effect = 'deny') || ') is not true', '')) as sql
  ),
  word as (
    select array_agg(access.word_variable(w.effect, w.word) order by w.effect, w.word) as held,
      array_agg(format('%s%s bigint', left(w.effect, 1), w.word) order by w.effect, w.word) as columns
    from (
      select 'allow' as effect, unnest(access.words(entity, held_parts.action, 'allow')) as word
      union
      select 'deny', access.word(n) from shape s, unnest(s.numbers) n where s.effect = 'deny') w
  ),
  list as (
    select array_agg(l.held order by s.place, l.n) as held, array_agg(l.column order by s.place, l.n) as columns
    from shape s, unnest(s.lists, s.columns) with ordinality l (held, "column", n)
  )
  select jsonb_build_object('test', v.sql_after, 'held', array_to_string(w.held || l.held || v.held, ', '),
    'columns', array_to_string(w.columns || l.columns || v.columns, ', '),
    'unknown', array_to_string(w.held || array(
      select 'null::' || substr(c, strpos(c, ' ') + 1) from unnest(l.columns || v.columns) c), ', '),
    'denials', to_jsonb(array(select unnest(s.numbers) from shape s where s.effect = 'deny')))
  from test t, word w, list l, lateral access.hoist_values(t.sql) v
$$;
comment on function access.held_parts(data.entities, text, text) is
  'How a storage row (alias) is asked whether many rules for an action allow it: {"test": SQL over _h, "columns": the definition of _h, "held": what it is as SQL, "unknown": what it is where nothing is known of the account, "denials": the numbers of those whose bits are asked}.';

create or replace function access.held_predicate(entity data.entities, action text, must_hold boolean, part jsonb) returns text
language sql stable set search_path = '' as $$
  select format('(select %s from %s(%L, %s) _h (%s))', part->>'test', access.held_function(entity), held_predicate.action,
    held_predicate.must_hold::text, part->>'columns')
$$;
comment on function access.held_predicate(data.entities, text, boolean, jsonb) is
  'access.row_predicate for an action that has many conditions; part is access.held_parts.';

create or replace function access.parts(entity data.entities) returns jsonb
language sql stable set search_path = '' as $$
  select coalesce(jsonb_object_agg(a, access.held_parts(entity, a, quote_ident(data.storage_name(entity)))), '{}')
  from unnest(array['create', 'read', 'update', 'delete']) a where access.has_many_rules(entity, a)
$$;
comment on function access.parts(data.entities) is 'access.held_parts of an entity''s storage for each action with many conditions.';
