-- Without logging in: what an app shows to somebody who has no account, because somebody granted it to everybody.

create or replace function access.holds_without_account(condition jsonb) returns boolean
language sql immutable parallel safe set search_path = '' as $$
  select coalesce(bool_and(case
    when k.key = '$and' then (select bool_and(access.holds_without_account(c)) from jsonb_array_elements(k.value) c)
    when k.key = '$or' then (select bool_or(access.holds_without_account(c)) from jsonb_array_elements(k.value) c)
    when k.key = '$account.roles' then k.value::text ~ '"anonymous"'
    else k.key !~ '^\$account' and k.value::text !~ '"\$account' end), true)
  from jsonb_each(coalesce(holds_without_account.condition, '{}')) k
$$;
comment on function access.holds_without_account(jsonb) is
  'Whether a condition can hold for somebody who is not logged in: nothing in it that must hold asks about an account.';

create or replace function access.is_public_entity(site_id uuid, entity text) returns boolean
language sql stable security definer parallel safe set search_path = '' as $$
  select exists (
      select from access.permissions p
      where p.site_id = is_public_entity.site_id and p.role_id = any (access.roles_of(is_public_entity.site_id, null))
        and p.entity = any (access.patterns(is_public_entity.entity)) and p.action in ('create', 'read', 'update', 'delete', '*')
        and (not p.own or p.action in ('create', '*')) and access.holds_without_account(p.condition))
    or exists (
      select from access.effective_policies(is_public_entity.site_id, is_public_entity.entity) p
      where p.effect = 'allow' and access.holds_without_account(p.condition))
$$;
comment on function access.is_public_entity(uuid, text) is
  'Whether somebody granted anonymous something about an entity (app/entity) of a site: a permission of the role anonymous, or an allow policy that can hold without an account.';

create or replace function access.is_public(site_id uuid, app_id uuid) returns boolean
language sql stable security definer parallel safe set search_path = '' as $$
  select exists (
    select from tenancy.apps a join data.entities e on e.app_id = a.id
    where a.id = is_public.app_id and a.site_id = is_public.site_id and access.is_public_entity(a.site_id, a.name || '/' || e.name))
$$;
comment on function access.is_public(uuid, uuid) is 'Whether an app of a site can be asked without logging in, because one of its entities can.';

create or replace function access.my_public_entities() returns uuid[]
language sql stable security definer parallel safe set search_path = '' as $$
  select case when auth.account_id() is not null then '{}' else array(
    select e.id from tenancy.apps a join data.entities e on e.app_id = a.id
    where a.site_id = tenancy.site_id() and access.is_public_entity(a.site_id, a.name || '/' || e.name)) end
$$;
comment on function access.my_public_entities() is 'For a request without an account: the entities of its site that it may know of. Nothing for anybody else.';

create or replace function access.require_public(entity_id uuid) returns void
language plpgsql stable security definer set search_path = '' as $$
begin
  if not (auth.is_operator() or auth.account_id() is not null
    or coalesce(require_public.entity_id = any (access.my_public_entities()), false)) then
    perform tenancy.refuse_stranger();
  end if;
end
$$;
comment on function access.require_public(uuid) is 'Raises RH401 when nobody is logged in and nothing of the entity is public; the same for an entity that does not exist (null).';

drop view if exists access.open_public_requests;
create view access.open_public_requests as
select s.id as site_id, s.role_name::text as role_name, a.id as app_id, a.definition_version
from tenancy.apps a join tenancy.sites s on s.id = a.site_id
where access.is_public(s.id, a.id);
comment on view access.open_public_requests is 'Which app may be opened without logging in: one where somebody granted anonymous something. For the gateway.';
