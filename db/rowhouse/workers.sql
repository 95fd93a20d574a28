create or replace function rowhouse.report_worker(worker uuid) returns void
language sql security definer set search_path = '' as $$
  delete from rowhouse.workers w where w.seen_at < now() - interval '1 day';
  insert into rowhouse.workers (id) values (report_worker.worker) on conflict (id) do update set seen_at = now();
$$;
comment on function rowhouse.report_worker(uuid) is 'Notes that a worker is alive; it says so every 10 seconds. For the worker.';

create or replace function rowhouse.forget_worker(worker uuid) returns void
language sql security definer set search_path = '' as $$ delete from rowhouse.workers w where w.id = forget_worker.worker $$;
comment on function rowhouse.forget_worker(uuid) is 'Notes that a worker has ended. For the worker.';

create or replace function rowhouse.worker_is_alive() returns boolean
language sql stable security definer set search_path = '' as $$
  select exists (select from rowhouse.workers w where w.seen_at > now() - interval '30 seconds')
$$;
comment on function rowhouse.worker_is_alive() is 'Whether some worker has reported within the last 30 seconds, three of its reports. For gateway and worker.';
