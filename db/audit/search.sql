create or replace function audit.check_query(query jsonb) returns void
language plpgsql stable set search_path = '' as $$
declare
  _errors jsonb;
begin
  select jsonb_agg(jsonb_build_object('parameter', q.key, 'message', m.message)) into _errors
  from jsonb_each(case jsonb_typeof(check_query.query) when 'object' then check_query.query else '{}' end) q,
    lateral (select q.value #>> '{}') v (text), lateral (select case
    when q.key <> all (array['action', 'object', 'record', 'seen', 'account', 'outcome', 'ip', 'request_id', 'since', 'until', 'limit',
      'cursor'])
      then 'is unknown: action, object, record, seen, account, outcome, ip, request_id, since, until, limit and cursor are known'
    when jsonb_typeof(q.value) not in ('string', 'number') then 'must be text'
    when q.key in ('since', 'until') and not pg_input_is_valid(v.text, 'timestamptz') then 'must be a time, as 2026-01-31T12:00:00Z'
    when q.key = 'outcome' and v.text not in ('done', 'denied') then 'must be done or denied'
    when q.key = 'ip' and not pg_input_is_valid(v.text, 'cidr') then 'must be an address or a network'
    when q.key = 'seen' and not pg_input_is_valid(v.text, 'uuid') then 'must be the id of a record'
    when q.key = 'limit' and v.text !~ '^([1-9]\d{0,2}|1000)$' then 'must be a whole number from 1 to 1000'
    when q.key = 'cursor'
      and v.text !~ '^\d{1,17}\.[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$' then 'must be the next_cursor of a page'
  end) m (message)
  where m.message is not null;
  if _errors is not null or jsonb_typeof(check_query.query) is distinct from 'object' then
    perform rowhouse.fail(400,
      'The audit log cannot be searched like this: '
      || coalesce((_errors #>> '{0,parameter}') || ' ' || (_errors #>> '{0,message}'), 'the query is no object'),
      'For example {"object": "acme/crm/contacts", "action": "delete", "since": "2026-01-01"}.', 'invalid_query', _errors);
  end if;
end
$$;
comment on function audit.check_query(jsonb) is 'Raises RH400 for a search that cannot be done.';

-- The newest of each site by its index, then the newest of those.
create or replace function audit.find(sites uuid[], organization uuid, query jsonb) returns jsonb
language plpgsql stable set search_path = '' set timezone = 'UTC' set plan_cache_mode = 'force_custom_plan' as $$
declare
  _limit int := coalesce((query->>'limit')::int, 100);
  _at timestamptz := case
    when query ? 'cursor' then to_timestamp(0) + split_part(query->>'cursor', '.', 1)::bigint * interval '1 microsecond' end;
  _until timestamptz := least(_at, coalesce((query->>'until')::timestamptz, 'infinity'), 'infinity');
  _since timestamptz := coalesce((query->>'since')::timestamptz, '-infinity');
  _id uuid := case when query ? 'cursor' then split_part(query->>'cursor', '.', 2)::uuid end;
  _account uuid[];
  _seen jsonb := jsonb_build_array((query->>'seen')::uuid);
  _object text := replace(replace(replace(query->>'object', '\', '\\'), '%', '\%'), '_', '\_');
  _out jsonb;
begin
  if query ? 'account' then
    _account := array(select a.id from auth.accounts a where a.email = lower(query->>'account') or a.id::text = query->>'account');
  end if;
  with wanted as (
    select e.* from unnest(find.sites) s (id), lateral (
      select e.* from audit.entries e
      where e.site_id = s.id and e.at between _since and _until and (_at is null or (e.at, e.id) < (_at, _id))
        and (not query ? 'seen' or e.new ? 'records' and e.new->'records' @> _seen) and audit.is_wanted(e, query, _object, _account)
      order by e.at desc, e.id desc limit _limit + 1) e
    union all
    (select e.* from audit.entries e
      where e.site_id is null and e.organization_id is not distinct from find.organization
        and (find.organization is not null or find.sites = '{}')
        and e.at between _since and _until and (_at is null or (e.at, e.id) < (_at, _id))
        and (not query ? 'seen' or e.new ? 'records' and e.new->'records' @> _seen) and audit.is_wanted(e, query, _object, _account)
      order by e.at desc, e.id desc limit _limit + 1)
  ), page as (
    select w.*, row_number() over (order by w.at desc, w.id desc) as place from wanted w order by w.at desc, w.id desc limit _limit + 1
  )
  select jsonb_build_object('data', coalesce(jsonb_agg(jsonb_build_object('id', p.id, 'at', p.at, 'site', s.name, 'site_id', p.site_id,
    'account', a.email, 'account_id', p.account_id,
        'login', p.login, 'session_id', p.env->'session', 'ip', p.env->'ip', 'user_agent', p.env->'user_agent', 'origin', p.env->'origin',
        'request_id', p.env->'request_id', 'request', p.env->'request',
        'action', p.action, 'object', p.object, 'record', p.record, 'old', p.old, 'new', p.new, 'outcome', p.outcome, 'reason', p.reason)
          order by p.place) filter (where p.place <= _limit), '[]'),
    'meta', jsonb_build_object('next_cursor', max((extract(epoch from p.at) * 1000000)::bigint || '.'
      || p.id) filter (where p.place = _limit and exists (select from page o where o.place > _limit))))
  into _out
  from page p left join tenancy.sites s on s.id = p.site_id left join auth.accounts a on a.id = p.account_id;
  return _out;
end
$$;
comment on function audit.find(uuid[], uuid, jsonb) is 'A page of the entries of sites and of an organization, newest first. Internal: callers check rights.';

create or replace function audit.is_wanted(entry audit.entries, query jsonb, object text, account uuid[]) returns boolean
language sql immutable parallel safe as $$
  select (query->>'action' is null or entry.action = query->>'action')
    and (is_wanted.object is null
      or entry.object like case when is_wanted.object like '%*' then left(is_wanted.object, -1) || '%' else is_wanted.object end)
    and (query->>'record' is null or entry.record = query->>'record')
    and (query->>'outcome' is null or entry.outcome = query->>'outcome')
    and (query->>'request_id' is null or entry.env->>'request_id' = query->>'request_id')
    and (query->>'ip' is null or (entry.env->>'ip')::inet <<= (query->>'ip')::inet)
    and (is_wanted.account is null or entry.account_id = any (is_wanted.account))
$$;
comment on function audit.is_wanted(audit.entries, jsonb, text, uuid[]) is 'Whether an entry is what a search asks for. Internal.';

create or replace function audit.search(site text, query jsonb default '{}') returns jsonb
language plpgsql stable security definer set search_path = '' as $$
begin
  perform audit.check_query(search.query);
  if search.site is null and not auth.is_operator() then
    perform rowhouse.fail(403, 'Only the operator may read the platform''s own log', 'Name a site.', 'forbidden');
  end if;
  return audit.find(case when search.site is null then '{}' else array[(access.require_control(search.site, '@audit:read')).id] end, null,
    search.query);
end
$$;
comment on function audit.search(text, jsonb) is
  'The audit log of a site, newest first, as {"data": [{id, at, account, login, ip, user_agent, request_id, action, object, record, old, new, outcome, reason, …}], "meta": {"next_cursor"}}. query: action, object (acme/crm/*), record, seen (the id of a record that a read showed), account (email or id), outcome (done, denied), ip (also a network), request_id, since, until, limit (100, at most 1000), cursor. Site owners and admins, and who has @audit:read; without a site, what belongs to none, for the operator. RH400, RH403, RH404.';

create or replace function audit.search_organization(organization text, query jsonb default '{}') returns jsonb
language plpgsql stable security definer set search_path = '' as $$
declare
  _organization uuid := tenancy.require_organization(search_organization.organization, array['owner', 'admin']);
begin
  perform audit.check_query(search_organization.query);
  return audit.find(array(
    select s.id from tenancy.sites s where s.organization_id = _organization
    union
    -- Dropped ones; what they did is told here only.
    select e.record::uuid from audit.entries e
    where e.site_id is null and e.organization_id = _organization and e.object = 'tenancy.sites' and e.action = 'delete'), _organization,
      search_organization.query);
end
$$;
comment on function audit.search_organization(text, jsonb) is
  'The same over all sites of an organization, dropped ones too, and what concerns the organization itself. Organization owners and admins. RH400, RH403, RH404.';
