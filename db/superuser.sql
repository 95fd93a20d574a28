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
