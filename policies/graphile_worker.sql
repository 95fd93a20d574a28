-- The queue belongs to rowhouse_owner, which puts jobs in. The worker takes them out; it may not change the schema.
grant usage on schema graphile_worker to rowhouse_worker;
revoke all on all functions in schema graphile_worker from public;
grant execute on all functions in schema graphile_worker to rowhouse_worker;

do $$
declare
  _table name;
begin
  for _table in select c.relname from pg_class c
    where c.relnamespace = 'graphile_worker'::regnamespace and c.relkind = 'r' and c.relname <> 'migrations' loop
    execute format('grant select, insert, update, delete on graphile_worker.%I to rowhouse_worker', _table);
    execute format('alter table graphile_worker.%I enable row level security', _table);
    execute format('drop policy if exists worker_all on graphile_worker.%I', _table);
    execute format('create policy worker_all on graphile_worker.%I to rowhouse_worker using (true) with check (true)', _table);
  end loop;
end
$$;
grant select on graphile_worker.migrations, graphile_worker.jobs to rowhouse_worker;
