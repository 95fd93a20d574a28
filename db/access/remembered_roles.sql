-- What opens a request asks which roles its account holds: 35 µs of 71 by the tables, 13 where
-- what was found is remembered, and believed for as long as nothing it was found by has changed.

-- Nothing is remembered where a condition or a delegator is to be asked each time, and nobody waits to remember.
create or replace function access.remember_roles(site_id uuid, account_id uuid) returns uuid[]
language plpgsql strict security definer set search_path = '' as $$
declare
  -- First the count: a change that comes in between makes what is remembered old, never wrong.
  _changes bigint := (
    select c.changes from access.change_count(remember_roles.site_id, remember_roles.account_id) c);
  _roles uuid[] := access.roles_of(remember_roles.site_id, remember_roles.account_id);
  _until timestamptz;
  _depends boolean;
begin
  select coalesce(min(t.at) filter (where t.at > now()), 'infinity'),
    bool_or(a.condition is not null or a.delegator_id is not null)
  into _until, _depends
  from access.assignments a, unnest(array[a.valid_from, a.valid_until]) t (at)
  where a.site_id = remember_roles.site_id
    and (a.account_id = remember_roles.account_id
      or a.group_id = any (access.member_groups(remember_roles.site_id, remember_roles.account_id)));
  if _depends
    or current_setting('transaction_read_only') = 'on'
    or current_setting('transaction_isolation') <> 'read committed'
    or not pg_try_advisory_xact_lock(
      hashtextextended(format('access.remember/%s/%s', remember_roles.site_id, remember_roles.account_id), 0))
  then
    return _roles;
  end if;
  insert into access.remembered_roles as r (site_id, account_id, changes, role_ids, until)
  values (remember_roles.site_id, remember_roles.account_id, _changes, _roles, _until)
  on conflict on constraint remembered_roles_pkey
    do update set changes = excluded.changes, role_ids = excluded.role_ids, until = excluded.until;
  return _roles;
end
$$;
comment on function access.remember_roles(uuid, uuid) is
  'The roles that an account holds in a site now, remembered for the requests to come. For the gateway.';

create or replace view access.known_roles as
select r.site_id, r.account_id, r.role_ids, r.changes, r.until from access.remembered_roles r
where r.until > now() and r.changes = (select c.changes from access.change_count(r.site_id, r.account_id) c);
comment on view access.known_roles is
  'The roles that accounts hold in sites, where what was remembered still holds (changes as access.change_count says, until a moment); else access.remember_roles says which. For the gateway.';
