-- What requests open with is remembered, and believed for as long as nothing has changed that it was found by: what changes it is
-- counted here. The nil UUID stands for all accounts of a site: what roles inherit and permit, what is assigned to groups, its apps.

-- Not the next number: a database that is restored would come to the same again, with other rights, and the gateway remember the first.
create or replace function access.another_count(count int) returns int
language sql volatile parallel restricted
return ((another_count.count::bigint + 1 + floor(random() * 2147483645)::bigint) % 2147483647)::int;
comment on function access.another_count(int) is 'A number, by chance, that is not count.';

create or replace function access.count_change(site_id uuid, account_id uuid) returns void
language plpgsql security definer set search_path = '' as $$
begin
  -- A slot that nobody holds, as in data.count_change: two changes neither wait for each other nor deadlock.
  if current_setting('transaction_isolation') = 'read committed' then
    update access.role_changes r set count = access.another_count(r.count)
    where r.site_id = count_change.site_id and r.account_id = count_change.account_id
      and r.slot = (
        select x.slot from access.role_changes x where x.site_id = count_change.site_id and x.account_id = count_change.account_id
        limit 1 for update skip locked);
  end if;
  if not found or current_setting('transaction_isolation') <> 'read committed' then
    insert into access.role_changes (site_id, account_id, count)
    -- A site that is being dropped takes its counts with it.
    select s.id, count_change.account_id, access.another_count(0) from tenancy.sites s where s.id = count_change.site_id;
  end if;
end
$$;
comment on function access.count_change(uuid, uuid) is
  'Counts a change of what the requests of an account of a site open with; the count is seen when, and only when, the change is. Internal.';

create or replace view access.counted_changes as select c.site_id, c.account_id, c.count from access.role_changes c;
comment on view access.counted_changes is 'What access.change_count sums up, for who may read no table. For the gateway.';

create or replace function access.change_count(site_id uuid, account_id uuid) returns table (changes bigint)
language sql stable rows 1
begin atomic
  select coalesce(sum(c.count), 0) from access.counted_changes c
  where c.site_id = change_count.site_id and c.account_id in (change_count.account_id, '00000000-0000-0000-0000-000000000000');
end;
comment on function access.change_count(uuid, uuid) is
  'A number that is another one whenever what the requests of an account of a site open with has changed; a part of the statement that asks. For the gateway.';

create or replace function access.count_role_change() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  perform access.count_change(c.site_id, c.account_id)
  from (
    select distinct (c.row->>'site_id')::uuid, coalesce((c.row->>'account_id')::uuid, '00000000-0000-0000-0000-000000000000')
    from (select to_jsonb(c) from changed c) c (row)) c (site_id, account_id);
  return null;
end
$$;
comment on function access.count_role_change() is 'Counts a change of what roles are held by, of what they permit, and of attributes.';

do $$
declare
  _table text;
  _event record;
begin
  foreach _table in array array['access.held_roles', 'access.permissions', 'access.assignments', 'access.group_members',
    'access.account_attributes', 'tenancy.site_members']
  loop
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

create or replace function access.count_session_change() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  perform access.count_change(m.site_id, m.account_id)
  from tenancy.site_members m
  where m.account_id = old.account_id and (old.site_id is null or m.site_id = old.site_id);
  return null;
end
$$;
comment on function access.count_session_change() is 'Counts the end of a session in the sites it was for.';

-- A refresh, which lets a session live longer, changes nothing of what was found.
create or replace trigger count_session_update after update on auth.sessions
for each row when (old.ended_at is distinct from new.ended_at or new.expires_at < old.expires_at
  or (old.site_id, old.account_id) is distinct from (new.site_id, new.account_id))
execute function access.count_session_change();
create or replace trigger count_session_delete after delete on auth.sessions
for each row when (old.ended_at is null and old.expires_at > now()) execute function access.count_session_change();

create or replace function access.count_app_change() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  perform access.count_change(old.site_id, '00000000-0000-0000-0000-000000000000');
  return null;
end
$$;
comment on function access.count_app_change() is 'Counts that an app has another definition, or is gone.';

create or replace trigger count_app_update after update on tenancy.apps
for each row when ((old.site_id, old.schema_name, old.definition_version) is distinct from (new.site_id, new.schema_name, new.definition_version))
execute function access.count_app_change();
create or replace trigger count_app_delete after delete on tenancy.apps
for each row execute function access.count_app_change();
