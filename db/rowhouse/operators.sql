create or replace function rowhouse.report_operator(operator uuid) returns void
language sql security definer set search_path = '' as $$
  delete from rowhouse.operators o where o.seen_at < now() - interval '1 day';
  insert into rowhouse.operators (id) values (report_operator.operator) on conflict (id) do update set seen_at = now();
$$;
comment on function rowhouse.report_operator(uuid) is
  'Notes that a process is there that builds indexes with the operator''s login; it says so every 5 seconds.';

create or replace function rowhouse.operator_is_alive() returns boolean
language sql stable security definer set search_path = '' as $$
  select exists (select from rowhouse.operators o where o.seen_at > now() - interval '30 seconds')
$$;
comment on function rowhouse.operator_is_alive() is
  'Whether a process that builds indexes with the operator''s login has reported within the last 30 seconds.';
