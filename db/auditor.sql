-- What only the owner of the audit log may do. Applied as rowhouse_auditor, after db/ and policies/: nothing that
-- rowhouse_owner could replace is called from here.

create or replace function audit.refuse_change() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  raise exception 'The audit log is append-only' using errcode = 'RH403', detail = '{"code": "append_only"}',
    hint = 'Entries leave it with their partition, when they have been kept as long as they must (audit.drop_expired).';
end
$$;
comment on function audit.refuse_change() is 'Refuses to change or remove entries of the audit log. RH403.';

create or replace trigger entries_before_change before update or delete on audit.entries
for each row execute function audit.refuse_change();
create or replace trigger entries_before_truncate before truncate on audit.entries
for each statement execute function audit.refuse_change();

create or replace function audit.kept_months() returns smallint[]
language sql immutable parallel safe as $$ select array[3, 12, 36, 84]::smallint[] $$;
comment on function audit.kept_months() is 'For how many months entries may be kept: each has partitions of its own. 84, seven years, for the control plane.';

create or replace function audit.protect(partition name) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  execute format('alter table audit.%I enable row level security, force row level security', protect.partition);
  -- The row trigger comes from the parent, one for truncate does not.
  execute format('create or replace trigger before_truncate before truncate on audit.%I for each statement execute function audit.refuse_change()',
    protect.partition);
end
$$;
comment on function audit.protect(name) is 'Protects a new partition as its parent is. Internal.';

-- Attached and not created as a partition: that would wait for all writers. A month of which the default partition holds
-- entries gets none; those stay where they are.
create or replace function audit.create_partitions(months int default 3) returns int
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  _p record;
  _made int := 0;
begin
  lock table audit.heads in share update exclusive mode; -- one at a time; anybody could hold an advisory lock
  if to_regclass('audit.entries_others') is null then
    create table audit.entries_others partition of audit.entries default;
    perform audit.protect('entries_others');
  end if;
  for _p in
    select k.keep, m at time zone 'UTC' as month, (m + interval '1 month') at time zone 'UTC' as until,
      format('entries_%s_%s', k.keep, to_char(m, 'YYYY_MM')) as name
    from unnest(audit.kept_months()) k (keep), date_trunc('month', now() at time zone 'UTC') this,
      generate_series(this, this + make_interval(months => least(create_partitions.months, 24)), '1 month') m
  loop
    continue when to_regclass('audit.' || _p.name) is not null;
    begin
      execute format('create table audit.%I (like audit.entries including defaults including constraints)', _p.name);
      execute format('alter table audit.entries attach partition audit.%I for values from (%L, %L) to (%2$L, %4$L)', _p.name, _p.keep,
        _p.month, _p.until);
      perform audit.protect(_p.name);
      _made := _made + 1;
    exception when check_violation then
      null;
    end;
  end loop;
  return _made;
end
$$;
comment on function audit.create_partitions(int) is
  'Creates the partitions of this month and the next ones; how many. For the worker, every hour, and for rowhouse migrate.';

create or replace function audit.drop_expired() returns int
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  _p record;
  _last timestamptz;
  _dropped int := 0;
begin
  set local lock_timeout = '2s'; -- else who writes would queue behind this; it comes back in an hour
  for _p in
    select c.relname as name, m[1]::int as keep, to_timestamp(m[2] || ' +00', 'YYYY_MM TZH') + interval '1 month' as until
    from pg_class c, regexp_match(c.relname, '^entries_(\d+)_(\d{4}_\d\d)$') m
    where c.relnamespace = 'audit'::regnamespace and c.relkind = 'r' and m is not null
  loop
    if _p.until + make_interval(months => _p.keep) < now() then
      execute format('drop table audit.%I', _p.name);
      _dropped := _dropped + 1;
    end if;
  end loop;
  -- Entries for which there was no partition are dropped together, with the last of them.
  select max(e.at + make_interval(months => e.keep)) into _last from audit.entries_others e;
  if _last < now() then
    drop table audit.entries_others;
    perform audit.create_partitions();
    _dropped := _dropped + 1;
  end if;
  delete from audit.sealed s where (s.month + interval '1 month') at time zone 'UTC' + make_interval(months => s.keep) < now();
  return _dropped;
end
$$;
comment on function audit.drop_expired() is
  'Drops partitions of which every entry has been kept as long as it must; how many. The chain of seals stays. For the worker, every hour.';

