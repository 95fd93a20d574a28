-- With 10,000 sites (bench/sites.ts) creating one takes 2.8 ms where the installer is a superuser, 40 ms where it is not: a
-- role that creates roles becomes a member of each, and PostgreSQL lists all its memberships again after every grant. So
-- db/superuser.sql makes a superuser the owner of these two functions, and elsewhere the creator gets no more than the
-- membership it must have (with SET on top of it, which is a second one: 130 ms).
-- A superuser's functions call and read nothing that rowhouse_owner could replace, and find no type in its pg_temp.

create or replace function tenancy.create_site_role(site text) returns name
language plpgsql security definer set search_path = pg_catalog, pg_temp set createrole_self_grant = '' as $$
declare
  _base text := 'site_' || replace(create_site_role.site, '-', '_');
  _name text := _base;
  _n int := 1;
begin
  if create_site_role.site is null or create_site_role.site !~ '^[a-z][a-z0-9-]{1,27}$' then
    raise exception 'This does not name a site' using errcode = 'RH400';
  end if;
  loop
    if not exists (select from pg_catalog.pg_roles where rolname = _name) then
      begin
        execute format('create role %I nologin inherit in role rowhouse_account role rowhouse_gateway', _name);
        exit;
      exception when duplicate_object or unique_violation then
        null; -- another database of this cluster was faster
      end;
    end if;
    _n := _n + 1;
    _name := _base || '_' || _n;
  end loop;
  execute format('alter role %I set statement_timeout = ''30s''', _name);
  execute format('alter role %I set lock_timeout = ''5s''', _name);
  execute format('alter role %I set idle_in_transaction_session_timeout = ''60s''', _name);
  return _name;
end
$$;
comment on function tenancy.create_site_role(text) is
  'Creates a role for a site, with its time limits, and returns its name: site_<name>, with a number where another database of the cluster has that. Internal.';

create or replace function tenancy.drop_site_role(role_name name) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  if drop_site_role.role_name !~ '^site_' or not exists (
    select from pg_catalog.pg_roles r join pg_catalog.pg_auth_members m on m.member = r.oid
    where r.rolname = drop_site_role.role_name and not r.rolcanlogin and not r.rolsuper
      and m.roleid = 'rowhouse_account'::regrole)
  then
    raise exception 'This is not the role of a site' using errcode = 'RH409', hint = 'Use tenancy.drop_site(site, confirm).';
  end if;
  execute format('drop role %I', drop_site_role.role_name);
end
$$;
comment on function tenancy.drop_site_role(name) is 'Drops the role of a site that is no more; PostgreSQL refuses while it has rights in an app. RH409 when it is no site''s role. Internal: callers drop the site first.';
