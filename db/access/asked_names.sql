-- Conditions may ask for the names of the account's roles and groups: current_user.groups contains 'suspended'. Then a role without
-- a permission opens and closes as much as any, and whoever hands roles and groups out, and is no owner or admin, would give
-- themselves rights by putting themselves into a group, or taking themselves out. Of a site whose conditions ask for no names
-- nothing is refused here.

create or replace function access.asks_for_names(site_id uuid, kind text) returns boolean
language sql stable set search_path = '' as $$
  select exists (
    select
    from (
      select p.condition from access.policies p where p.site_id = asks_for_names.site_id
      union all
      select p.condition from access.permissions p where p.site_id = asks_for_names.site_id and p.condition is not null
    ) c
    -- Whom ready-made policies ask for is every member, whatever their roles.
    where replace(c.condition::text, '{"$account.roles": {"$contains": "authenticated"}}', '') ~ ('\$account\.' || asks_for_names.kind))
$$;
comment on function access.asks_for_names(uuid, text) is
  'Whether some condition of a site''s rules asks for the names of the account''s roles, or groups (kind).';

create or replace function access.refuse_own_names(site_id uuid, kind text, what text) returns void
language plpgsql stable set search_path = '' as $$
begin
  if not access.administers(refuse_own_names.site_id) and access.asks_for_names(refuse_own_names.site_id, refuse_own_names.kind) then
    perform rowhouse.fail(403, format('You cannot change this for yourself: %s', refuse_own_names.what),
      format('Rules of this site ask for the names of %s. Ask an owner or admin of the site.', refuse_own_names.kind), 'forbidden');
  end if;
end
$$;
comment on function access.refuse_own_names(uuid, text, text) is
  'Raises RH403 in a site whose conditions ask for the names of roles, or groups (kind), for who is no owner or admin of it.';

-- Of groups that conditions ask for one hands on what one is in, and frees nobody of what one is in.
create or replace function access.refuse_group_change(site_id uuid, group_id uuid, account_id uuid, adding boolean) returns void
language plpgsql stable set search_path = '' as $$
declare
  _name text := (select g.name from access.groups g where g.id = refuse_group_change.group_id);
  _inside boolean := refuse_group_change.group_id = any (access.member_groups(refuse_group_change.site_id, auth.account_id()));
begin
  if _inside is distinct from refuse_group_change.adding then
    perform access.refuse_own_names(refuse_group_change.site_id, 'groups', format(case when refuse_group_change.adding
      then 'you are not in the group %s and cannot put anybody into it' else 'you are in the group %s and cannot take anybody out of it' end, _name));
  end if;
  if refuse_group_change.account_id is not distinct from auth.account_id() and exists (
    select from access.assignments a where a.group_id = refuse_group_change.group_id)
  then
    perform access.refuse_own_names(refuse_group_change.site_id, 'roles', format('the group %s holds roles', _name));
  end if;
end
$$;
comment on function access.refuse_group_change(uuid, uuid, uuid, boolean) is
  'Raises RH403 when the account of the claims, no owner or admin, would by who is in a group change what conditions on names say of it, or give others a name it has not; account_id null for all its members.';

create or replace function access.refuse_own_assignment(site_id uuid, account_id uuid, group_id uuid, role_id uuid) returns void
language plpgsql stable set search_path = '' as $$
begin
  if (refuse_own_assignment.account_id = auth.account_id() or refuse_own_assignment.group_id = any (access.member_groups(refuse_own_assignment.site_id, auth.account_id())))
    and exists (
      select from access.assignments a
      where a.site_id = refuse_own_assignment.site_id and a.role_id = refuse_own_assignment.role_id
        and (a.account_id = refuse_own_assignment.account_id or a.group_id = refuse_own_assignment.group_id))
  then
    perform access.refuse_own_names(refuse_own_assignment.site_id, 'roles',
      format('you hold the role %s', (select access.role_path(r) from access.roles r where r.id = refuse_own_assignment.role_id)));
  end if;
end
$$;
comment on function access.refuse_own_assignment(uuid, uuid, uuid, uuid) is
  'Raises RH403 when an assignment that is to be taken away or given other terms is the caller''s own or of a group of theirs, conditions ask for the names of roles, and the caller is no owner or admin.';

create or replace function access.refuse_other_names(role access.roles, before uuid[]) returns void
language plpgsql stable set search_path = '' as $$
declare
  _after uuid[] := array(select h.held_id from access.held_roles h where h.role_id = role.id);
  _held uuid[] := access.own_roles(role.site_id, role.id);
begin
  if array(select unnest(_after) except select unnest(refuse_other_names.before) except select role.id) <@ _held
    and (refuse_other_names.before <@ _after or not role.id = any (_held))
  then
    return;
  end if;
  perform access.refuse_own_names(role.site_id, 'roles', format('what the role %s inherits from', access.role_path(role)));
end
$$;
comment on function access.refuse_other_names(access.roles, uuid[]) is
  'Raises RH403 when a role inherits, more than before (the roles it held), from roles that the caller does not hold, or no longer from some where the caller holds it, conditions ask for the names of roles, and the caller is no owner or admin.';
