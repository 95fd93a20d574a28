create or replace procedure tenancy.enter(site text, email text)
language plpgsql as $$
declare
  _site tenancy.sites;
  _account uuid;
  _setting text[];
  _names text := 'TimeZone';
begin
  if not auth.is_operator() then
    perform rowhouse.fail(403, 'Only the operator may enter a site as an account', 'call tenancy.leave() first.', 'forbidden');
  end if;
  _site := tenancy.require_site(enter.site);
  _account := case when enter.email is not null then auth.require_account(enter.email) end;
  if _account is not null and not exists (select from tenancy.site_members m where m.site_id = _site.id and m.account_id = _account) then
    perform rowhouse.fail(404, format('%s is not a member of site %L', enter.email, enter.site),
      format('select tenancy.add_member(%L, %L, ''viewer'');', enter.site, enter.email), 'not_found');
  end if;
  perform access.remember_roles(_site.id, _account)
  where not exists (select from access.known_roles k where k.site_id = _site.id and k.account_id = _account);
  perform pg_catalog.set_config('rowhouse.account', coalesce(_account::text, ''), false);
  perform pg_catalog.set_config('rowhouse.site', _site.id::text, false);
  perform pg_catalog.set_config('TimeZone', 'UTC', false);
  -- SET ROLE does not apply a role's settings, its time limits above all: they are set here, and leave() resets them.
  for _setting in
    select pg_catalog.regexp_match(c, '^([^=]+)=(.*)$')
    from pg_catalog.pg_db_role_setting s, pg_catalog.unnest(s.setconfig) c
    where s.setrole = (select r.oid from pg_catalog.pg_roles r where r.rolname = _site.role_name)
      and s.setdatabase in (0, (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database()))
    order by s.setdatabase
  loop
    perform pg_catalog.set_config(_setting[1], _setting[2], false);
    _names := _names || ',' || _setting[1];
  end loop;
  perform pg_catalog.set_config('rowhouse.entered', _names, false);
  execute pg_catalog.format('set role %I', _site.role_name);
end
$$;
comment on procedure tenancy.enter(text, text) is
  'Makes this psql session that account at that site, with exactly its rights and the settings of its site''s role (time limits; an operator may lift them again with SET), until call tenancy.leave(); with a null email, nobody: what somebody may do who is not logged in. Operators only. RH403, RH404.';

create or replace procedure tenancy.leave()
language plpgsql as $$
declare
  _name text;
begin
  reset role;
  set rowhouse.account = '';
  set rowhouse.site = '';
  foreach _name in array pg_catalog.string_to_array(coalesce(pg_catalog.current_setting('rowhouse.entered', true), ''), ',') loop
    execute pg_catalog.format('reset %I', _name);
  end loop;
  set rowhouse.entered = '';
end
$$;
comment on procedure tenancy.leave() is 'Ends what tenancy.enter began: the session is the operator again, and what enter had set has the session''s defaults.';
