-- Who asks, and under which circumstances: what conditions call $account and $env.

-- 13 µs for an attribute; as a function of SQL, all of whose parts are made ready, 100.
create or replace function access.account_value(path text[]) returns jsonb
language plpgsql stable security definer parallel safe set search_path = '' as $$
begin
  case path[1]
    when 'id' then
      return to_jsonb(auth.account_id());
    when 'email' then
      return (select to_jsonb(a.email) from auth.accounts a where a.id = auth.account_id());
    when 'attributes' then
      return (select a.attributes #> path[2:] from access.account_attributes a
        where a.site_id = tenancy.site_id() and a.account_id = auth.account_id());
    when 'roles' then
      return (select coalesce(jsonb_agg(r.name order by r.name), '[]') from access.roles r
        where r.id = any (access.role_ids()) and not r.is_internal);
    when 'groups' then
      return access.group_names(tenancy.site_id(), auth.account_id());
    else
      return null;
  end case;
end
$$;
comment on function access.account_value(text[]) is
  'One part of access.account() without reading the others: {id}, {email}, {roles}, {groups}, {attributes,region}; null when there is none.';

create or replace function access.subject(site_id uuid, account_id uuid) returns jsonb
language sql stable security definer parallel safe set search_path = '' as $$
  select jsonb_build_object('id', subject.account_id,
    'email', (select a.email from auth.accounts a where a.id = subject.account_id),
    'attributes', coalesce((select a.attributes from access.account_attributes a
      where a.site_id = subject.site_id and a.account_id = subject.account_id), '{}'),
    'groups', access.group_names(subject.site_id, subject.account_id))
$$;
comment on function access.subject(uuid, uuid) is
  'An account as conditions see it in a site, but for its roles, which may themselves depend on such a condition: {id, email, attributes, groups}.';

create or replace function access.account() returns jsonb
language sql stable security definer parallel safe set search_path = '' as $$
  select access.subject(tenancy.site_id(), auth.account_id()) || jsonb_build_object('roles', access.account_value('{roles}'))
$$;
comment on function access.account() is
  'The account of the claims in the site of the claims, as conditions see it: {id, email, attributes, roles, groups}, roles and groups by their names.';

-- The gateway's own address says nothing of who asks: without rowhouse.env a connection of the gateway has no address.
create or replace function access.env() returns jsonb
language plpgsql stable security definer parallel safe set search_path = '' as $$
declare
  _text text := coalesce(current_setting('rowhouse.env', true), '');
  _given jsonb := '{}';
  _zone text := (select s.settings->>'time_zone' from tenancy.sites s where s.id = tenancy.site_id());
  _local timestamp;
begin
  if length(_text) between 2 and 20000 and pg_input_is_valid(_text, 'jsonb') then
    _given := case jsonb_typeof(_text::jsonb) when 'object' then _text::jsonb else '{}' end;
  elsif _text = '' and session_user <> 'rowhouse_gateway' and inet_client_addr() is not null then
    _given := jsonb_build_object('ip', host(inet_client_addr()));
  end if;
  -- Nothing may fail here, and a block that catches would end parallel plans: "Mon" could stand behind a time, too.
  _local := now() at time zone case when _zone ~ '^[A-Za-z]+/|^(GMT|CET|EET|WET|MET|EST|MST|HST)$'
    and pg_input_is_valid('2026-01-01 00:00:00 ' || _zone, 'timestamptz') then _zone else 'UTC' end;
  return (select coalesce(jsonb_object_agg(k, _given->k), '{}') from unnest(array['ip', 'user_agent', 'origin']) k
    where jsonb_typeof(_given->k) = 'string')
    || jsonb_build_object('now', to_char(now() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), 'today', to_char(_local, 'YYYY-MM-DD'),
      'time', to_char(_local, 'HH24:MI'), 'weekday', extract(isodow from _local)::int);
end
$$;
comment on function access.env() is
  'The circumstances of a statement, as conditions see them: {now, today, time, weekday, ip, user_agent, origin}. today, time (09:30) and weekday (1 Monday to 7 Sunday) are in the time zone of the site''s settings, else UTC; what is not known is left out.';
