create or replace function tenancy.my_site_ids() returns uuid[]
language sql stable security definer parallel safe set search_path = '' as $$
  select array(
    select m.site_id from tenancy.site_members m
    where m.account_id = auth.account_id() and (tenancy.site_id() is null or m.site_id = tenancy.site_id()))
$$;
comment on function tenancy.my_site_ids() is 'Sites of which the current account is a member; inside a site only that one.';

-- Which site a request without an account is in, the gateway says after it looked whether an app of it is public.
create or replace function tenancy.open_site_ids() returns uuid[]
language sql stable security definer parallel safe set search_path = '' as $$
  select case when auth.account_id() is null and tenancy.site_id() is not null then array[tenancy.site_id()] else tenancy.my_site_ids() end
$$;
comment on function tenancy.open_site_ids() is 'Sites whose definitions the caller may look up: of which the current account is a member, or, without an account, the site of the request.';

create or replace function tenancy.knows_site(site_id uuid) returns boolean
language sql stable parallel safe set search_path = '' as $$
  select knows_site.site_id = any (tenancy.open_site_ids()) or auth.is_operator()
$$;
comment on function tenancy.knows_site(uuid) is
  'Whether the caller may look up what a site defines: who sees its definitions by row-level security, and the operator. Internal.';

create or replace function tenancy.my_administered_site_ids() returns uuid[]
language sql stable security definer parallel safe set search_path = '' as $$
  select array(
    select m.site_id from tenancy.site_members m
    where m.account_id = auth.account_id() and m.role in ('owner', 'admin')
      and (tenancy.site_id() is null or m.site_id = tenancy.site_id()))
$$;
comment on function tenancy.my_administered_site_ids() is 'Sites of which the current account is an owner or admin; inside a site only that one.';

create or replace function tenancy.my_organization_ids() returns uuid[]
language sql stable security definer parallel safe set search_path = '' as $$
  select array(
    select m.organization_id from tenancy.organization_members m
    where m.account_id = auth.account_id() and tenancy.site_id() is null)
$$;
comment on function tenancy.my_organization_ids() is
  'Organizations of which the current account is a member; none inside a site.';

create or replace function tenancy.my_fellow_ids() returns uuid[]
language sql stable security definer parallel safe set search_path = '' as $$
  select array(select m.account_id from tenancy.site_members m where m.site_id = any (tenancy.my_site_ids()))
$$;
comment on function tenancy.my_fellow_ids() is 'Accounts that share a site with the current account.';
