-- What a branch of a rights function reads before it asks anything, and the roles it looks through.

-- The part of what access.account() gives that conditions ask for: the whole costs 93 µs.
drop function if exists access.account_sql(text, uuid);
create or replace function access.account_sql(body text, site_id uuid) returns text
language sql immutable set search_path = '' as $$
  select case
    when account_sql.body !~ '_account' then null
    when regexp_replace(account_sql.body, '_account #> ''\{(id|email|attributes|roles|groups)[,}]', '', 'g') ~ '_account'
      then 'access.account()'
    else 'jsonb_build_object(' || (
      select string_agg(format('%L, %s', p.name, format(p.sql, account_sql.site_id)), ', ' order by p.name)
      from (values
        ('id', 'auth.account_id()'),
        ('email', '(select a.email from auth.accounts a where a.id = auth.account_id())'),
        ('attributes', access.attributes_sql()),
        ('roles', '(select coalesce(jsonb_agg(r.name order by r.name), ''[]'')
          from access.roles r where r.id = any (_roles) and not r.is_internal)'),
        ('groups', 'access.group_names(%L, auth.account_id())')) p (name, sql)
      where account_sql.body ~ ('_account #> ''\{' || p.name || '[,}]')) || ')' end
$$;
comment on function access.account_sql(text, uuid) is
  'Those parts of access.account() that the body of a branch of a rights function asks for, as SQL; null for none.';

create or replace function access.attributes_sql() returns text
language sql immutable parallel safe as $$
  select 'coalesce((select a.attributes from access.account_attributes a
      where a.site_id = %L and a.account_id = auth.account_id()), ''{}'')'
$$;
comment on function access.attributes_sql() is 'The attributes of the account of the claims, as a format of SQL over a site.';

-- One statement for all of it, as a second one costs 4 µs; and none where the gateway knows.
create or replace function access.look_up(entity data.entities, action text, body text) returns text
language sql stable set search_path = '' as $$
  with read (name, sql, known, is_known) as (
    select '_plain', format('exists (select from access.plain_permissions(_roles, %L, %L, %L))',
        (entity).site_id, access.entity_path(entity), look_up.action),
      format('access.grants_right(access.rights(), %L, %L)', access.entity_path(entity), look_up.action), 'access.rights() is not null'
    union all
    select '_attributes', format(access.attributes_sql(), (entity).site_id), 'access.known_attributes()::jsonb',
      'access.known_attributes() is not null'
    where look_up.body ~ '_attributes'
    union all
    select '_account', a.sql, null, null from access.account_sql(look_up.body, (entity).site_id) a (sql) where a.sql is not null
  )
  select concat(case when bool_and(r.known is not null) then format('if %s then %selse select %s into %s; end if; ',
        string_agg(r.is_known, ' and ' order by r.name), string_agg(format('%s := %s; ', r.name, r.known), '' order by r.name),
        string_agg(r.sql, ', ' order by r.name), string_agg(r.name, ', ' order by r.name))
      else format('select %s into %s; ',
        string_agg(case when r.known is null then r.sql else format('case when %s then %s else %s end', r.is_known, r.known, r.sql) end,
          ', ' order by r.name),
        string_agg(r.name, ', ' order by r.name)) end,
    case when look_up.body ~ '_env' then '_env := access.env(); ' end)
  from read r
$$;
comment on function access.look_up(data.entities, text, text) is
  'PL/pgSQL that reads what the body of a branch of a rights function asks for: _plain, whether a permission holds that depends on nothing, and _attributes, _account and _env.';

-- Whoever holds a role, as one look-up in a sorted list, 4 µs for 5 roles among 100: with a function called for each word 7, with a
-- comparison for each of 33 roles, and a statement for each rule, 250.
create or replace function access.role_loops(entity data.entities) returns table (action text, body text)
language sql stable set search_path = '' as $$
  with role as materialized (
    select s.action, access.word(s.number) as word, i.id, bit_or(access.bit(s.number)) as bits
    from access.rule_sources s, unnest(s.role_ids) i (id)
    where s.entity_id = (entity).id and s.subject is null
    group by s.action, access.word(s.number), i.id
  ),
  word as (
    select w.action, w.word, array_agg(i.id order by i.id) as ids, array_agg(coalesce(r.bits, 0) order by i.id) as bits
    from (select distinct r.action, r.word from role r) w
    join (select distinct r.action, r.id from role r) i using (action)
    left join role r using (action, word, id)
    group by w.action, w.word
  )
  select w.action, format(
    'foreach _role in array _roles loop
      _place := width_bucket(_role, %1$L::uuid[]);
      if (%1$L::uuid[])[_place] = _role then %2$s end if;
    end loop; ', w.ids,
    string_agg(format('%1$s := %1$s | (%2$L::bigint[])[_place];', access.word_variable('allow', w.word), w.bits), ' ' order by w.word))
  from word w group by w.action, w.ids
$$;
comment on function access.role_loops(data.entities) is
  'Per action, PL/pgSQL that sets the bits of the rules that hold by a role alone; only permissions do, which allow.';

-- Asked by the functions of entities that were defined before these looked through the roles themselves.
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
