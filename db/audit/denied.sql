create or replace function audit.note_denied(denials jsonb) returns void
language sql security definer set search_path = '' as $$
  insert into audit.entries (at, site_id, organization_id, account_id, env, action, object, outcome, reason, new)
  select coalesce(d.at, clock_timestamp()), s.id, s.organization_id, d.account, d.env, left(coalesce(d.method, ''), 20),
    left(coalesce(d.path, ''), 300), 'denied', left(d.reason, 500),
    jsonb_strip_nulls(jsonb_build_object('status', d.status, 'code', left(d.code, 60), 'not_recorded', nullif(d.not_recorded, 0)))
  from (select * from jsonb_to_recordset(note_denied.denials)
      as d (at timestamptz, site text, app text, account uuid, env jsonb, method text, path text, status int, code text, reason text,
        not_recorded bigint) limit 1000) d
  left join lateral tenancy.resolve(d.site, d.app) r on true
  left join tenancy.sites s on s.id = r.site_id
$$;
comment on function audit.note_denied(jsonb) is
  'Records requests that were refused: a JSON array of at most 1,000 of {at, site, app, account, env, method, path, status, code, reason, not_recorded}; the last counts those before it that were too many to be recorded. For the gateway.';
