-- Who may define roles, and is no owner or admin, puts no more into a role than they hold themselves: else they would give it to
-- themselves. Of policies policy_reach.sql says the same.

create or replace function access.administers(site_id uuid) returns boolean
language sql stable set search_path = '' as $$
  select auth.is_operator() or exists (
    select from tenancy.site_members m
    where m.site_id = administers.site_id and m.account_id = auth.account_id() and m.role in ('owner', 'admin'))
$$;
comment on function access.administers(uuid) is 'Whether the account of the claims is an owner or admin of a site, or the operator asks.';

-- What is asked for besides is a part of what is held.
create or replace function access.permission_conjuncts(permission access.permissions) returns jsonb[]
language sql immutable set search_path = '' as $$
  select array(select c from access.conjuncts((permission).condition) c)
    || case when (permission).own then array['{"created_by": "$account.id"}'::jsonb] else '{}' end
$$;
comment on function access.permission_conjuncts(access.permissions) is
  'The conditions that together a permission stands under, own among them; empty for none.';

create or replace function access.covers_permission(held access.permissions, wanted access.permissions) returns boolean
language sql stable set search_path = '' as $$
  select held.action in (wanted.action, '*')
    and case when wanted.entity ~ '(^|/)@' then held.entity in (wanted.entity, regexp_replace(wanted.entity, '^[^@]*', ''))
      else held.entity = any (access.patterns(wanted.entity)) end
    and access.permission_conjuncts(held) <@ access.permission_conjuncts(wanted)
    and (held.fields is not distinct from wanted.fields or coalesce(held.fields - 'unmasked', '{}') = '{}' and (
      coalesce(held.fields->'unmasked' ? '*', false)
      or not coalesce(wanted.fields ? 'masked', false)
        and coalesce(wanted.fields->'unmasked', '[]') <@ coalesce(held.fields->'unmasked', '[]')))
$$;
comment on function access.covers_permission(access.permissions, access.permissions) is
  'Whether who holds one permission can do whatever another allows: the same or a wider one, under no condition that the other has not too.';

-- Not through the role itself: from what does it inherit now?
create or replace function access.own_roles(site_id uuid, but uuid default null) returns uuid[]
language sql stable set search_path = '' as $$
  with recursive held (id) as (
    select a.role_id from access.assignments a
    where a.site_id = own_roles.site_id and a.delegator_id is null and a.condition is null
      and (a.account_id = auth.account_id() or a.group_id = any (access.member_groups(own_roles.site_id, auth.account_id())))
      and (a.valid_from is null or a.valid_from <= now()) and (a.valid_until is null or a.valid_until > now())
    union
    select p.parent_id from held h join access.role_parents p on p.role_id = h.id where h.id is distinct from own_roles.but
  )
  select array(select id from held)
$$;
comment on function access.own_roles(uuid, uuid) is
  'The roles of a site that the account of the claims holds now, with those they inherit, by assignments without a condition and no delegation; what is held only through the role but is left out.';

create or replace function access.held_permissions(role access.roles) returns access.permissions[]
language sql stable set search_path = '' as $$
  select array(select p from access.permissions p where p.role_id = role.id or p.role_id = any (access.own_roles(role.site_id, role.id)))
$$;
comment on function access.held_permissions(access.roles) is
  'The permissions that the account of the claims holds, by assignments without a condition and not through a role that is being defined, and those that this role has.';

create or replace function access.refuse_escalation(role access.roles, held access.permissions[]) returns void
language plpgsql stable set search_path = '' as $$
declare
  _more text;
begin
  if access.administers(role.site_id) then
    return;
  end if;
  select string_agg(access.permission_text(x.p), ', ') into _more from (
    select p from access.held_roles r join access.permissions p on p.role_id = r.held_id
    where r.role_id = role.id and not exists (select from unnest(refuse_escalation.held) h where access.covers_permission(h, p))
    order by p.entity, p.action limit 5) x (p);
  if _more is not null then
    perform rowhouse.fail(403,
      format('The role %s would have permissions that you do not hold yourself: %s', access.role_path(role), _more),
      'Ask an owner or admin of the site.', 'forbidden');
  end if;
end
$$;
comment on function access.refuse_escalation(access.roles, access.permissions[]) is
  'Raises RH403 when a role has, itself or by inheritance, a permission that none of held covers; for whoever is no owner or admin of the site.';
