-- What a refused statement says: plain words for everybody, and for those who may ask, which rule decided.

create or replace function access.denial(entity text, action text, record uuid default null) returns jsonb
language plpgsql stable security definer set search_path = '' as $$
declare
  _entity data.entities;
  _o record;
begin
  select e.* into _entity from data.entities e join tenancy.apps a on a.id = e.app_id
  where a.site_id = tenancy.site_id() and a.name || '/' || e.name = denial.entity;
  if _entity.id is null or auth.account_id() is null or not access.may_ask(_entity.site_id) then
    return null;
  end if;
  _o := access.outcome(_entity, auth.account_id(), denial.action, to_jsonb(denial.record));
  return jsonb_build_object('entity', denial.entity, 'action', denial.action, 'outcome', _o.outcome, 'because', _o.because,
    'roles', access.role_names(_entity.site_id, auth.account_id()), 'rules',
    jsonb_path_query_array(_o.rules, '$[*] ? (@.concerns == true)'));
end
$$;
comment on function access.denial(text, text, uuid) is
  'Why the current account may not do something with records of an entity (app/entity) of its site, or with one: what access.explain says, with the rules that concern it. Null for those who may not ask. Internal.';

create or replace function access.deny(entity text, action text, record uuid, message text, hint text) returns void
language plpgsql stable set search_path = '' as $$
begin
  raise exception using errcode = 'RH403', message = deny.message, hint = deny.hint,
    detail = jsonb_strip_nulls(jsonb_build_object('code', 'forbidden',
      'explanation', access.denial(deny.entity, deny.action, deny.record)))::text;
end
$$;
comment on function access.deny(text, text, uuid, text, text) is
  'Raises RH403, with the explanation as a member of DETAIL for those who may ask: owners, admins and who has @policies:define.';

create or replace function access.refuse(entity text, action text) returns void
language plpgsql stable security definer set search_path = '' as $$
declare
  _roles text;
begin
  select string_agg(r.name, ', ' order by r.name) into _roles
  from access.roles r where r.id = any (access.role_ids()) and r.site_id = tenancy.site_id() and not r.is_internal
    and not (r.system and r.name in ('authenticated', 'anonymous'));
  perform access.deny(refuse.entity, refuse.action, null, format('You may not %s records of %s', refuse.action, refuse.entity),
    format('Your roles here: %s. A role with the permission %s:%s is needed.', coalesce(_roles, 'none'), refuse.entity, refuse.action));
end
$$;
comment on function access.refuse(text, text) is 'Raises RH403 with the caller''s roles and the permission that is missing.';

create or replace function access.refuse_row(entity text, action text) returns boolean
language plpgsql set search_path = '' as $$
begin
  perform access.deny(refuse_row.entity, refuse_row.action, null,
    format('You may not %s this record of %s', refuse_row.action, refuse_row.entity),
    'Your rights cover other records, or not what this one would become: a condition of your roles or a policy of the site does not hold for it.');
  return false;
end
$$;
comment on function access.refuse_row(text, text) is 'Raises RH403: rules hold for the caller, but not for this record.';

create or replace function access.refuse_record(entity text, action text, record uuid) returns void
language plpgsql set search_path = '' as $$
begin
  perform access.deny(refuse_record.entity, refuse_record.action, refuse_record.record,
    format('You may see this record of %s, but not %s it', refuse_record.entity, refuse_record.action),
    'Your rights to change records do not cover it.');
end
$$;
comment on function access.refuse_record(text, text, uuid) is 'Raises RH403: the caller may see a record, and not do that with it.';

create or replace function access.refuse_unseen(entity text, action text) returns void
language plpgsql set search_path = '' as $$
begin
  perform access.deny(refuse_unseen.entity, 'read', null,
    format('You may not %s a record of %s that you may not read', refuse_unseen.action, refuse_unseen.entity),
    'Who may create and not read inserts records (POST), and is told no more than their ids.');
end
$$;
comment on function access.refuse_unseen(text, text) is 'Raises RH403: an action asks for the right to read what it writes.';
