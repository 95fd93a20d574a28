-- Usage of the schema and rowhouse.fail for the others: policies/tenancy.sql.
grant usage on schema rowhouse to rowhouse_worker;
revoke all on all functions in schema rowhouse from public;
grant execute on function rowhouse.installed_content(), rowhouse.worker_is_alive() to rowhouse_gateway, rowhouse_worker;
grant execute on function rowhouse.report_worker(uuid), rowhouse.forget_worker(uuid) to rowhouse_worker;

alter table rowhouse.workers enable row level security, force row level security;
drop policy if exists owner_all on rowhouse.workers;
create policy owner_all on rowhouse.workers to rowhouse_owner using (true) with check (true);

alter table rowhouse.operators enable row level security, force row level security;
drop policy if exists owner_all on rowhouse.operators;
create policy owner_all on rowhouse.operators to rowhouse_owner using (true) with check (true);
