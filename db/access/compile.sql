-- One predicate per entity and action. What needs no record is asked once per statement, in a function generated for the entity;
-- the conditions on records stand in the row-level security of its storage.

create or replace function access.rights_function(entity data.entities) returns text
language sql stable set search_path = '' as $$
  select format('%I.%I', a.schema_name, (entity).name || '__rights') from tenancy.apps a where a.id = (entity).app_id
$$;
comment on function access.rights_function(data.entities) is 'The function that tells which rules of an entity hold for the caller, as SQL.';

-- 60 rules a word; the rest of a bigint would be its sign.
create or replace function access.word(number int) returns int
language sql immutable parallel safe return (number - 1) / 60 + 1;
comment on function access.word(int) is 'In which word the bit of a rule is, from 1 on.';

create or replace function access.bit(number int) returns bigint
language sql immutable parallel safe return 1::bigint << ((number - 1) % 60);
comment on function access.bit(int) is 'The bit of a rule in its word.';

create or replace function access.is_special(entity data.entities) returns boolean
language sql stable set search_path = '' as $$
  select access.protects_fields((entity).schema) or exists (select from access.rules r where r.entity_id = (entity).id)
$$;
comment on function access.is_special(data.entities) is 'Whether who may do what with an entity''s records depends on more than plain permissions.';

create or replace function access.subject_sql(subject jsonb, role_ids uuid[], action text, effect text) returns text
language sql stable set search_path = '' as $$
  select array_to_string(array_remove(array[
    case when subject_sql.role_ids is not null then format('_roles && %L::uuid[]', subject_sql.role_ids) end,
    case when subject_sql.subject is not null then '('
      || access.compile_condition(null, subject_sql.subject, null, '_account', '_env', subject_sql.action, subject_sql.effect) || ')' end],
      null), ' and ')
$$;
comment on function access.subject_sql(jsonb, uuid[], text, text) is 'What a rule asks of the account and its circumstances, as SQL over _roles, _account and _env; empty for nothing.';

create or replace function access.words(entity data.entities, action text, effect text) returns int[]
language sql stable set search_path = '' as $$
  select array(select distinct access.word(n) from (
    select 1 where words.effect = 'allow'
    union all
    select r.number from access.rules r where r.entity_id = (entity).id and r.action = words.action and r.effect = words.effect
      and (words.effect = 'allow' or r.row_condition is not null and r.fields is null)) x (n) order by 1)
$$;
comment on function access.words(data.entities, text, text) is 'The words that hold the bits of an entity''s rules for an action.';

-- Bits of rules with a condition are set where the row fulfils it.
create or replace function access.row_bits(entity data.entities, action text, effect text, word int, alias text) returns text
language sql stable set search_path = '' as $$
  select concat_ws(' | ', coalesce(bit_or(access.bit(r.number)) filter (where r.row_condition is null), 0)::text || '::bigint',
    string_agg(format('case when %s then %s::bigint else 0 end',
      access.compile_condition((entity).id, r.row_condition, row_bits.alias, action => row_bits.action, effect => row_bits.effect),
      access.bit(r.number)), ' | ' order by r.number) filter (where r.row_condition is not null))
  from (
    select 1 as number, null::jsonb as row_condition where row_bits.effect = 'allow' and row_bits.word = 1
    union all
    select r.number, r.row_condition from access.rules r
    where r.entity_id = (entity).id and r.action = row_bits.action and r.effect = row_bits.effect and access.word(r.number) = row_bits.word
      and (row_bits.effect = 'allow' or r.row_condition is not null and r.fields is null)
  ) r
$$;
comment on function access.row_bits(data.entities, text, text, int, text) is 'The rules of a word that a storage row (alias) fulfils, as SQL.';

drop function if exists access.row_test(data.entities, text, text, int, text, text);
-- Up to 4 conditions are asked of every row as bits, 125 ns a row for one; in a subquery only those that the caller's rules have,
-- 255 ns.
create or replace function access.has_many_rules(entity data.entities, action text) returns boolean
language sql stable set search_path = '' as $$
  select count(*) filter (where r.effect = 'allow') > 4 or count(*) filter (where r.effect = 'deny') > 4
  from access.rules r
  where r.entity_id = (entity).id and r.action = has_many_rules.action and r.row_condition is not null
    and (r.effect = 'allow' or r.fields is null)
