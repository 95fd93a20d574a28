-- <entity>__rights(action): which rules hold for the caller, whatever the record is. Once per statement.

-- Whoever holds a role, as one look-up in a sorted list: with a comparison for each of 33 roles, and a statement for each rule, the
-- rights took 250 µs. 2 µs for 5 roles among 67; with array_position 3, as a function of SQL 14.
create or replace function access.role_bits(roles uuid[], of uuid[], bits bigint[]) returns bigint
language plpgsql immutable parallel safe as $$
declare
  _role uuid;
  _place int;
  _bits bigint := 0;
begin
  foreach _role in array role_bits.roles loop
    _place := width_bucket(_role, role_bits.of);
    if role_bits.of[_place] = _role then
      _bits := _bits | role_bits.bits[_place];
    end if;
  end loop;
  return _bits;
end
$$;
comment on function access.role_bits(uuid[], uuid[], bigint[]) is
  'The bits of those roles that are among roles; of must be in ascending order.';

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
  union all
  select h.action, h.effect, h.word, 0,
    format('access.role_bits(_roles, %L, %L)', array_agg(h.id order by h.id), array_agg(h.bits order by h.id))
  from (
    select s.action, s.effect, s.word, i.id, bit_or(access.bit(s.number)) as bits
    from source s, unnest(s.role_ids) i (id) where s.subject is null group by s.action, s.effect, s.word, i.id
  ) h group by h.action, h.effect, h.word
$$;
comment on function access.rights_terms(data.entities) is
  'The SQL of the bits of an entity''s rules, null where a rule is everybody''s, and per action the condition (effect denial) under which nothing is allowed.';

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

create or replace function access.rights_bodies(entity data.entities) returns table (action text, body text)
language sql stable set search_path = '' as $$
  with term as materialized (select t.* from access.rights_terms(entity) t),
  word as (
    select t.action, t.effect, t.word, format('%1$s := %1$s | %2$s; ', access.word_variable(t.effect, t.word),
      -- As one number: each expression is made ready once in every transaction.
      concat_ws(' | ', bit_or(access.bit(t.number)) filter (where t.text is null), string_agg(t.text, ' | ' order by t.number))) as body
    from term t where t.effect <> 'denial' group by t.action, t.effect, t.word
  )
  select a.action, concat(
    (select string_agg(w.body, '' order by w.word) from word w where w.action = a.action and w.effect = 'deny'),
    (select format('if %s then null; else ', t.text) from term t where t.action = a.action and t.effect = 'denial'),
    format('if access.holds_plainly(_roles, %L, %L, %L) then _a1 := 1; end if; ',
      (entity).site_id, access.entity_path(entity), a.action),
    (select string_agg(w.body, '' order by w.word) from word w where w.action = a.action and w.effect = 'allow'),
    (select 'end if; ' from term t where t.action = a.action and t.effect = 'denial'))
  from unnest(array['create', 'read', 'update', 'delete']) a (action)
$$;
comment on function access.rights_bodies(data.entities) is
  'Per action, PL/pgSQL that tells which rules of an entity hold for the caller, in the variables of access.word_variable.';

create or replace function access.rights_branch(entity data.entities, body text) returns text
language sql stable set search_path = '' as $$
  select concat(access.account_sql(rights_branch.body, (entity).site_id),
    case when rights_branch.body ~ '_env' then '_env := access.env(); ' end, access.share_terms(rights_branch.body))
$$;
comment on function access.rights_branch(data.entities, text) is
  'PL/pgSQL over the account and its circumstances with what reads these before it, no more than it asks for.';

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
      _account jsonb;
      _env jsonb;
      %s
    begin
      if auth.account_id() is null and auth.is_operator() then
        %s
      elsif tenancy.site_id() is not distinct from %L then
        _roles := access.role_ids();
        case _action
    %s
        end case;
      end if;
      %s
    end $sql$, (select string_agg(format('%s bigint := 0;', w.name), ' ' order by w.name) from access.word_variables(entity) w),
    (select string_agg(format('%s := 9223372036854775807;', w.name), ' ' order by w.name)
      from access.word_variables(entity) w where w.effect = 'allow'),
    (entity).site_id, rights_source.branches, rights_source.finally)
$$;
comment on function access.rights_source(data.entities, text, text) is
  'The body of a function that tells what holds for the caller of an action: branches of a case over _action, and what is done with the words of bits after it.';

create or replace function access.build_rights(entity data.entities, parts jsonb) returns void
language plpgsql set search_path = '' as $$
declare
  _function text := access.rights_function(entity);
  _header text := 'language plpgsql stable security definer parallel safe set search_path = ''''';
  _bodies jsonb;
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
  select jsonb_object_agg(b.action, b.body) into _bodies from access.rights_bodies(entity) b;
  perform rowhouse.create_function('create or replace function %1$s(_action text) returns bigint[] ' || _header, '%2$s', _function,
    access.rights_source(entity, (
      select string_agg(format('when %L then %s', b.key, access.rights_branch(entity, b.value)), E'\n' order by b.key)
      from jsonb_each_text(_bodies) b), _words));
  perform access.publish_rights(entity, _function || '(text)',
    format('Which rules of access to %s hold for the caller: words of bits, those of denials at negative places.', entity.name));
  perform rowhouse.create_function(
    -- Becomes a part of what calls it.
    'create or replace function %1$s(_action text, _word int) returns bigint language sql stable parallel safe',
    ' select coalesce((%1$s(_action))[_word], 0) ', _function);
  perform access.publish_rights(entity, _function || '(text, int)',
    format('Which rules of access to %s hold for the caller, as bits.', entity.name));

  select string_agg(format('when %L then %s', p.key, access.rights_branch(entity, concat(_bodies->>p.key, format(
      'if _must and (%s) = 0 then perform access.refuse(%L, _action); end if; return row(%s);',
      _all, access.entity_path(entity), p.value->>'held')))), E'\n' order by p.key),
    string_agg(format('when %L then return row(%s);', p.key, p.value->>'unknown'), ' ' order by p.key)
  into _held, _rows
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
