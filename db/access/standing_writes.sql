-- Which fields accounts may write, by the rules as they are written down: of standing, that which access.simulate compares.

create or replace function access.standing_writes(entity data.entities, action text)
returns table (field text, in_general text, of_row text)
language sql stable set search_path = '' as $$
  with test as materialized (select * from access.rule_tests(entity, standing_writes.action)),
  field as (
    select c.field,
      access.any_of(array_agg(t.test) filter (where t.effect = 'allow')) as allows,
      access.any_of(array_agg(t.test) filter (where t.effect = 'deny')) as denies,
      access.any_of(array_agg(t.holds) filter (where t.effect = 'allow')) as may,
      access.any_of(array_agg(t.holds) filter (where t.effect = 'allow' and not t.is_conditional)) as may_all,
      access.any_of(array_agg(t.holds) filter (where t.effect = 'deny' and not t.is_conditional)) as denies_all,
      access.any_of(array_agg(t.holds) filter (where t.effect = 'deny')) as denies_some
    from access.closed_fields(entity, standing_writes.action) c
    left join test t on t.number = any (case t.effect when 'allow' then c.allowing else c.denying end)
    group by c.field
  )
  select f.field,
    format('case when %s or not %s then ''deny'' when %s then ''depends'' when %s then ''allow'' else ''depends'' end',
      f.denies_all, f.may, f.denies_some, f.may_all),
    format('(%s and not %s)', f.allows, f.denies)
  from field f
$$;
comment on function access.standing_writes(data.entities, text) is
  'The fields of an entity that not all who may create or update (action) its records may write, each with the SQL that tells whether an '
  'account may: in general (allow, depends or deny), and in a storage row (alias t); over what access.predicates is.';

-- Of records that may be changed after the change; as null those that could not be before, where the field is closed now.
create or replace function access.writes_diff(before jsonb, after jsonb) returns jsonb
language sql immutable set search_path = '' as $$
  with asked as (
    select a.key as who, k.action, f.field, b.one as before, a.value as after
    from jsonb_each(writes_diff.after) a,
      lateral (select writes_diff.before->a.key) b (one),
      (values ('create'), ('update')) k (action),
      lateral (select jsonb_object_keys((b.one->'writes'->k.action) || (a.value->'writes'->k.action))) f (field)
  ), told as (
    select x.who, x.action, x.field, null::text as record,
      case when x.before->>'create' <> 'deny' then coalesce(x.before->'writes'->'create'->>x.field, 'allow') end as was,
      coalesce(x.after->'writes'->'create'->>x.field, 'allow') as becomes
    from asked x where x.action = 'create' and x.after->>'create' <> 'deny'
    union all
    select x.who, x.action, x.field, r.id,
      case when x.before->'update' ? r.id then w.was end,
      w.becomes
    from asked x, jsonb_array_elements_text(x.after->'update') r (id), lateral (
      select case when coalesce(x.before->'writes'->'update'->x.field ? r.id, true) then 'allow' else 'deny' end,
        case when coalesce(x.after->'writes'->'update'->x.field ? r.id, true) then 'allow' else 'deny' end) w (was, becomes)
    where x.action = 'update'
  ), counted as (
    select t.who, t.action, t.field, t.was, t.becomes, count(t.record) as records
    from told t where t.was <> t.becomes or t.was is null and t.becomes <> 'allow'
    group by t.who, t.action, t.field, t.was, t.becomes
  )
  select coalesce(jsonb_agg(
    jsonb_build_object('account', nullif(split_part(c.who, ' ', 1), ''), 'entity', split_part(c.who, ' ', 2),
      'action', c.action, 'field', c.field, 'from', c.was, 'to', c.becomes)
    || case c.action when 'update' then jsonb_build_object('records', c.records) else '{}' end
    order by c.who, c.action, c.field, c.was nulls last, c.becomes), '[]')
  from counted c
$$;
comment on function access.writes_diff(jsonb, jsonb) is
  'Which fields accounts may write otherwise, between two answers of access.standing: [{account, entity, action, field, from, to, '
  'records}], from and to allow, depends or deny, from null where they could not create or change the record at all; records of update.';