$$;
comment on function access.has_many_rules(data.entities, text) is
  'Whether an entity has so many conditions for an action that they are asked in a subquery.';

drop function if exists access.row_predicate(data.entities, text, text, boolean);
create or replace function access.row_predicate(
  entity data.entities, action text, alias text, must_hold boolean default false, parts jsonb default null)
returns text
language plpgsql stable set search_path = '' as $$
declare
  _function text := access.rights_function(entity);
  _words int[] := access.words(entity, row_predicate.action, 'allow');
  _allowed text;
  _denied text;
begin
  if not access.is_special(entity) then
    return format('(select access.%s(%s, %L))', case when must_hold then 'require' else 'allows' end,
      data.access_arguments(entity), row_predicate.action);
  elsif parts ? row_predicate.action or parts is null and access.has_many_rules(entity, row_predicate.action) then
    return access.held_predicate(entity, row_predicate.action, must_hold,
      coalesce(parts->row_predicate.action, access.held_parts(entity, row_predicate.action, row_predicate.alias)));
  end if;
  select string_agg(format(case when b ~ 'case when' then '((select %s) & (%s)) <> 0' else '(select %s & %s <> 0)' end, f, b),
    ' or ' order by w)
  into _allowed
  from unnest(_words) w, lateral (
    select access.row_bits(entity, row_predicate.action, 'allow', w, row_predicate.alias),
      case when must_hold then format('access.require_bits(%s(%L, %s), array[%s]::bigint[], %L, %2$L)', _function, row_predicate.action, w,
        (select string_agg(format('%s(%L, %s)', _function, row_predicate.action, o), ', ') from unnest(_words) o where o <> w),
        access.entity_path(entity))
      else format('%s(%L, %s)', _function, row_predicate.action, w) end) x (b, f);
  select string_agg(format('((select %s(%L, %s)) & (%s)) = 0', _function, row_predicate.action, -w,
    access.row_bits(entity, row_predicate.action, 'deny', w, row_predicate.alias)), ' and ' order by w)
  into _denied
  from unnest(access.words(entity, row_predicate.action, 'deny')) w;
  return '(' || _allowed || ')' || coalesce(' and ' || _denied, '');
end
$$;
comment on function access.row_predicate(data.entities, text, text, boolean, jsonb) is
  'Whether the caller may do action with a storage row (alias), as SQL that asks whatever is not of the row once per statement; with must_hold it raises RH403 where no rule at all holds; parts is access.parts, where it is known.';

create or replace function access.right_predicate(entity data.entities, action text, must_hold boolean default false) returns text
language sql stable set search_path = '' as $$
  select case
    when not access.is_special(entity) then format('(select access.%s(%s, %L))', case when must_hold then 'require' else 'allows' end,
      data.access_arguments(entity), right_predicate.action)
    when must_hold then format('(select access.require_bits(%s, ''{}'', %L, %L) <> 0)', f.bits, access.entity_path(entity),
      right_predicate.action)
    else format('(select %s <> 0)', f.bits) end
  from (select string_agg(format('%s(%L, %s)', access.rights_function(entity), right_predicate.action, w), ' | ' order by w)
    from unnest(access.words(entity, right_predicate.action, 'allow')) w) f (bits)
$$;
comment on function access.right_predicate(data.entities, text, boolean) is
  'Whether the caller may do action with some record of an entity, as SQL, asked once per statement; with must_hold it raises RH403 else.';

create or replace function access.require_bits(bits bigint, others bigint[], entity text, action text) returns bigint
language plpgsql stable parallel safe set search_path = '' as $$
begin
  if bits = 0 and not exists (select from unnest(others) o where o <> 0) then
    perform access.refuse(require_bits.entity, require_bits.action);
  end if;
  return bits;
end
$$;
comment on function access.require_bits(bigint, bigint[], text, text) is 'The bits of rules that hold. RH403 when these and others are none.';

create or replace function access.require_right(entity_id uuid, action text) returns void
language plpgsql stable security definer set search_path = '' as $$
begin
  execute format('select %s', access.right_predicate(data.require_known(require_right.entity_id), require_right.action, true));
end
$$;
comment on function access.require_right(uuid, text) is 'Raises RH403 unless the caller may do action with some record of an entity, and RH404 for one of another site.';
