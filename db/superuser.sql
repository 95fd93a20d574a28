-- What only a superuser may do, once per database. Without it everything works, but
-- set_config: SQL a tenant writes could forge claims, so it has to be parsed first;
-- leakproof: under row-level security the planner ignores indexes for these comparisons;
-- locks, large objects, messages: SQL a tenant writes could stop the platform, fill the disk and speak to who reads the WAL.
do $$
begin
  revoke execute on function pg_catalog.set_config(text, text, boolean) from public;
  grant execute on function pg_catalog.set_config(text, text, boolean) to rowhouse_gateway, rowhouse_owner;
end
$$;

-- Advisory locks are one space for all: who takes tenancy.schema_name's keeps everybody from making an app. A large object
-- belongs to its maker and to no table, so nothing bounds, expires or drops it; a logical message reaches whoever decodes the WAL.
do $$
declare
  _function regprocedure;
begin
  for _function in
    select p.oid from pg_catalog.pg_proc p
    where p.pronamespace = 'pg_catalog'::regnamespace
      and (p.proname ~ '^pg_(try_)?advisory_(xact_)?lock'
        or p.proname in ('lo_creat', 'lo_create', 'lo_from_bytea', 'pg_logical_emit_message'))
  loop
    execute format('revoke execute on function %s from public', _function);
    execute format('grant execute on function %s to rowhouse_owner, rowhouse_data, rowhouse_worker', _function);
  end loop;
end
$$;

-- numeric comparison: fails for no value; the only error is running out of memory.
alter function pg_catalog.numeric_eq(numeric, numeric) leakproof;
alter function pg_catalog.numeric_ne(numeric, numeric) leakproof;
alter function pg_catalog.numeric_lt(numeric, numeric) leakproof;
alter function pg_catalog.numeric_le(numeric, numeric) leakproof;
alter function pg_catalog.numeric_gt(numeric, numeric) leakproof;
alter function pg_catalog.numeric_ge(numeric, numeric) leakproof;

-- Creating a site's role costs the same however many there are (see db/tenancy/site_roles.sql). Both functions build no
-- SQL but from a checked name, call nothing that rowhouse_owner could replace, and only rowhouse_owner may call them.
do $$
begin
  execute format('alter function tenancy.create_site_role(text) owner to %I', current_user);
  execute format('alter function tenancy.drop_site_role(name) owner to %I', current_user);
  revoke all on function tenancy.create_site_role(text), tenancy.drop_site_role(name) from public;
  grant execute on function tenancy.create_site_role(text), tenancy.drop_site_role(name) to rowhouse_owner;
end
$$;

-- data.index_advice reads what PostgreSQL counted of the statements of sites, where it was started to count them.
do $$
begin
  create extension if not exists pg_stat_statements with schema extensions;
  grant pg_read_all_stats to rowhouse_owner;
  -- Others' texts are hidden in it, how often and how long they run is not.
  revoke all on extensions.pg_stat_statements, extensions.pg_stat_statements_info from public;
  revoke execute on function extensions.pg_stat_statements(boolean), extensions.pg_stat_statements_info() from public;
  grant select on extensions.pg_stat_statements, extensions.pg_stat_statements_info to rowhouse_owner;
  grant execute on function extensions.pg_stat_statements(boolean), extensions.pg_stat_statements_info() to rowhouse_owner;
exception when feature_not_supported or undefined_file then
  null; -- this server has no pg_stat_statements
end
$$;
