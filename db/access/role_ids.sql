-- Which roles somebody holds at this moment.

create or replace function access.member_groups(site_id uuid, account_id uuid) returns uuid[]
language sql stable set search_path = '' as $$
  select array(select g.group_id from access.group_members g
    where g.account_id = member_groups.account_id and g.site_id = member_groups.site_id)
$$;
comment on function access.member_groups(uuid, uuid) is 'The groups of a site that an account is in.';

create or replace function access.group_names(site_id uuid, account_id uuid) returns jsonb
language sql stable set search_path = '' as $$
  select coalesce(jsonb_agg(g.name order by g.name), '[]')
  from access.groups g
  where g.id = any (access.member_groups(group_names.site_id, group_names.account_id))
$$;
comment on function access.group_names(uuid, uuid) is 'The names of the groups of a site that an account is in, as a JSON array.';

-- What was delegated is held as long as the delegator holds, not by a delegation, the role it was taken from.
create or replace function access.holds_itself(site_id uuid, account_id uuid, role_id uuid) returns boolean
language sql stable set search_path = '' as $$
  select exists (
    select from access.assignments a
    join access.held_roles h on h.role_id = a.role_id and h.held_id = holds_itself.role_id
    join tenancy.site_members m on m.site_id = a.site_id and m.account_id = holds_itself.account_id
    join auth.accounts c on c.id = m.account_id and c.deleted_at is null
    where a.site_id = holds_itself.site_id and a.delegator_id is null
      and (a.account_id = holds_itself.account_id or a.group_id = any (access.member_groups(holds_itself.site_id, holds_itself.account_id)))
      and (a.valid_from is null or a.valid_from <= now()) and (a.valid_until is null or a.valid_until > now()) and a.condition is null)
$$;
comment on function access.holds_itself(uuid, uuid, uuid) is
  'Whether an account holds a role now by an assignment of its own or of a group, unconditionally and not by delegation.';

create or replace function access.roles_of(site_id uuid, account_id uuid) returns uuid[]
language sql stable security definer parallel safe set search_path = '' as $$
  select coalesce(array_agg(distinct h.held_id), '{}')
  from (
    select g.role_id from access.holdings g
    join tenancy.site_members m on m.site_id = roles_of.site_id and m.account_id = roles_of.account_id
    where g.site_id = roles_of.site_id and g.account_id = roles_of.account_id and (not g.depends
      or (g.condition is null or access.assignment_holds(g.condition_sql, roles_of.site_id, roles_of.account_id))
        and (g.delegator_id is null or access.holds_itself(roles_of.site_id, g.delegator_id, g.source_role_id)))
    union all
    select r.id from access.roles r
    where r.site_id = roles_of.site_id and r.app_id is null and r.system and (r.name = 'anonymous' or r.name = 'authenticated' and exists (
      select from tenancy.site_members m where m.site_id = r.site_id and m.account_id = roles_of.account_id))
  ) held
  join access.held_roles h on h.role_id = held.role_id
$$;
comment on function access.roles_of(uuid, uuid) is
  'The roles that an account holds in a site now: assigned to it or to a group of its, valid at this time and under these circumstances, with what they inherit; authenticated for every member and anonymous for everybody.';

-- A read of psql by id takes 450 µs where the tables are asked, 190 where tenancy.enter has remembered.
create or replace function access.roles_now(site_id uuid, account_id uuid) returns uuid[]
language sql stable security definer parallel safe set search_path = '' as $$
  select coalesce(
    (select k.role_ids from access.known_roles k where k.site_id = roles_now.site_id and k.account_id = roles_now.account_id),
    access.roles_of(roles_now.site_id, roles_now.account_id))
$$;
comment on function access.roles_now(uuid, uuid) is
  'What access.roles_of says, as it was remembered where that still holds (access.remember_roles).';

-- The gateway sets rowhouse.roles in the statement that opens a request; anybody else's setting is not believed. An expression, so that
-- it becomes a part of what calls it.
create or replace function access.role_ids() returns uuid[]
language sql stable parallel safe
return case when session_user = 'rowhouse_gateway'
  and current_setting('rowhouse.roles', true) <> '' then current_setting('rowhouse.roles')::uuid[]
  else access.roles_now(tenancy.site_id(), auth.account_id()) end;
comment on function access.role_ids() is 'The roles that the account of the claims holds in the site of the claims at this moment.';

create or replace function access.assignment_holds(condition_sql text, site_id uuid, account_id uuid) returns boolean
language plpgsql stable set search_path = '' as $$
declare
  _holds boolean;
begin
  execute format('select %s', assignment_holds.condition_sql) into _holds
    using access.subject(assignment_holds.site_id, assignment_holds.account_id), access.env();
  return coalesce(_holds, false);
end
$$;
comment on function access.assignment_holds(text, uuid, uuid) is
  'Whether the condition of an assignment, compiled over $1 (the account) and $2 (the environment), is true now.';

create or replace function access.rebuild_held_roles(site_id uuid) returns void
language plpgsql set search_path = '' as $$
begin
  delete from access.held_roles h where h.site_id = rebuild_held_roles.site_id;
  insert into access.held_roles (role_id, held_id, site_id)
  with recursive held (role_id, held_id) as (
    select r.id, r.id from access.roles r where r.site_id = rebuild_held_roles.site_id
    union
    select h.role_id, p.parent_id from held h join access.role_parents p on p.role_id = h.held_id
  )
  select h.role_id, h.held_id, rebuild_held_roles.site_id from held h;
end
$$;
comment on function access.rebuild_held_roles(uuid) is 'Writes down, for each role of a site, itself and every role it inherits.';
