-- <entity>__rights(action): which rules hold for the caller, whatever the record is. Once per statement.

create or replace function access.rights_terms(entity data.entities)
returns table (action text, effect text, word int, number int, text text)
language sql stable set search_path = '' as $$
  with source as materialized (
    select s.*, r.row_condition is null and r.fields is null as is_whole, access.word(s.number) as word,
      access.subject_sql(s.subject, s.role_ids, s.action, s.effect) as sql
    from access.rule_sources s join access.rules r using (entity_id, action, effect, number)
    where s.entity_id = (entity).id
  )
  -- What forbids whatever the record is has no bit.
  select d.action, 'denial', 0, 0,
    case when bool_or(d.sql = '') then 'true' else '(' || string_agg(d.sql, ') or (' order by d.sql) || ')' end
  from (
    select s.action, coalesce(case when count(*) > 1 and min(cardinality(f.literals)) = 1 then access.any_of(
      replace(f.shape, E'\x01', E'\x02'),
      format('array[%s]::%s[]', string_agg(f.literals[1], ', ' order by s.sql), substring(f.shape from '\x01::(\w+)'))) end,
      string_agg(distinct s.sql, ') or (' order by s.sql)) as sql
    from source s, lateral access.shape(s.sql) f
    where s.effect = 'deny' and s.is_whole
    group by s.action, f.shape, case when cardinality(f.literals) <> 1 then s.sql end
  ) d group by d.action
  union all
  select s.action, s.effect, s.word, s.number, case when not bool_or(s.sql = '')
    then format('case when (%s) then %s::bigint else 0 end', string_agg(s.sql, ') or (' order by s.sql), access.bit(s.number)) end
  from source s
  where (s.subject is not null or s.role_ids is null) and not (s.effect = 'deny' and s.is_whole)
  group by s.action, s.effect, s.word, s.number
$$;
comment on function access.rights_terms(data.entities) is
  'The SQL of the bits of an entity''s rules that are not held by a role alone, null where a rule is everybody''s, and per action the condition (effect denial) under which nothing is allowed.';

-- What several rules compare, an attribute, is read once: 3 µs each.
create or replace function access.share_terms(body text) returns text
language plpgsql immutable set search_path = '' as $$
declare
  _term record;
  _body text := share_terms.body;
  _declared text := '';
