-- What accounts may do by the rules as they are written down, installed or not.

-- Per account, one statement an entity: claims are set, because conditions on related records read views.
create or replace function access.standing(subjects jsonb, entity_ids uuid[], records int) returns jsonb
language plpgsql set search_path = '' as $$
declare
  _before jsonb := access.claims();
  _env jsonb := access.env();
  _entities jsonb := '[]';
  _out jsonb := '{}';
  _subject record;
  _e record;
  _roles uuid[];
  _account jsonb;
  _one jsonb;
begin
  select coalesce(jsonb_agg(jsonb_build_object('site', e.site_id, 'path', access.entity_path(e),
    'sql', access.standing_sql(e, standing.records))), '[]') into _entities
  from data.entities e where e.id = any (standing.entity_ids);
  for _subject in select s.* from jsonb_to_recordset(standing.subjects) s (id uuid, email text) loop
    for _e in select e.* from jsonb_to_recordset(_entities) e (site uuid, path text, sql text) loop
      perform access.claim(jsonb_build_object('account', _subject.id, 'site', _e.site));
      _roles := access.roles_of(_e.site, _subject.id);
      _account := access.account();
      execute _e.sql into _one using _roles, _account, _env;
      _out := _out || jsonb_build_object(coalesce(_subject.email, '') || ' ' || _e.path, _one);
    end loop;
  end loop;
  perform access.claim(_before);
  return _out;
end
$$;
comment on function access.standing(jsonb, uuid[], int) is
  'What accounts may do with the newest records of entities by the rules as they are written: {"email app/entity": {create: allow, '
  'depends or deny, read, update, delete: [ids], fields: {field: {id: as what it is shown}}, writes: {create: {field: allow, depends or '
  'deny}, update: {field: [ids]}}}}. Internal.';

create or replace function access.any_of(terms text[]) returns text
language sql immutable set search_path = '' as $$
  select coalesce('(' || string_agg(distinct t, ' or ' order by t) || ')', 'false') from unnest(terms) t where t is not null
$$;
comment on function access.any_of(text[]) is 'The SQL that is true where any of terms is.';

-- Over $1, _roles, the roles, $2, _account, the account, and $3, _env, the environment. They are constants to the planner, so
-- that of 100 roles what the account does not hold is gone before anything runs.
create or replace function access.predicates(entity data.entities, actions text[])
returns table (action text, in_general text, of_row text)
language sql stable set search_path = '' as $$
  with source as (
    select s.action, s.effect,
      '(' || coalesce(nullif(access.subject_sql(s.subject, s.role_ids, s.action, s.effect), ''), 'true') || ') is true' as holds,
      case when r.row_condition is not null
        then format('(%s) is true', access.compile_condition((entity).id, r.row_condition, 't', '$2', '$3', s.action, s.effect)) end as fits
    from access.rule_sources s join access.rules r using (entity_id, action, effect, number)
    where s.entity_id = (entity).id and s.action = any (predicates.actions) and (s.effect = 'allow' or r.fields is null)
  ),
  predicate as (
    select a.action, format('(select access.holds_plainly($1, %L, %L, %L))', (entity).site_id, access.entity_path(entity),
      a.action) as plain,
      access.any_of(array_agg(s.holds || coalesce(' and ' || s.fits, '')) filter (where s.effect = 'allow')) as allows,
      access.any_of(array_agg(s.holds || coalesce(' and ' || s.fits, '')) filter (where s.effect = 'deny')) as denies,
      access.any_of(array_agg(s.holds) filter (where s.effect = 'allow')) as may,
      access.any_of(array_agg(s.holds) filter (where s.effect = 'allow' and s.fits is null)) as may_all,
      access.any_of(array_agg(s.holds) filter (where s.effect = 'deny' and s.fits is null)) as denies_all,
      access.any_of(array_agg(s.holds) filter (where s.effect = 'deny')) as denies_some
    from unnest(predicates.actions) a (action) left join source s using (action) group by a.action
  )
  select p.action,
    format('case when %s or not (%s or %s) then ''deny'' when %s then ''depends'' when %s or %s then ''allow'' else ''depends'' end',
      p.denies_all, p.plain, p.may, p.denies_some, p.plain, p.may_all),
    format('((%s or %s) and not %s)', p.plain, p.allows, p.denies)
  from predicate p
