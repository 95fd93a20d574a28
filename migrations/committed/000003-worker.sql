--! Previous: sha1:3064a0912dd0de3a495ca4233ba9634cc12487e5
--! Hash: sha1:9a213e69391f49d374f0635c19ef4098929370ea
--! Message: worker

do $$
begin
  if not exists (select from pg_catalog.pg_roles where rolname = 'rowhouse_worker') then
    create role rowhouse_worker login noinherit;
  end if;
exception when duplicate_object or unique_violation then
  null; -- another database of this cluster is being installed at the same moment
end
$$;

do $$
begin
  execute format('grant connect on database %I to rowhouse_worker', current_database());
end
$$;

-- Until now the worker made this schema as the operator, and kept nothing in it but two clean-up jobs that come back by
-- themselves. It is made anew for rowhouse_owner: who owned its functions could change what an operator calls.
drop schema if exists graphile_worker cascade;

set local role rowhouse_owner;

-- A row for each running worker, so that processes without one can tell whether jobs are being done.
create table rowhouse.workers (
  id uuid primary key,
  started_at timestamptz not null default now(),
  seen_at timestamptz not null default now()
);

reset role;