begin
  for _term in
    select m[1] as text, m[2] as type, row_number() over (order by min(n)) as place
    from regexp_matches(share_terms.body,
      $re$(access\.value_as\(_(?:account|env) #> '\{[^']*\}', '\w+'\)::(\w+))$re$, 'g') with ordinality r (m, n)
    group by m[1], m[2] having count(*) > 1
  loop
    _declared := _declared || format(E'        _value_%s %s := %s;\n', _term.place, _term.type,
      regexp_replace(_term.text, $re$access\.value_as\((.*), '(text|numeric)'\)$re$, 'access.\2_of(\1)'));
    _body := replace(_body, _term.text, '_value_' || _term.place);
  end loop;
  return case _declared when '' then _body else format(E'declare\n%s      begin\n        %s\n      end;', _declared, _body) end;
end
$$;
comment on function access.share_terms(text) is
  'PL/pgSQL in which a value of the account or its circumstances that is read several times is a variable.';

-- Numbers: with elements of an array, a list under 100 roles took 5 to 10 µs more.
create or replace function access.word_variable(effect text, word int) returns text
language sql immutable parallel safe return case effect when 'deny' then '_d' else '_a' end || word;
comment on function access.word_variable(text, int) is 'The variable with a word of bits, of allowing rules or denials.';

create or replace function access.word_variables(entity data.entities) returns table (effect text, word int, name text)
language sql stable set search_path = '' as $$
  select w.effect, n, access.word_variable(w.effect, n)
  from (
    select e as effect, access.word(greatest(max(r.number), case e when 'allow' then 1 end)) as last
    from unnest(array['allow', 'deny']) e
    left join access.rules r on r.entity_id = (entity).id and r.effect = e
    group by e
  ) w, generate_series(1, w.last) n
$$;
comment on function access.word_variables(data.entities) is 'The words of bits that the rules of an entity have, whatever the action.';

drop function if exists access.rights_bodies(data.entities);
create or replace function access.rights_bodies(entity data.entities, parts jsonb)
returns table (action text, is_held boolean, body text)
language sql stable set search_path = '' as $$
  with term as materialized (
    select t.* from access.rights_terms(entity) t
    union all
    select a, 'allow', 1, 1, 'case when _plain then 1::bigint else 0 end' from unnest(array['create', 'read', 'update', 'delete']) a
  ),
  kind as (
    select a.action, h.is_held
    from unnest(array['create', 'read', 'update', 'delete']) a (action), unnest(array[false, true]) h (is_held)
    where not h.is_held or rights_bodies.parts ? a.action
  ),
  word as materialized (
    select k.action, k.is_held, w.effect, w.word, w.name, format('%s := %s; ', w.name, coalesce(nullif(
      -- As one number: each expression is made ready once in every transaction.
      concat_ws(' | ', bit_or(access.bit(t.number)) filter (where t.text is null) || '::bigint',
        string_agg(t.text, ' | ' order by t.number)), ''), '0')) as body
    from kind k
    cross join access.word_variables(entity) w
    left join term t on t.action = k.action and t.effect = w.effect and t.word = w.word
      and (not k.is_held or t.effect <> 'deny' or rights_bodies.parts->k.action->'denials' @> to_jsonb(t.number))
    group by k.action, k.is_held, w.effect, w.word, w.name
    having count(t.number) > 0 or w.effect = 'allow' or not k.is_held
  ),
  part as (
    select w.action, w.is_held, string_agg(w.body, '' order by w.word) filter (where w.effect = 'deny') as denies,
      string_agg(w.body, '' order by w.word) filter (where w.effect = 'allow') as allows,
      string_agg(format('%s := 0; ', w.name), '' order by w.word) filter (where w.effect = 'allow') as nothing
    from word w group by w.action, w.is_held
  )
  select p.action, p.is_held, concat(p.denies, 'if ' || d.text || ' then ' || p.nothing || 'else ',
    p.allows, l.body, case when d.text is not null then 'end if; ' end)
  from part p
  left join term d on d.action = p.action and d.effect = 'denial'
  left join access.role_loops(entity) l on l.action = p.action
$$;
comment on function access.rights_bodies(data.entities, jsonb) is
  'Per action, PL/pgSQL that tells which rules of an entity hold for the caller, in the variables of access.word_variable; is_held for <entity>__held, of denials no more than parts, access.parts, ask for.';

drop function if exists access.rights_branch(data.entities, text);
create or replace function access.rights_branch(entity data.entities, action text, body text) returns text
language sql stable set search_path = '' as $$
  select access.look_up(entity, rights_branch.action, b.body) || b.body
  -- Taken out of an account that was put together for it, an attribute costs 2 µs more.
  from regexp_replace(access.share_terms(rights_branch.body), '_account #> ''\{attributes,(\w+)\}''', '_attributes -> ''\1''', 'g') b (body)
$$;
comment on function access.rights_branch(data.entities, text, text) is
  'PL/pgSQL over the account and its circumstances with what reads these before it, no more than it asks for.';

create or replace function access.branches(bodies jsonb) returns text
language sql immutable set search_path = '' as $$
  select string_agg(format('%s _action = %L then %s', case b.n when 1 then 'if' else 'elsif' end, b.key, b.body), E'\n' order by b.n)
    || ' end if;'
  from (
    select e.key, e.value #>> '{}' as body, row_number() over (order by e.key <> 'read', e.key) as n
    from jsonb_each(branches.bodies) e
  ) b
$$;
comment on function access.branches(jsonb) is 'PL/pgSQL that does what bodies has for _action, reading first; null for no bodies.';

create or replace function access.publish_rights(entity data.entities, signature text, said text) returns void
language plpgsql set search_path = '' as $$
begin
  execute format('comment on function %s is %L', signature, E'@behavior -*\n' || said);
  execute format('revoke all on function %s from public', signature);
  execute (select format('grant execute on function %s to rowhouse_data, %I', signature, s.role_name)
    from tenancy.sites s where s.id = entity.site_id);
end
$$;
comment on function access.publish_rights(data.entities, text, text) is
  'Gives a function about an entity''s rights to those who read and write its records, with a comment.';

drop function if exists access.build_rights(data.entities), access.compile_rights(data.entities), access.no_rights(data.entities);
create or replace function access.rights_source(entity data.entities, branches text, finally text) returns text
language sql stable set search_path = '' as $$
  select format($sql$
    declare
      _roles uuid[];
      _role uuid;
      _place int;
      _plain boolean;
      _attributes jsonb;
      _account jsonb;
      _env jsonb;
      %s
    begin
      if tenancy.site_id() = %L and (auth.account_id() is not null or not auth.is_operator()) then
        _roles := access.role_ids();
        %s
      else
        %s
        if auth.account_id() is null and auth.is_operator() then
          %s
        end if;
      end if;
      %s
    end $sql$, v.declared, (entity).site_id, rights_source.branches, v."none", v."all", rights_source.finally)
  from (
    select string_agg(format('%s bigint;', w.name), ' ' order by w.name),
      string_agg(format('%s := 0;', w.name), ' ' order by w.name),
      string_agg(format('%s := 9223372036854775807;', w.name), ' ' order by w.name) filter (where w.effect = 'allow')
    from access.word_variables(entity) w
  ) v (declared, "none", "all")
$$;
comment on function access.rights_source(data.entities, text, text) is
  'The body of a function that tells what holds for the caller of an action: branches (access.branches), and what is done with the words of bits after them.';

create or replace function access.build_rights(entity data.entities, parts jsonb) returns void
language plpgsql set search_path = '' as $$
declare
  _function text := access.rights_function(entity);
  _header text := 'language plpgsql stable security definer parallel safe set search_path = ''''';
  _branches text;
  _held text;
  _rows text;
  _words text;
  _all text;
begin
  -- Denials at negative places.
  select format('return (%L || concat_ws('','', %s) || ''}'')::bigint[];',
      format('[%s:%s]={', -count(*) filter (where w.effect = 'deny'), count(*) filter (where w.effect = 'allow')),
      concat_ws(', ', string_agg(w.name, ', ' order by w.word desc) filter (where w.effect = 'deny'), '0',
        string_agg(w.name, ', ' order by w.word) filter (where w.effect = 'allow'))),
    string_agg(w.name, ' | ' order by w.word) filter (where w.effect = 'allow')
  into _words, _all
  from access.word_variables(entity) w;
  select access.branches(jsonb_object_agg(b.action, access.rights_branch(entity, b.action, b.body)) filter (where not b.is_held)),
    access.branches(jsonb_object_agg(b.action, access.rights_branch(entity, b.action, concat(b.body,
      -- Nobody is refused reading: they see nothing.
      case when b.action <> 'read' then
        format('if _must and (%s) = 0 then perform access.refuse(%L, _action); end if; ', _all, access.entity_path(entity)) end,
      format('return row(%s);', build_rights.parts->b.action->>'held')))) filter (where b.is_held))
  into _branches, _held
  from access.rights_bodies(entity, build_rights.parts) b;
  perform rowhouse.create_function('create or replace function %1$s(_action text) returns bigint[] ' || _header, '%2$s', _function,
    access.rights_source(entity, _branches, _words));
  perform access.publish_rights(entity, _function || '(text)',
    format('Which rules of access to %s hold for the caller: words of bits, those of denials at negative places.', entity.name));
  perform rowhouse.create_function(
    -- Becomes a part of what calls it.
    'create or replace function %1$s(_action text, _word int) returns bigint language sql stable parallel safe',
    ' select coalesce((%1$s(_action))[_word], 0) ', _function);
  perform access.publish_rights(entity, _function || '(text, int)',
    format('Which rules of access to %s hold for the caller, as bits.', entity.name));

  select string_agg(format('when %L then return row(%s);', p.key, p.value->>'unknown'), ' ' order by p.key) into _rows
  from jsonb_each(build_rights.parts) p;
  perform rowhouse.create_function('create or replace function %1$s(_action text, _must boolean) returns record ' || _header, '%2$s',
    access.held_function(entity), case when _held is null then ' begin return null; end '
      else access.rights_source(entity, _held, format('case _action %s end case;', _rows)) end);
  perform access.publish_rights(entity, access.held_function(entity) || '(text, boolean)',
    format('What many conditions on records of %s are asked with: words of bits, and values of the rules that hold.', entity.name));
end
$$;
comment on function access.build_rights(data.entities, jsonb) is
  'Generates <entity>__rights(action), which rules hold for the caller, as words of bits, those of denials at negative places; one of them as <entity>__rights(action, word); and, from access.held_parts, <entity>__held(action, must), with what many conditions are asked with, where must raises RH403 when no rule holds.';