create or replace function audit.chain(site_id uuid, organization_id uuid) returns uuid
language sql immutable parallel safe as $$ select coalesce(chain.site_id, chain.organization_id, '00000000-0000-0000-0000-000000000000') $$;
comment on function audit.chain(uuid, uuid) is 'The chain an entry belongs to: of its site, else of its organization, else the platform''s.';

-- Of texts that no setting of a session changes. A column that comes later may not be added here: digests stay what they are.
create or replace function audit.digest(entry audit.entries) returns bytea
language sql stable parallel safe as $$
  select sha256(convert_to(row((entry).id, (extract(epoch from (entry).at) * 1000000)::int8, (entry).keep, (entry).tx, (entry).site_id,
    (entry).organization_id,
    (entry).account_id, (entry).login, (entry).env, (entry).action, (entry).object, (entry).record, (entry).old, (entry).new,
    (entry).outcome, (entry).reason)::text, 'UTF8'))
$$;
comment on function audit.digest(audit.entries) is 'The SHA-256 digest of an entry, over all that it says.';

create or replace function audit.seal_hash(previous bytea, chain uuid, n bigint, keep smallint, month date, entries int, content bytea)
  returns bytea
language sql immutable parallel safe set search_path = pg_catalog, pg_temp as $$
  select sha256(seal_hash.previous
    || convert_to(concat_ws('/', seal_hash.chain, seal_hash.n, seal_hash.keep, (seal_hash.month - '2000-01-01'::date), seal_hash.entries),
    'UTF8') || seal_hash.content)
$$;
comment on function audit.seal_hash(bytea, uuid, bigint, smallint, date, int, bytea) is 'The hash of a seal: of the seal before it, its place and what it covers.';

create or replace function audit.content_hash(ids uuid[], digests bytea[]) returns bytea
language sql immutable parallel safe set search_path = pg_catalog, pg_temp as $$
  select sha256(string_agg(uuid_send(i.id) || i.digest, ''::bytea order by i.n))
  from unnest(content_hash.ids, content_hash.digests) with ordinality i (id, digest, n)
$$;
comment on function audit.content_hash(uuid[], bytea[]) is 'The hash of the entries that a seal covers, in their order.';

drop function if exists audit.unsealed(xid8, xid8, boolean);
create or replace function audit.unsealed(sealed_to xid8, below xid8, was_restored boolean, doubtful_to xid8) returns setof audit.entries
language sql stable set search_path = pg_catalog, pg_temp as $$
  select e.* from audit.entries e
  where not was_restored and e.tx >= sealed_to and e.tx < below
    -- What was sealed before a restore had transactions that are counted once more.
    and (sealed_to >= doubtful_to or not exists (select from audit.sealed s, unnest(s.ids) i where i = e.id))
  union all
  -- Not what transactions of now have written that others may still precede: the next step takes those, and would take them again.
  select e.* from audit.entries e where was_restored and (e.tx < below or e.tx >= pg_snapshot_xmax(pg_current_snapshot()))
    and not exists (select from audit.sealed s, unnest(s.ids) i where i = e.id)
$$;
comment on function audit.unsealed(xid8, xid8, boolean, xid8) is
  'The entries to seal; below doubtful_to they may be from before a restore, and sealed already. Internal.';

-- A snapshot counts the transactions of every database of the cluster. One that a session of another database runs writes no entry here;
-- one that no session is seen to run any more, or that is prepared, may.
create or replace function audit.settled_below() returns xid8
language sql stable set search_path = pg_catalog, pg_temp as $$
  select least(pg_snapshot_xmax(s), pg_current_xact_id_if_assigned(), (
    select min(x) from pg_snapshot_xip(s) x
    where not exists (select from pg_stat_activity a where a.backend_xid = x::xid and a.datname <> current_database())))
  from pg_current_snapshot() s
$$;
comment on function audit.settled_below() is 'The transaction below which none that could still write an entry of this database runs. Internal.';

-- In the order of transactions, and only what no running transaction can precede: writers neither wait nor meet a lock.
create or replace function audit.seal_step(most int default 10000) returns int
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  _from xid8;
  _doubtful xid8;
  _below xid8;
  _last xid8;
  -- Transactions are counted anew in a database that was restored: what is not listed as sealed is to be sealed then.
  _restored boolean;
  _part record;
  _head audit.heads;
  _content bytea;
  _hash bytea;
  _sealed int := 0;
