-- What opens a request asks which roles its account holds: 35 µs of 71 by the tables, 13 where
-- what was found is remembered, and believed for as long as nothing it was found by has changed.

-- The nil UUID stands for all accounts of a site: what roles inherit, and what is assigned to groups.
create or replace function access.count_role_change() returns trigger
language plpgsql security definer set search_path = '' as $$
declare
  _of record;
begin
  for _of in
    select distinct s.id as site_id, coalesce((c.row->>'account_id')::uuid, '00000000-0000-0000-0000-000000000000') as account_id
    from (select to_jsonb(c) from changed c) c (row)
    join tenancy.sites s on s.id = (c.row->>'site_id')::uuid -- one that is being dropped takes its counts with it
  loop
    -- A slot that nobody holds, as in data.count_change: two changes neither wait for each other nor deadlock.
    if current_setting('transaction_isolation') = 'read committed' then
      update access.role_changes r set count = r.count + 1
      where r.site_id = _of.site_id and r.account_id = _of.account_id
        and r.slot = (
          select x.slot from access.role_changes x where x.site_id = _of.site_id and x.account_id = _of.account_id
          limit 1 for update skip locked);
    end if;
    if not found or current_setting('transaction_isolation') <> 'read committed' then
      insert into access.role_changes (site_id, account_id) values (_of.site_id, _of.account_id);
    end if;
  end loop;
  return null;
end
$$;
comment on function access.count_role_change() is
  'Counts a change of what roles are held by; the count is seen when, and only when, the change is.';

do $$
declare
  _table text;
  _event record;
begin
  foreach _table in array array['access.held_roles', 'access.assignments', 'access.group_members', 'tenancy.site_members'] loop
    for _event in
      select * from (values ('insert', 'new'), ('update', 'old'), ('update', 'new'), ('delete', 'old')) e (name, rows)
    loop
      execute format(
        'create or replace trigger %I after %s on %s referencing %s table as changed
         for each statement execute function access.count_role_change()',
        format('count_role_%s_%s', _event.name, _event.rows), _event.name, _table, _event.rows);
    end loop;
  end loop;
end
$$;

-- Nothing is remembered where a condition or a delegator is to be asked each time, and nobody waits to remember.
create or replace function access.remember_roles(site_id uuid, account_id uuid) returns uuid[]
language plpgsql strict security definer set search_path = '' as $$
declare
  -- First the count: a change that comes in between makes what is remembered old, never wrong.
  _changes bigint := (
    select coalesce(sum(c.count), 0) from access.role_changes c
    where c.site_id = remember_roles.site_id
      and c.account_id in (remember_roles.account_id, '00000000-0000-0000-0000-000000000000'));
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
select r.site_id, r.account_id, r.role_ids from access.remembered_roles r
where r.until > now()
  and r.changes = (
    select coalesce(sum(c.count), 0) from access.role_changes c
    where c.site_id = r.site_id and c.account_id in (r.account_id, '00000000-0000-0000-0000-000000000000'));
comment on view access.known_roles is
  'The roles that accounts hold in sites, where what was remembered still holds; else access.remember_roles says which. For the gateway.';
