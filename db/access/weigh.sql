-- Every rule that has a say in whether an account may do something, one by one, with what became of it: what explanations,
-- questions and tests of policies are made of. Row-level security decides by the same conditions, compiled.

create or replace function access.holds(sql text, roles uuid[], account jsonb, env jsonb) returns boolean
language plpgsql stable set search_path = '' as $$
declare
  _holds boolean;
begin
  if holds.sql is null or holds.sql = '' then
    return true;
  end if;
  execute format('select %s from (select $1 as _roles, $2 as _account, $3 as _env) s', holds.sql) into _holds
    using holds.roles, holds.account, holds.env;
  return coalesce(_holds, false);
end
$$;
comment on function access.holds(text, uuid[], jsonb, jsonb) is 'Whether what a rule asks of roles, account and environment (access.subject_sql) is so; null is not.';

-- A stored record by its id, or one that nobody has written, by its values.
create or replace function access.record_source(entity data.entities, record jsonb) returns text
language sql stable set search_path = '' as $$
  select case jsonb_typeof(record_source.record)
    when 'string' then format('(select * from %s where id = %L::uuid)', data.storage_table(entity, a.schema_name),
      record_source.record #>> '{}')
    else format('(select * from jsonb_populate_record(null::%s, %L::jsonb))', data.storage_table(entity, a.schema_name),
      record_source.record || jsonb_build_object('_schema_version', (entity).version)
        || case (entity).storage when 'jsonb' then jsonb_build_object('data', data.record_data(record_source.record)) else '{}' end) end
  from tenancy.apps a where a.id = (entity).app_id
$$;
comment on function access.record_source(data.entities, jsonb) is 'A record, given by its id or by its values, as a subquery shaped like the entity''s storage.';

drop function if exists access.fits(data.entities, jsonb, jsonb, text, text);
create or replace function access.fits(entity data.entities, condition jsonb, record jsonb, action text, effect text, account jsonb)
  returns boolean
language plpgsql stable set search_path = '' as $$
declare
  _fits boolean;
begin
  if fits.condition is null or fits.record is null then
    return fits.condition is null;
  end if;
  execute format('select (%s) from %s t',
    access.compile_condition(entity.id, fits.condition, 't', format('(%L::jsonb)', fits.account), action => fits.action,
    effect => fits.effect),
    access.record_source(entity, fits.record)) into _fits;
  return coalesce(_fits, false);
end
$$;
comment on function access.fits(data.entities, jsonb, jsonb, text, text, jsonb) is 'Whether a record fulfils the condition of a rule for an account (as access.account() gives it); without a record, whether there is none to fulfil.';

create or replace function access.claims() returns jsonb
language sql stable set search_path = '' as $$
  select jsonb_build_object('account', coalesce(current_setting('rowhouse.account', true), ''),
    'site', coalesce(current_setting('rowhouse.site', true), ''),
    'roles', coalesce(current_setting('rowhouse.roles', true), ''),
    'rights', coalesce(current_setting('rowhouse.rights', true), ''),
    'attributes', coalesce(current_setting('rowhouse.attributes', true), ''))
$$;
comment on function access.claims() is 'The claims of this transaction, for access.claim to put back.';

-- An error on the way takes the settings back with everything else that was done.
create or replace function access.claim(claims jsonb) returns void
language plpgsql set search_path = '' as $$
declare
  _name text;
begin
  foreach _name in array array['account', 'site', 'roles', 'rights', 'attributes'] loop
    execute format('set local rowhouse.%s = %L', _name, coalesce(claim.claims->>_name, ''));
  end loop;
end
$$;
comment on function access.claim(jsonb) is 'Makes the account and site of claims those of this transaction. Internal: who calls puts the former back.';

-- Somebody who is nobody in particular: {"roles", "groups", "attributes", "email"}.
create or replace function access.imagined_roles(site_id uuid, subject jsonb) returns uuid[]
language sql stable set search_path = '' as $$
  select coalesce(array_agg(distinct h.held_id), '{}')
  from (
    select access.require_role(imagined_roles.site_id, r) as id from jsonb_array_elements_text(coalesce(subject->'roles', '[]')) r
    union all
    select a.role_id from access.assignments a join access.groups g on g.id = a.group_id
    where g.site_id = imagined_roles.site_id and subject->'groups' ? g.name
    union all
    select r.id
    from access.roles r
    where r.site_id = imagined_roles.site_id and r.app_id is null and r.system and r.name in ('authenticated', 'anonymous')
  ) given join access.held_roles h on h.role_id = given.id
$$;
comment on function access.imagined_roles(uuid, jsonb) is 'The roles that a member with these roles and groups would hold. RH404.';

create or replace function access.imagined_account(roles uuid[], subject jsonb) returns jsonb
language sql stable set search_path = '' as $$
  select jsonb_build_object('id', '00000000-0000-7000-8000-000000000000', 'email', subject->'email',
    'attributes', coalesce(subject->'attributes', '{}'),
    'groups', coalesce(subject->'groups', '[]'), 'roles',
    (select coalesce(jsonb_agg(r.name order by r.name), '[]') from access.roles r
    where r.id = any (imagined_account.roles) and not r.is_internal))
$$;
comment on function access.imagined_account(uuid[], jsonb) is 'An account that is nobody in particular, as conditions see it.';

-- A record that nobody has written may belong to whom is asked about: {"created_by": "$account.id"}.
create or replace function access.record_of(record jsonb, account jsonb) returns jsonb
language sql immutable set search_path = '' as $$
  select case jsonb_typeof(record) when 'object' then (
    select coalesce(jsonb_object_agg(k.key, case k.value when '"$account.id"' then account->'id' else k.value end), '{}')
    from jsonb_each(record) k) else record end
$$;
comment on function access.record_of(jsonb, jsonb) is 'The record of a question, with the account''s id where it says $account.id.';

drop function if exists access.weigh(data.entities, uuid, text, jsonb);
create or replace function access.weigh(entity data.entities, account_id uuid, action text, record jsonb default null,
  subject jsonb default null)
returns table (effect text, kind text, name text, said text, priority int, condition jsonb, concerns boolean, fits boolean)
language plpgsql set search_path = '' as $$
#variable_conflict use_column
declare
  _path text := access.entity_path(weigh.entity);
  _roles uuid[];
  _account jsonb;
  _env jsonb := access.env();
  _before jsonb := access.claims();
begin
  perform access.claim(jsonb_build_object('account', weigh.account_id, 'site', (weigh.entity).site_id));
  _roles := case when weigh.subject is null then access.roles_of((weigh.entity).site_id, weigh.account_id)
    else access.imagined_roles((weigh.entity).site_id, weigh.subject) end;
  _account := case when weigh.subject is null then access.account() else access.imagined_account(_roles, weigh.subject) end;
  return query
    select 'allow', 'permission', access.role_path(r), access.permission_text(p), 0, null::jsonb, true, true
    from access.permissions p join access.roles r on r.id = p.role_id
    where p.role_id = any (_roles) and p.site_id = (weigh.entity).site_id and p.is_plain and p.action in (weigh.action, '*')
      and p.entity = any (access.patterns(_path));
  return query
    select s.effect, case when s.policy_id is null then 'permission' else 'policy' end,
      coalesce(access.policy_path(o), access.role_path(r)),
      coalesce(o.effect || 's ' || array_to_string(o.actions, ', '), access.permission_text(p)), coalesce(o.priority, 0),
      nullif(coalesce(o.condition,
        case when p.own and s.action <> 'create' then access.both_conditions(p.condition, '{"created_by": "$account.id"}')
        else p.condition end), '{}'),
      access.holds(access.subject_sql(s.subject, case when p.id is not null then array[p.role_id] end, s.action, s.effect), _roles,
        _account, _env),
      access.fits(weigh.entity, u.row_condition, access.record_of(weigh.record, _account), s.action, s.effect, _account)
    from access.rule_sources s
    join access.rules u on (u.entity_id, u.action, u.effect, u.number) = (s.entity_id, s.action, s.effect, s.number)
    left join lateral unnest(s.permission_ids) i (id) on true
    left join access.permissions p on p.id = i.id
    left join access.roles r on r.id = p.role_id
    left join access.policies o on o.id = s.policy_id
    where s.entity_id = (weigh.entity).id and s.action = weigh.action and (u.effect = 'allow' or u.fields is null)
      and (p.id is null or not p.is_plain);
  perform access.claim(_before);
end
$$;
comment on function access.weigh(data.entities, uuid, text, jsonb, jsonb) is
  'The rules about an action on an entity, each with whether it concerns the account, or a subject {roles, groups, attributes, email} that is nobody in particular, now and whether the record (an id or values; null for none in particular) fulfils its condition. Internal: callers check who asks.';

drop function if exists access.outcome(data.entities, uuid, text, jsonb);
create or replace function access.outcome(entity data.entities, account_id uuid, action text, record jsonb default null,
  subject jsonb default null, out outcome text, out because text, out rules jsonb)
language plpgsql set search_path = '' as $$
begin
  with rule as materialized (
    select w.*, case
        when not w.concerns then 'silent'
        when w.fits then w.effect
        when outcome.record is null and w.effect = 'allow' then 'maybe allow'
        when outcome.record is null then 'maybe deny'
        else 'silent' end as says,
      case w.kind when 'policy' then 'the policy ' || w.name else format('the permission %s of the role %s', w.said, w.name) end
        || case when w.condition is null then '' else ' (' || access.condition_text(w.condition) || ')' end as words
    from access.weigh(entity, outcome.account_id, outcome.action, outcome.record, outcome.subject) w
  )
  select case
      when bool_or(r.says = 'deny') then 'deny'
      when bool_or(r.says = 'allow') and not bool_or(r.says = 'maybe deny') then 'allow'
      when bool_or(r.says in ('allow', 'maybe allow')) then 'depends'
      else 'deny' end,
    case
      when bool_or(r.says = 'deny') then 'denied by ' || (array_agg(r.words order by r.says = 'deny' desc, r.priority desc, r.words))[1]
      when bool_or(r.says in ('allow', 'maybe allow'))
        then case when bool_or(r.says = 'allow') then 'allowed by ' else 'allowed, for records that fit, by ' end
        || (array_agg(r.words order by r.says = 'allow' desc, r.says = 'maybe allow' desc, r.priority desc, r.words))[1]
        || coalesce(', but not where ' || string_agg(r.words, ' or ' order by r.words) filter (where r.says = 'maybe deny') || ' says no',
          '')
      when bool_or(r.effect = 'allow' and r.concerns) then 'nothing allows it for this record: what is allowed of others is by '
        || string_agg(r.words, ', ' order by r.words) filter (where r.effect = 'allow' and r.concerns)
      else 'nothing allows it: no role of this account has a permission for it, and no policy allows it' end,
    coalesce(jsonb_agg(jsonb_build_object('effect', r.effect, 'kind', r.kind, 'name', r.name, 'priority', r.priority, 'says', r.says,
      'concerns', r.concerns, 'fits', r.fits,
      'words', r.words) || access.member('condition', r.condition) order by r.says, r.priority desc, r.words), '[]')
  into outcome.outcome, outcome.because, outcome.rules
  from rule r;
end
$$;
comment on function access.outcome(data.entities, uuid, text, jsonb, jsonb) is
  'What the rules come to for an account (or a subject that is nobody in particular), an action and a record: allow, deny, or depends (on which record, where none is given), with the decisive rule in words and all rules as [{effect, kind, name, says, concerns, fits, words}]. Internal.';