begin
  lock table audit.sealing in share update exclusive mode; -- one at a time; anybody could hold an advisory lock
  select s.sealed_to, s.doubtful_to, audit.settled_below() into _from, _doubtful, _below from audit.sealing s;
  _restored := _from > _below;
  if not _restored then
    select e.tx into _last
    from audit.entries e
    where e.tx >= _from and e.tx < _below
    order by e.tx offset greatest(seal_step.most, 1) - 1
    limit 1;
    _below := coalesce((_last::text::int8 + 1)::text::xid8, _below);
  end if;
  for _part in
    select n.chain, n.keep, n.month, array_agg(n.id order by n.place) as ids, array_agg(n.digest order by n.place) as digests,
      min(n.tx) as first
    from (
      select audit.chain(e.site_id, e.organization_id) as chain, e.keep, m.month, e.id, e.tx, audit.digest(e) as digest,
        row_number() over (partition by audit.chain(e.site_id, e.organization_id), e.keep, m.month order by e.tx, e.at, e.id) as place
      from audit.unsealed(_from, _below, _restored, _doubtful) e,
        lateral (select date_trunc('month', e.at at time zone 'UTC')::date) m (month)
    ) n
    group by n.chain, n.keep, n.month, (n.place - 1) / 10000
    order by min(n.tx), min(n.place)
  loop
    insert into audit.heads (chain, n, hash) values (_part.chain, 0, sha256(''::bytea)) on conflict do nothing;
    select h.* into _head from audit.heads h where h.chain = _part.chain for update;
    _content := audit.content_hash(_part.ids, _part.digests);
    _hash := audit.seal_hash(_head.hash, _part.chain, _head.n + 1, _part.keep, _part.month, cardinality(_part.ids), _content);
    insert into audit.seals (chain, n, keep, month, entries, content, previous, hash)
    values (_part.chain, _head.n + 1, _part.keep, _part.month, cardinality(_part.ids), _content, _head.hash, _hash);
    insert into audit.sealed (chain, n, keep, month, ids, digests) values (_part.chain, _head.n + 1, _part.keep, _part.month, _part.ids,
      _part.digests);
    update audit.heads h set n = _head.n + 1, hash = _hash where h.chain = _part.chain;
    _sealed := _sealed + cardinality(_part.ids);
  end loop;
  if _sealed > 0 or _restored then
    update audit.sealing s set sealed_to = _below, doubtful_to = case when _restored then _from else s.doubtful_to end;
  end if;
  return _sealed;
end
$$;
comment on function audit.seal_step(int) is
  'Seals the oldest most entries, and what else their last transaction wrote, as one transaction; how many, 0 when nothing waits. For the worker, every minute until nothing waits.';

-- entries: rowhouse_owner writes what its functions note, and reads what its functions show. It seals nothing.
grant usage on schema audit to rowhouse_account, rowhouse_data, rowhouse_gateway, rowhouse_worker;
grant select, insert on audit.entries to rowhouse_owner;
grant select on audit.seals, audit.sealed, audit.heads, audit.sealing to rowhouse_owner;
revoke all on function audit.refuse_change(), audit.kept_months(), audit.protect(name), audit.create_partitions(int),
  audit.drop_expired(), audit.seal_hash(bytea, uuid, bigint, smallint, date, int, bytea), audit.content_hash(uuid[], bytea[]),
  audit.seal_step(int), audit.settled_below(),
  audit.unsealed(xid8, xid8, boolean, xid8), audit.chain(uuid, uuid), audit.digest(audit.entries) from public;
grant execute on function audit.kept_months(), audit.seal_hash(bytea, uuid, bigint, smallint, date, int, bytea),
  audit.content_hash(uuid[], bytea[]), audit.chain(uuid, uuid), audit.digest(audit.entries) to rowhouse_owner;
grant execute on function audit.create_partitions(int), audit.drop_expired(), audit.seal_step(int) to rowhouse_worker;

do $$
declare
  _table text;
begin
  foreach _table in array array['entries', 'sealing', 'seals', 'sealed', 'heads'] loop
    execute format('alter table audit.%I enable row level security, force row level security', _table);
    execute format('drop policy if exists owner_reads on audit.%I', _table);
    execute format('create policy owner_reads on audit.%I for select to rowhouse_owner using (true)', _table);
    execute format('drop policy if exists auditor_all on audit.%I', _table);
    execute format('create policy auditor_all on audit.%I to rowhouse_auditor using (true) with check (true)', _table);
  end loop;
end
$$;
drop policy if exists owner_adds on audit.entries;
create policy owner_adds on audit.entries for insert to rowhouse_owner with check (true);

select audit.create_partitions();
