-- Long work on an entity, in steps that each are a transaction: a worker runs them (task run_operation), or psql with
-- call data.run_operations(). Where it stopped stands in the row, so whoever comes next goes on from there.

create or replace function data.start_operation(entity data.entities, kind text, arguments jsonb default '{}') returns data.operations
language plpgsql set search_path = '' as $$
declare
  _operation data.operations;
begin
  perform data.refuse_during_operation(entity);
  insert into data.operations (site_id, entity_id, kind, arguments, created_by)
  values (entity.site_id, entity.id, start_operation.kind, start_operation.arguments, auth.account_id())
  returning * into _operation;
  perform data.enqueue_operation(_operation.id);
  return _operation;
end
$$;
comment on function data.start_operation(data.entities, text, jsonb) is
  'Notes an operation and gives it to the workers. Internal: callers check rights. RH409 while another one works on the entity.';

drop function if exists data.enqueue_operation(uuid);
create or replace function data.enqueue_operation(operation uuid, after interval default '0') returns void
language plpgsql set search_path = '' as $$
begin
  perform graphile_worker.add_job('run_operation', json_build_object('operation', operation), job_key => 'operation/' || operation,
    max_attempts => 5,
    run_at => now() + after);
end
$$;
comment on function data.enqueue_operation(uuid, interval) is 'Puts an operation into the queue, once.';

create or replace function data.run_step(operation uuid) returns text
language plpgsql security definer set search_path = '' set client_min_messages = warning set lock_timeout = '5s' as $$
declare
  _operation data.operations;
  _entity data.entities;
  _next record;
  _detail text;
  _state text;
begin
  -- The same order as data.cancel_operation and definitions, so that none waits for the other in a circle.
  select e.* into _entity
  from data.operations o
  join data.entities e on e.id = o.entity_id
  where o.id = run_step.operation and o.step not in ('copy', 'kept');
  if _entity.id is not null then
    perform data.lock_definitions(a) from tenancy.apps a where a.id = _entity.app_id;
  end if;
  select o.* into _operation from data.operations o where o.id = run_step.operation for update skip locked;
  if _operation.id is null then
    return coalesce((select case when o.state in ('waiting', 'running') then case when o.statement is null then 'busy' else 'asked' end
      else o.state end from data.operations o where o.id = run_step.operation), 'gone');
  elsif _operation.state not in ('waiting', 'running') then
    return _operation.state;
  end if;
  select e.* into _entity from data.entities e where e.id = _operation.entity_id;
  begin
    execute format('select * from data.%I($1, $2)', _operation.kind || '_step') into _next using _operation, _entity;
  exception when others then
    -- What another try may cure is tried again, and what is not taken back half way; the rest is undone and told.
    if sqlstate ~ '^(40|55|57|53|08|RH503)' or data.is_retyping(_entity) then
      raise;
    end if;
    get stacked diagnostics _detail = pg_exception_detail;
    perform data.end_operation(_operation, _entity, 'failed', jsonb_strip_nulls(jsonb_build_object('code', sqlstate, 'message', sqlerrm,
      'errors', case when sqlstate ~ '^RH' then _detail::jsonb->'errors' end)));
    return 'failed';
  end;
  update data.operations o set step = _next.step, reached = _next.reached, records_done = o.records_done + _next.records,
    state = case when _next.step = 'done' then 'done' else 'running' end, started_at = coalesce(o.started_at, now()),
    seen_at = clock_timestamp(),
    finished_at = case when _next.step = 'done' then clock_timestamp() end
  where o.id = _operation.id returning case when o.statement is not null then 'asked' else o.state end into _state;
  if _state = 'asked' then
    perform data.enqueue_operation(_operation.id, '5 seconds'); -- whoever runs the statement may be gone
  end if;
  return _state;
end
$$;
comment on function data.run_step(uuid) is
  'Does the next step of an operation and returns its state: running (call again), asked (it waits for data.operations.statement, which a process with the operator''s login runs; it is in the queue for later), busy (another process is at it), done, failed, cancelled or gone. For the worker.';

create or replace function data.end_operation(operation data.operations, entity data.entities, state text, error jsonb default null)
  returns void
language plpgsql set search_path = '' as $$
begin
  update data.operations o
  set state = end_operation.state, error = end_operation.error, statement = null, finished_at = clock_timestamp() where o.id = operation.id;
  execute format('select data.%I($1, $2)', operation.kind || '_undo') using operation, entity;
end
$$;
comment on function data.end_operation(data.operations, data.entities, text, jsonb) is 'Takes back what an unfinished operation has built, and notes how it ended.';

create or replace function data.cancel_operation(operation uuid) returns data.operations
language plpgsql security definer set search_path = '' set client_min_messages = warning as $$
declare
  _operation data.operations;
  _entity data.entities;
begin
  select e.* into _entity from data.operations o join data.entities e on e.id = o.entity_id where o.id = cancel_operation.operation
    and tenancy.knows_site(e.site_id);
  if _entity.id is null then
    perform rowhouse.fail(404, 'There is no such operation', 'select id, kind, state from data.operations lists them.', 'not_found');
  end if;
  perform data.require_entity_for_change(data.entity_path(_entity));
  -- Waits for a step that is being done.
  select o.* into _operation from data.operations o where o.id = cancel_operation.operation for update;
  if _operation.state not in ('waiting', 'running') then
    perform rowhouse.fail(409, format('This operation is %s already', _operation.state), 'What is done is undone by another operation.',
      'operation_ended');
  elsif _operation.step = 'finish' then
    perform rowhouse.fail(409, 'This operation has made its change already and is only tidying up', 'Wait until it is done.',
      'operation_ended');
  end if;
  perform data.end_operation(_operation, _entity, 'cancelled');
  select o.* into _operation from data.operations o where o.id = _operation.id;
  return _operation;
end
$$;
comment on function data.cancel_operation(uuid) is
  'Cancels an operation and takes back what it has built; clients notice nothing. Site owners and admins only. RH403; RH404; RH409 when it has ended or made its change, or converts values of flat storage.';

create or replace function data.entity_path(entity data.entities) returns text
language sql stable set search_path = '' as $$
  select s.name || '/' || a.name || '/' || entity.name
  from tenancy.apps a
  join tenancy.sites s on s.id = a.site_id
  where a.id = entity.app_id
$$;
comment on function data.entity_path(data.entities) is 'An entity as site/app/entity.';

-- A worker that was killed leaves its job locked for hours.
create or replace function data.resume_operations() returns int
language plpgsql security definer set search_path = '' as $$
declare
  _count int;
begin
  select count(data.enqueue_operation(o.id)) into _count
  from data.operations o where o.state in ('waiting', 'running') and coalesce(o.seen_at, o.created_at) < now() - interval '30 seconds';
  return _count;
end
$$;
comment on function data.resume_operations() is
  'Puts operations that nobody has worked on for 30 s into the queue again, and returns how many. The worker does so every minute.';

create or replace procedure data.run_operations()
language plpgsql as $$
declare
  _operation record;
  _state text;
begin
  for _operation in select o.id, o.kind from data.operations o where o.state in ('waiting', 'running') order by o.created_at loop
    loop
      _state := data.run_step(_operation.id);
      commit;
      exit when _state not in ('running', 'asked');
      perform pg_sleep(0.2) where _state = 'asked';
    end loop;
    raise notice '%: %', _operation.kind, _state;
  end loop;
end
$$;
comment on procedure data.run_operations() is
  'Does all unfinished operations here and now, step by step, each committed: for operators without a worker, or in a hurry.';
