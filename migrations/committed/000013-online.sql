--! Previous: sha1:4048b3163d84abbce7b6b20cbbb59474132bcdcd
--! Hash: sha1:8fe8ca49e9a31f90739a6db865b4e66a80789eb4
--! Message: online

set local role rowhouse_owner;

-- What an operation waits for that cannot be done in a transaction: a process with the operator's login runs exactly this.
alter table data.operations
  add statement text check (statement ~ '^create (unique )?index concurrently '),
  add failure jsonb,
  add note text;

-- A row for each such process.
create table rowhouse.operators (
  id uuid primary key,
  started_at timestamptz not null default now(),
  seen_at timestamptz not null default now()
);

reset role;