$$;
comment on function access.predicates(data.entities, text[]) is
  'What the rules of an entity, as they are written, say of an action: in general (allow, depends or deny), and of a storage row (alias t), as SQL over $1, $2, $3, which are _roles, _account and _env, too.';

create or replace function access.standing_sql(entity data.entities, records int) returns text
language sql stable set search_path = '' as $$
  with p as materialized (select * from access.predicates(entity, array['create', 'read', 'update', 'delete'])),
  f as materialized (select * from access.standing_fields(entity)),
  w as materialized (select * from access.standing_writes(entity, 'update'))
  select format($sql$
    select jsonb_build_object('create', (select %3$s from %9$s),
      'read', coalesce(jsonb_agg(t.id) filter (where x."read"), '[]'),
      'update', coalesce(jsonb_agg(t.id) filter (where x."read" and x."update"), '[]'),
      'delete', coalesce(jsonb_agg(t.id) filter (where x."read" and x."delete"), '[]'),
      'fields', '{}'::jsonb%1$s,
      'writes', jsonb_build_object('create', (select '{}'::jsonb%4$s from %9$s), 'update', '{}'::jsonb%2$s))
    from %9$s, (select * from %5$s t%6$s order by t.id desc limit %7$s) t, lateral (select %8$s) x $sql$,
    (select string_agg(format(
      ' || jsonb_build_object(%L, coalesce(jsonb_object_agg(t.id, x.%2$I) filter (where x."read" and x.%2$I <> ''full''), ''{}''))',
      f.field, 'field ' || f.field), '') from f),
    (select string_agg(format(
      ' || jsonb_build_object(%L, coalesce(jsonb_agg(t.id) filter (where x."read" and x."update" and x.%2$I), ''[]''))',
      w.field, 'write ' || w.field), '') from w),
    (select p.in_general from p where p.action = 'create'),
    (select string_agg(format(' || jsonb_build_object(%L, %s)', c.field, c.in_general), '')
      from access.standing_writes(entity, 'create') c),
    (select data.storage_table(entity, a.schema_name) from tenancy.apps a where a.id = (entity).app_id),
    coalesce(' where ' || data.alive_condition(entity, 't'), ''),
    standing_sql.records,
    concat_ws(', ',
      (select string_agg(format('%s as %I', p.of_row, p.action), ', ') from p where p.action <> 'create'),
      (select string_agg(format('%s as %I', f.shown, 'field ' || f.field), ', ') from f),
      (select string_agg(format('%s as %I', w.of_row, 'write ' || w.field), ', ') from w)),
    '(select $1 as _roles, $2 as _account, $3 as _env) s')
$$;
comment on function access.standing_sql(data.entities, int) is
  'A statement that tells what an account may do with the newest records of an entity (who changes or deletes a record must see it too), '
  'as what it sees their fields that are not shown in full, and which fields that not everybody may write it may.';

drop function if exists access.rule_tests(data.entities, text);
create or replace function access.rule_tests(entity data.entities, action text)
returns table (effect text, number int, holds text, is_conditional boolean, test text)
language sql stable set search_path = '' as $$
  select 'allow', 1, p.test, false, p.test
  from format('(select access.holds_plainly($1, %L, %L, %L))', (entity).site_id, access.entity_path(entity), rule_tests.action) p (test)
  union all
  select x.effect, x.number, x.holds, x.fits is not null, concat_ws(' and ', x.holds, x.fits)
  from (
    select s.effect, s.number,
      access.any_of(array_agg(
        '(' || coalesce(nullif(access.subject_sql(s.subject, s.role_ids, s.action, s.effect), ''), 'true') || ') is true')) as holds,
      case when r.row_condition is not null then format('(%s) is true',
        access.compile_condition((entity).id, r.row_condition, 't', '$2', '$3', s.action, s.effect)) end as fits
    from access.rule_sources s join access.rules r using (entity_id, action, effect, number)
    where s.entity_id = (entity).id and s.action = rule_tests.action
    group by s.action, s.effect, s.number, r.row_condition
  ) x
