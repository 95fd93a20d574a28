-- Who defines roles without being an owner or admin puts into them only what they hold themselves.

create or replace function access.held_permissions(role_ids uuid[]) returns access.permissions[]
language sql stable set search_path = '' as $$
  select coalesce(array_agg(p), '{}') from access.permissions p
  where p.role_id in (select h.held_id from access.held_roles h where h.role_id = any (held_permissions.role_ids))
$$;
comment on function access.held_permissions(uuid[]) is 'The permissions of roles, with those of the roles that they inherit.';

create or replace function access.reaches_as_far(held access.permissions, wanted access.permissions) returns boolean
language sql immutable set search_path = '' as $$
  select (held).is_plain and (held).action in ((wanted).action, '*')
    and case when (wanted).entity ~ '(^|/)@' then (held).entity in ((wanted).entity, split_part((wanted).entity, '/', 2))
      else (held).entity in ('*', (wanted).entity)
        or (held).entity like '%/*' and (held).entity = split_part((wanted).entity, '/', 1) || '/*'
        or (held).entity like '*/%' and split_part((held).entity, '/', 2) = split_part((wanted).entity, '/', 2) end
    and (not coalesce((wanted).fields ? 'unmasked', false) or coalesce((held).fields->'unmasked' @> '["*"]' or (held).fields->'unmasked' @> ((wanted).fields->'unmasked'), false))
$$;
comment on function access.reaches_as_far(access.permissions, access.permissions) is 'Whether a permission that depends on nothing allows whatever another one does.';

create or replace function access.require_no_more(site_id uuid, mine access.permissions[], before access.permissions[], after access.permissions[]) returns void
language plpgsql stable set search_path = '' as $$
declare
  _more text;
begin
  if auth.is_operator() or exists (
    select from tenancy.site_members m where m.site_id = require_no_more.site_id and m.account_id = auth.account_id() and m.role in ('owner', 'admin'))
  then
    return;
  end if;
  select access.permission_text(a) into _more from unnest(after) a
  where not exists (select from unnest(before) b where (b.entity, b.action, b.own, b.condition, b.fields) is not distinct from (a.entity, a.action, a.own, a.condition, a.fields))
    and not exists (select from unnest(mine) m where access.reaches_as_far(m, a))
  limit 1;
  if _more is not null then
    perform rowhouse.fail(403, format('You may put into a role only what you hold yourself, and you do not hold %s', _more), 'Ask an owner or admin of the site.', 'forbidden');
  end if;
end
$$;
comment on function access.require_no_more(uuid, access.permissions[], access.permissions[], access.permissions[]) is
  'Raises RH403 when a role would get, in place of what it had before, more than who defines it holds (mine), unless an owner, an admin or the operator does.';
