-- The job that deletes expired records for good: batches of 1,000, each a transaction, one entity after the other. Where it
-- stands is in its state, so that records others refer to are passed by and not met again and again.

create or replace function data.note_expirations(entity_id uuid, records bigint, blocked bigint default null, failure text default null)
  returns void
language sql security definer set search_path = '' as $$
  insert into data.expirations as x (entity_id, site_id, day, records, blocked, failure)
  select e.id, e.site_id, (now() at time zone 'UTC')::date, note_expirations.records, coalesce(note_expirations.blocked, 0),
    note_expirations.failure
  from data.entities e where e.id = note_expirations.entity_id
  on conflict (entity_id, day) do update
  set records = x.records + excluded.records, blocked = coalesce(note_expirations.blocked, x.blocked),
    failure = case when note_expirations.blocked is null then x.failure else note_expirations.failure end
$$;
comment on function data.note_expirations(uuid, bigint, bigint, text) is 'Adds to the counts of an entity''s expired records of today; blocked replaces what was noted.';

create or replace function data.expire_step(state jsonb default '{}') returns jsonb
language plpgsql security definer set search_path = '' set lock_timeout = '2s' as $$
declare
  _entity data.entities;
  _batch record;
begin
  select e.* into _entity from data.entities e
  where e.schema ? 'x-ttl'
    -- Without its index each batch would read the whole table; who expires is out of sight at once.
    and not exists (select from data.fields f where f.entity_id = e.id and f.name = 'expires_at' and f.is_building)
    and case when state ? 'part' then e.id = (state->>'entity')::uuid
    else e.id > coalesce(state->>'entity', '00000000-0000-0000-0000-000000000000')::uuid end
  order by e.id limit 1;
  if _entity.id is null then
    return case when state ? 'part' then jsonb_build_object('entity', state->'entity') end; -- dropped meanwhile
  end if;
  begin
    _batch := data.expire_batch(_entity, (select a.schema_name from tenancy.apps a where a.id = _entity.app_id),
      coalesce(state->>'part', 'expires_at'),
      (state->>'time')::timestamptz, (state->>'id')::uuid);
    perform data.note_expirations(_entity.id, _batch.deleted) where _batch.deleted > 0;
  exception when others then
    -- One entity that is locked or broken does not keep the others waiting.
    perform data.note_expirations(_entity.id, 0, coalesce((state->>'blocked')::bigint, 0), sqlstate || ' ' || sqlerrm);
    return jsonb_build_object('entity', _entity.id);
  end;
  state := jsonb_build_object('entity', _entity.id, 'part', _batch.next_part, 'time', _batch.time, 'id', _batch.id,
    'blocked', coalesce((state->>'blocked')::bigint, 0) + _batch.blocked);
  if _batch.next_part is null then
    if (state->>'blocked')::bigint > 0
      or exists (select from data.expirations x where x.entity_id = _entity.id and x.blocked > 0 or x.failure is not null) then
      perform data.note_expirations(_entity.id, 0, (state->>'blocked')::bigint);
    end if;
    return jsonb_build_object('entity', _entity.id);
  end if;
  return jsonb_strip_nulls(state);
end
$$;
comment on function data.expire_step(jsonb) is
  'Deletes the next up to 1,000 expired records, of any entity, for good, and returns the state to call it with next, or null when all are done. What data.expirations keeps is for operators. For the worker.';

create or replace function data.expire_batch(
  entity data.entities, schema_name text, part text, after_time timestamptz, after_id uuid,
  out deleted bigint, out blocked bigint, out next_part text, out "time" timestamptz, out id uuid
)
language plpgsql set search_path = '' as $$
declare
  _table text := data.storage_table(entity, expire_batch.schema_name);
  _column text := case part when 'rule' then data.ttl_from(entity.schema) else 'expires_at' end;
  _expired text := case part
    when 'rule' then format('t.expires_at is null and t.%I <= now() - interval ''%s s''', data.ttl_from(entity.schema),
    data.ttl_seconds(entity.schema))
    else 't.expires_at <= now()' end;
  _ids uuid[];
  _id uuid;
  _size int;
begin
  if part = 'kept' then
    deleted := data.expire_kept(entity, expire_batch.schema_name);
    blocked := 0;
    next_part := case when deleted > 0 then part end;
    return;
  end if;
  -- A record that somebody is changing right now is met again in an hour.
  execute format($sql$
    select array_agg(x.id) filter (where not x.blocked), count(*) filter (where x.blocked), count(*),
      (array_agg(x.at order by x.at desc, x.id desc))[1], (array_agg(x.id order by x.at desc, x.id desc))[1]
    from (
      select t.id, t.%1$I as at, (%2$s) as blocked from %3$s t
      where %4$s and (t.%1$I, t.id) > ($1, $2) order by t.%1$I, t.id limit 1000 for update of t skip locked
    ) x $sql$, _column, data.restricted_condition(entity, expire_batch.schema_name, 't'), _table, _expired)
  into _ids, blocked, _size, "time", expire_batch.id
  using coalesce(after_time, '-infinity'), coalesce(after_id, '00000000-0000-0000-0000-000000000000');
  next_part := part;
  if _size < 1000 then
    next_part := case when part = 'expires_at'
      and data.ttl_seconds(entity.schema) is not null then 'rule' when data.keeps_records(entity.schema) then 'kept' end;
    "time" := null;
    expire_batch.id := null;
  end if;
  set local rowhouse.expiring = 'on';
  begin
    execute format('delete from %s t where t.id = any ($1)', _table) using _ids;
    get diagnostics deleted = row_count;
  exception when foreign_key_violation or restrict_violation then
    -- Something that would go with one of them is referred to in its turn.
    deleted := 0;
    foreach _id in array _ids loop
      begin
        execute format('delete from %s t where t.id = $1', _table) using _id;
        deleted := deleted + 1;
      exception when foreign_key_violation or restrict_violation then
        blocked := blocked + 1;
      end;
    end loop;
  end;
  set local rowhouse.expiring = '';
end
$$;
comment on function data.expire_batch(data.entities, text, text, timestamptz, uuid) is
  'Deletes up to 1,000 expired records, those of an expires_at of their own (part expires_at) or by the entity''s rule (part rule), after a time and an id, or of those that were deleted before (part kept). blocked: others refer to them.';

create or replace function data.restricted_condition(entity data.entities, schema_name text, alias text) returns text
language sql stable set search_path = '' as $$
  select coalesce(string_agg(c, ' or ' order by c), 'false') from (
    select format('exists (select from %s r where r.%I = %s.%I)', data.storage_table(s, restricted_condition.schema_name), r.field, alias,
      r.target_field)
    from data.relations r join data.entities s on s.id = r.entity_id where r.target_id = entity.id and r.on_delete = 'restrict'
    union all
    select format('exists (select from %s l where l.target_id = %s.id)', data.link_table(s, restricted_condition.schema_name, l.field),
      alias)
    from data.links l join data.entities s on s.id = l.entity_id where l.target_id = entity.id and l.on_delete = 'restrict') x (c)
$$;
comment on function data.restricted_condition(data.entities, text, text) is 'The SQL that is true for storage rows (alias) that others refer to in a way that keeps them.';

create or replace procedure data.delete_expired()
language plpgsql as $$
declare
  _state jsonb := '{}';
begin
  while _state is not null loop
    _state := data.expire_step(_state);
    commit;
  end loop;
end
$$;
comment on procedure data.delete_expired() is
  'Deletes all expired records here and now, 1,000 at a time, each batch committed: for operators without a worker, or in a hurry.';
