-- With 10,000 sites (bench/sites.ts) creating one takes 2.8 ms where the installer is a superuser, 40 ms where it is not: a
-- role that creates roles becomes a member of each, and PostgreSQL lists all its memberships again after every grant. So
-- db/superuser.sql makes a superuser the owner of these two functions, and elsewhere the creator gets no more than the
-- membership it must have (with SET on top it was 367 ms, and 172 ms for an app).

create or replace function tenancy.create_site_role(site text) returns name
language plpgsql security definer set search_path = '' set createrole_self_grant = '' as $$
declare
  _base text := 'site_' || replace(create_site_role.site, '-', '_');
  _name text := _base;
  _n int := 1;
begin
  perform tenancy.check_name('site', create_site_role.site);
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
language plpgsql security definer set search_path = '' as $$
begin
  if drop_site_role.role_name !~ '^site_' or exists (select from tenancy.sites s where s.role_name = drop_site_role.role_name) then
    perform rowhouse.fail(409, 'This is not the role of a site that was dropped', 'Use tenancy.drop_site(site, confirm).', 'role_in_use');
  end if;
  execute format('drop role %I', drop_site_role.role_name);
end
$$;
comment on function tenancy.drop_site_role(name) is 'Drops the role of a site that is no more. RH409 when it still belongs to one. Internal.';
