-- PostgreSQL ends an autovacuum that somebody has waited for for a second (deadlock_timeout). Who asks for a lock in bursts of
-- 100 ms never has: while one worked on a large entity, for minutes or hours, every new definition of it was refused.

create or replace function data.end_autovacuum(tables text[]) returns void
language plpgsql set search_path = '' as $$
declare
  _table regclass;
begin
  perform pg_catalog.pg_stat_clear_snapshot(); -- else a transaction goes on seeing who was there when it first asked
  for _table in
    select distinct l.relation
    from pg_catalog.pg_locks l
      join pg_catalog.pg_database d on d.oid = l.database and d.datname = current_database()
      join pg_catalog.pg_stat_activity a on a.pid = l.pid and a.usesysid is null -- of nobody: a process of the server's own
    where l.granted and l.mode = 'ShareUpdateExclusiveLock' and l.relation = any (select to_regclass(t) from unnest(tables) t)
  loop
    begin
      set local lock_timeout = '1500ms';
      -- In this mode neither readers nor writers queue behind the one who waits.
      execute format('lock table %s in share update exclusive mode', _table);
      raise sqlstate 'RH000';
    exception when sqlstate 'RH000' or lock_not_available or deadlock_detected then
      null; -- not kept: all locks are taken at once
    end;
  end loop;
end
$$;
comment on function data.end_autovacuum(text[]) is
  'Lets PostgreSQL end an autovacuum that works on one of these tables, which takes a second; it comes back by itself. Internal.';
