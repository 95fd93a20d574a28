-- What only a superuser may do, once per database. Without it everything works, but
-- set_config: SQL a tenant writes could forge claims, so it has to be parsed first;
-- leakproof: under row-level security the planner ignores indexes for these comparisons.
do $$
begin
  revoke execute on function pg_catalog.set_config(text, text, boolean) from public;
  grant execute on function pg_catalog.set_config(text, text, boolean) to rowhouse_gateway, rowhouse_owner;
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
exception when feature_not_supported or undefined_file then
  null; -- this server has no pg_stat_statements
end
$$;
