-- Indexes over columns that are full. A function cannot create an index concurrently, and the worker's login owns nothing. So the worker
-- asks for a statement (data.operations.statement), and a process that has the operator's login anyway (rowhouse start, or
-- start --only operator) runs exactly that text as rowhouse_owner, outside a transaction: nobody waits for it. Without such a
-- process writers wait for the index, 1.9 to 4.1 s with 1 million records. (The privilege MAINTAIN would let another login reindex
-- concurrently; but the index has to be there first, and creating it is what keeps writers waiting.)

create or replace function data.concurrent_statement(statement text) returns text
language sql immutable set search_path = '' as $$
  select regexp_replace(statement, '^create (unique )?index if not exists ', 'create \1index concurrently ')
$$;
comment on function data.concurrent_statement(text) is 'The statement that creates an index while everybody goes on.';

create or replace function data.is_valid_index(schema_name text, name text) returns boolean
language sql stable set search_path = '' as $$
  select x.indisvalid from pg_catalog.pg_index x where x.indexrelid = to_regclass(format('%I.%I', schema_name, name))
$$;
comment on function data.is_valid_index(text, text) is 'Whether an index is whole; false when its building was interrupted, null when there is none.';

create or replace function data.ask_operator(operation data.operations, statement text) returns void
language plpgsql set search_path = '' as $$
begin
  if operation.failure->>'code' = '23505' then
    perform data.refuse_duplicates(operation.entity_id);
  elsif operation.failure is not null then
    raise exception using errcode = operation.failure->>'code', message = operation.failure->>'message';
  end if;
  update data.operations o set statement = data.concurrent_statement(ask_operator.statement),
    note = format('%s waits for a process with the operator''s login, which builds it while everybody goes on',
      data.statement_index(ask_operator.statement))
  where o.id = operation.id and o.statement is distinct from data.concurrent_statement(ask_operator.statement);
end
$$;
comment on function data.ask_operator(data.operations, text) is
  'Notes that an operation waits for a statement which only the operator''s login can run. Raises what became of it when it failed.';

create or replace function data.next_statement(out operation uuid, out statement text)
language sql stable security definer set search_path = '' as $$
  select o.id, case v when false then format('drop index concurrently if exists %I.%I', a.schema_name, n) else o.statement end
  from data.operations o join data.entities e on e.id = o.entity_id join tenancy.apps a on a.id = e.app_id,
    data.statement_index(o.statement) n, data.is_valid_index(a.schema_name, n) v
  where o.state = 'running' and o.statement is not null and o.failure is null and v is not true
  order by o.created_at limit 1
$$;
comment on function data.next_statement() is
  'The statement that operations wait for next: it creates an index, or drops first what an interrupted one has left. For the process that has the operator''s login.';

-- Whoever needs the table for himself comes first: who cancels the operation, drops the entity, changes rights or refers to it.
create or replace function data.watch_statement(operation uuid, process int, progress jsonb) returns boolean
language plpgsql security definer set search_path = '' as $$
begin
  update data.operations o set note = format('%s is built while everybody goes on: %s%s', data.statement_index(o.statement),
    progress->>'phase',
    ', ' || round(100 * (progress->>'blocks_done')::numeric / nullif((progress->>'blocks_total')::numeric, 0)) || ' %')
  where o.id = (select x.id from data.operations x
    where x.id = watch_statement.operation and x.statement is not null for update skip locked) and progress is not null;
  return not exists (
    select from pg_catalog.pg_locks l
    where not l.granted and l.locktype = 'relation' and l.mode in ('AccessExclusiveLock', 'ShareRowExclusiveLock')
      and watch_statement.process = any (pg_blocking_pids(l.pid)));
end
$$;
comment on function data.watch_statement(uuid, int, jsonb) is
  'Notes how far a statement is (progress: a row of pg_stat_progress_create_index), and returns whether it may go on: not when somebody waits for the whole table. For the process that has the operator''s login.';

create or replace function data.end_statement(operation uuid, code text default null, message text default null) returns void
language plpgsql security definer set search_path = '' as $$
begin
  update data.operations o
  set failure = case when code !~ '^(40|55|57|53|08)' then jsonb_build_object('code', code, 'message', message) end,
    note = data.statement_index(o.statement) || coalesce(' could not be built: ' || message, ' was built while everybody went on')
  where o.id = end_statement.operation and o.state = 'running' and o.statement is not null;
  if found then
    perform data.enqueue_operation(end_statement.operation);
  end if;
end
$$;
comment on function data.end_statement(uuid, text, text) is
  'Notes how a statement ended (SQLSTATE and message when it failed) and wakes a worker. What another try may cure is tried again. For the process that has the operator''s login.';
