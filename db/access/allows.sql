-- Called once per statement from the policies of an entity's storage, as (select access.allows(…)).
create or replace function access.allows(site_id uuid, entity text, action text) returns boolean
language sql stable security definer parallel safe set search_path = '' as $$
  select exists (
    select from access.assignments a
    join access.permissions p on p.role_id = a.role_id
    where a.account_id = auth.account_id()
      and a.site_id = tenancy.site_id()
      and a.site_id = allows.site_id
      and p.action in (allows.action, '*')
      and p.entity in (allows.entity, '*', split_part(allows.entity, '/', 1) || '/*')
  ) or auth.is_operator()
$$;
comment on function access.allows(uuid, text, text) is
  'Whether the account of the claims may do action (create, read, update, delete) on entity app/entity of a site, by any of its roles there. Always true for the operator.';

create or replace function access.require(site_id uuid, entity text, action text) returns boolean
language plpgsql stable security definer parallel safe set search_path = '' as $$
declare
  _roles text;
begin
  if access.allows(require.site_id, require.entity, require.action) then
    return true;
  end if;
  select string_agg(r.name, ', ' order by r.name) into _roles
  from access.assignments a join access.roles r on r.id = a.role_id
  where a.account_id = auth.account_id() and a.site_id = tenancy.site_id() and a.site_id = require.site_id;
  perform rowhouse.fail(403, format('You may not %s records of %s', require.action, require.entity),
    format('Your roles here: %s. A role with the permission %s:%s is needed.', coalesce(_roles, 'none'), require.entity, require.action),
    'forbidden');
end
$$;
comment on function access.require(uuid, text, text) is
  'True when access.allows says so; else raises RH403 with the caller''s roles and the permission that is missing.';
