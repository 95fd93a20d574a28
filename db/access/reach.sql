-- Who may define roles, and is no owner or admin, puts no more into a role than they hold themselves: else they would give it to
-- themselves.

create or replace function access.covers_permission(held access.permissions, wanted access.permissions) returns boolean
language sql stable set search_path = '' as $$
  select held.action in (wanted.action, '*')
    and case when wanted.entity ~ '(^|/)@' then held.entity in (wanted.entity, regexp_replace(wanted.entity, '^[^@]*', '')) else held.entity = any (access.patterns(wanted.entity)) end
    and (not held.own and held.condition is null or (held.own, held.condition) is not distinct from (wanted.own, wanted.condition))
    and (held.fields is not distinct from wanted.fields or coalesce(held.fields - 'unmasked', '{}') = '{}' and (
      coalesce(held.fields->'unmasked' ? '*', false)
      or not coalesce(wanted.fields ? 'masked', false) and coalesce(wanted.fields->'unmasked', '[]') <@ coalesce(held.fields->'unmasked', '[]')))
$$;
comment on function access.covers_permission(access.permissions, access.permissions) is
  'Whether who holds one permission can do whatever another allows: the same or a wider one, under no condition or the same.';

create or replace function access.held_permissions(role access.roles) returns access.permissions[]
language sql stable set search_path = '' as $$
  with recursive held (id) as (
    select a.role_id from access.assignments a
    where a.site_id = role.site_id and a.delegator_id is null and a.condition is null
      and (a.account_id = auth.account_id() or a.group_id = any (access.member_groups(role.site_id, auth.account_id())))
      and (a.valid_from is null or a.valid_from <= now()) and (a.valid_until is null or a.valid_until > now())
    union
    -- Not through the role itself: from what does it inherit now?
    select p.parent_id from held h join access.role_parents p on p.role_id = h.id where h.id <> role.id
  )
  select array(select p from access.permissions p where p.role_id = role.id or p.role_id in (select id from held))
$$;
comment on function access.held_permissions(access.roles) is
  'The permissions that the account of the claims holds, by assignments without a condition and not through a role that is being defined, and those that this role has.';

create or replace function access.refuse_escalation(role access.roles, held access.permissions[]) returns void
language plpgsql stable set search_path = '' as $$
declare
  _more text;
begin
  if auth.is_operator() or exists (
    select from tenancy.site_members m where m.site_id = role.site_id and m.account_id = auth.account_id() and m.role in ('owner', 'admin'))
  then
    return;
  end if;
  select string_agg(access.permission_text(x.p), ', ') into _more from (
    select p from access.held_roles r join access.permissions p on p.role_id = r.held_id
    where r.role_id = role.id and not exists (select from unnest(refuse_escalation.held) h where access.covers_permission(h, p))
    order by p.entity, p.action limit 5) x (p);
  if _more is not null then
    perform rowhouse.fail(403, format('The role %s would have permissions that you do not hold yourself: %s', access.role_path(role), _more),
      'Ask an owner or admin of the site.', 'forbidden');
  end if;
end
$$;
comment on function access.refuse_escalation(access.roles, access.permissions[]) is
  'Raises RH403 when a role has, itself or by inheritance, a permission that none of held covers; for whoever is no owner or admin of the site.';
