-- Why somebody may or may not do something; who may; and what somebody may.

-- Who administers a site or defines its policies hears everything; others hear about themselves, in plain words.
create or replace function access.may_ask(site_id uuid) returns boolean
language sql stable set search_path = '' as $$ select access.may_control(may_ask.site_id, '@policies', 'define') $$;
comment on function access.may_ask(uuid) is 'Whether the current account may know the roles and policies of a site in full.';

-- Who may not ask is not told either whether somebody has an account.
create or replace function access.asked_account(site_id uuid, account text) returns uuid
language plpgsql stable set search_path = '' as $$
begin
  if not access.may_ask(asked_account.site_id) and (select a.email from auth.accounts a where a.id = auth.account_id())
    is distinct from lower(asked_account.account)
  then
    perform rowhouse.fail(403, 'You may ask about yourself only', 'Owners, admins and who has @policies:define ask about others.',
      'forbidden');
  end if;
  return case when asked_account.account is not null then auth.require_account(asked_account.account) end;
end
$$;
comment on function access.asked_account(uuid, text) is
  'The account with this email, null for none, that the caller asks about: its own, or as somebody who may ask about others. Internal. '
  'RH403, RH404.';

create or replace function access.explain(account text, entity text, action text, record uuid default null) returns jsonb
language plpgsql stable security definer set search_path = '' as $$
declare
  _entity data.entities := data.require_entity(explain.entity);
  _asks boolean := access.may_ask(_entity.site_id);
  _account uuid := access.asked_account(_entity.site_id, explain.account);
  _o record;
  _exists boolean;
begin
  perform access.check_action(explain.action);
  _o := access.outcome(_entity, _account, explain.action, to_jsonb(explain.record));
  if explain.record is not null then
    execute format('select exists (select from %s s)', access.record_source(_entity, to_jsonb(explain.record))) into _exists;
    if not _exists and _asks then
      perform data.write_error(404, _entity.name, explain.record);
    elsif not _asks and _o.outcome <> 'allow' then
      -- No more than a refused request tells: neither whether there is such a record nor which rule hides it.
      return jsonb_build_object('outcome', 'deny', 'because', 'nothing allows it, or there is no such record',
        'roles', access.role_names(_entity.site_id, _account));
    end if;
  end if;
  return jsonb_build_object('outcome', _o.outcome,
      'because', case when _asks then _o.because else access.plain_reason(_o.outcome, _o.rules) end, 'roles',
      access.role_names(_entity.site_id, _account))
    || case when _asks then jsonb_build_object('account', explain.account, 'entity', explain.entity, 'action', explain.action,
      'rules', _o.rules) else '{}' end;
end
$$;
comment on function access.explain(text, text, text, uuid) is
  'Whether an account (its email; null for somebody without one) may create, read, update or delete records of an entity (acme/crm/posts), or one record: {"outcome": "allow", "deny" or "depends" (on the record), "because" (the decisive role, permission, policy and condition, in words), "roles", "rules" (each with whether it concerns the account and whether the record fits)}. Owners, admins and @policies:define ask about everybody; others about themselves, without rules, conditions and policies. RH400, RH403, RH404.';

create or replace function access.check_action(action text) returns void
language plpgsql immutable set search_path = '' as $$
begin
  if check_action.action is null or not check_action.action = any (array['create', 'read', 'update', 'delete']) then
    perform rowhouse.fail(400, format('%L is not an action', left(check_action.action, 40)), 'Actions: create, read, update, delete.',
      'invalid_action');
  end if;
end
$$;
comment on function access.check_action(text) is 'Raises RH400 unless action is create, read, update or delete.';

create or replace function access.role_names(site_id uuid, account_id uuid) returns jsonb
language sql stable set search_path = '' as $$
  select coalesce(jsonb_agg(access.role_path(r) order by access.role_path(r)), '[]') from access.roles r
  where r.id = any (access.roles_of(role_names.site_id, role_names.account_id)) and not r.is_internal
$$;
comment on function access.role_names(uuid, uuid) is 'The names of the roles that an account holds in a site now.';

