--! Previous: sha1:689b9e0df822a729515892c57a68ac798f4204ac
--! Hash: sha1:612b9f29f0219d72609e975225e8f911bc983436
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