$$;
comment on function access.rule_tests(data.entities, text) is
  'Whether each rule of an entity for an action holds for an account, whether it asks something of the record, and whether it holds for an '
  'account and a storage row (alias t), as SQL as of access.predicates; rule 1 is the plain permission.';

create or replace function access.standing_fields(entity data.entities) returns table (field text, shown text)
language sql stable set search_path = '' as $$
  with test as materialized (select * from access.rule_tests(entity, 'read')),
  shows as (
    select f.key as field, s.key as shown, access.any_of(array_agg(t.test)) as holds
    from jsonb_each(access.field_shows(entity)) f, jsonb_each(f.value) s, jsonb_array_elements_text(s.value) n, test t
    where t.number = n::int and t.effect = case s.key when 'denied' then 'deny' else 'allow' end
    group by f.key, s.key
  )
  select s.field, format('case %s else ''hidden'' end', string_agg(
    format('when %s then %L', s.holds, case s.shown when 'denied' then 'hidden' else s.shown end), ' '
    order by case s.shown when 'denied' then 0 when 'full' then 1 else 2 end, access.mask_rank(s.shown), s.shown))
  from shows s where s.shown <> 'hidden' group by s.field
$$;
comment on function access.standing_fields(data.entities) is
  'The fields of an entity that some reader does not see in full, each with the SQL that tells as what an account sees it in a storage row (alias t): full, a mask, or hidden.';

drop function if exists access.standing_diff(jsonb, jsonb);
create or replace function access.standing_diff(before jsonb, after jsonb) returns jsonb
language sql immutable set search_path = '' as $$
  select coalesce(jsonb_agg(jsonb_build_object('account', nullif(split_part(b.key, ' ', 1), ''), 'entity', split_part(b.key, ' ', 2),
    'action', x.action)
    || case x.action when 'create' then jsonb_build_object('before', x.b, 'after', x.a) else jsonb_build_object(
      'gained', (select count(*) from jsonb_array_elements(x.a) r where not x.b @> r), 'lost',
      (select count(*) from jsonb_array_elements(x.b) r where not x.a @> r)) end
    order by b.key, x.action), '[]')
  from jsonb_each(standing_diff.before) b,
    lateral (select k.key as action, k.value as b, standing_diff.after->b.key->k.key as a from jsonb_each(b.value - '{fields,writes}'::text[]) k) x
  where x.b <> x.a
$$;
comment on function access.standing_diff(jsonb, jsonb) is 'What accounts gain and lose between two answers of access.standing: [{account, entity, action, gained, lost}], for create {before, after}.';

-- Of records that are seen after the change; as null those that were not seen before, where not all of them is seen now.
create or replace function access.fields_diff(before jsonb, after jsonb) returns jsonb
language sql immutable set search_path = '' as $$
  select coalesce(jsonb_agg(jsonb_build_object(
      'account', nullif(split_part(d.who, ' ', 1), ''), 'entity', split_part(d.who, ' ', 2),
      'field', d.field, 'from', d.was, 'to', d.is, 'records', d.records) order by d.who, d.field, d.was nulls last, d.is), '[]')
  from (
    select a.key as who, f.field, x.was, x.is, count(*) as records
    from jsonb_each(fields_diff.after) a,
      lateral (select jsonb_object_keys((fields_diff.before->a.key->'fields') || (a.value->'fields')) as field) f,
      jsonb_array_elements_text(a.value->'read') r (id),
      lateral (
        select case when fields_diff.before->a.key->'read' ? r.id
            then coalesce(fields_diff.before->a.key->'fields'->f.field->>r.id, 'full') end as was,
          coalesce(a.value->'fields'->f.field->>r.id, 'full') as is) x
    where x.was <> x.is or x.was is null and x.is <> 'full'
    group by a.key, f.field, x.was, x.is
  ) d
$$;
comment on function access.fields_diff(jsonb, jsonb) is
  'As what accounts see fields otherwise, between two answers of access.standing: [{account, entity, field, from, to, records}], from and to full, hidden or a mask, from null for records that were not seen.';