-- Conditions tell what is protected, and their values may be what somebody must not know.
create or replace function access.plain_reason(outcome text, rules jsonb) returns text
language sql immutable set search_path = '' as $$
  select case plain_reason.outcome
    when 'deny' then 'nothing allows it, or a policy of the site denies it'
    else case plain_reason.outcome when 'allow' then 'allowed by ' else 'allowed, for some records, by ' end || coalesce((
      select split_part(r->>'words', ' (', 1) from jsonb_array_elements(plain_reason.rules) r
      where r->>'kind' = 'permission' and r->>'says' in ('allow', 'maybe allow')
      order by r->>'says', r->>'words' limit 1), 'a policy of the site') end
$$;
comment on function access.plain_reason(text, jsonb) is
  'Why something is allowed, or not, for those who are not told conditions and policies; rules as access.outcome gives them.';

create or replace function access.who_can(entity text, action text, record uuid default null, max int default 100, after text default '')
  returns jsonb
language plpgsql stable security definer set search_path = '' as $$
declare
  _entity data.entities := data.require_entity(who_can.entity);
  _member record;
  _o record;
  _out jsonb := '[]';
begin
  perform access.check_action(who_can.action);
  if not access.may_ask(_entity.site_id) then
    perform rowhouse.fail(403, 'Only owners, admins and who has @policies:define may ask who can',
      'Ask about yourself: access.explain(email, entity, action).', 'forbidden');
  elsif who_can.max not between 1 and 1000 then
    perform rowhouse.fail(400, 'max is from 1 to 1000', null, 'invalid_max');
  end if;
  for _member in
    select a.id, a.email from tenancy.site_members m join auth.accounts a on a.id = m.account_id
    where m.site_id = _entity.site_id and a.deleted_at is null and a.email > who_can.after order by a.email
  loop
    _o := access.outcome(_entity, _member.id, who_can.action, to_jsonb(who_can.record));
    if _o.outcome <> 'deny' then
      _out := _out || jsonb_build_object('account', _member.email, 'outcome', _o.outcome, 'because', _o.because);
      exit when jsonb_array_length(_out) = who_can.max;
    end if;
  end loop;
  return jsonb_build_object('accounts', _out, 'next', case when jsonb_array_length(_out) = who_can.max then _out #>> '{-1,account}' end,
    'anonymous', (access.outcome(_entity, null, who_can.action, to_jsonb(who_can.record))).outcome);
end
$$;
comment on function access.who_can(text, text, uuid, int, text) is
  'The members of a site who may do action with an entity''s records, or with one record, by their emails: {"accounts": [{account, outcome, because}], "next" (after for the next page, of max at most 1,000), "anonymous" (what holds without logging in)}. Owners, admins and @policies:define. RH400, RH403, RH404.';

create or replace function access.what_can(site text, account text) returns jsonb
language plpgsql stable security definer set search_path = '' as $$
declare
  _site tenancy.sites := tenancy.require_site(what_can.site);
  _asks boolean := access.may_ask(_site.id);
  _account uuid := coalesce(access.asked_account(_site.id, what_can.account), auth.require_account(what_can.account));
begin
  return jsonb_build_object('account', what_can.account, 'roles', access.role_names(_site.id, _account), 'entities', (
    select coalesce(jsonb_agg(x.answer order by x.path), '[]')
    from (
      select access.entity_path(e) as path, jsonb_build_object('entity', access.entity_path(e)) || (
        select jsonb_object_agg(a, case when o.outcome = 'deny' and not _asks then '{"outcome": "deny"}'
          else jsonb_build_object('outcome', o.outcome,
            'because', case when _asks then o.because else access.plain_reason(o.outcome, o.rules) end) end)
        from unnest(array['create', 'read', 'update', 'delete']) a, lateral access.outcome(e, _account, a) o) as answer
      from data.entities e where e.site_id = _site.id) x));
end
$$;
comment on function access.what_can(text, text) is
  'What a member may do in a site: {"account", "roles", "entities": [{"entity", "create", "read", "update", "delete": {outcome, because}}]}; depends is of some records. Owners, admins and @policies:define ask about everybody, others about themselves. RH403, RH404.';
