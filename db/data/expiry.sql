-- Records that expire (x-ttl): invisible from that moment on, in every door, because row-level security says so.

drop function if exists data.alive_condition(jsonb, text);
create or replace function data.expiry_time(entity data.entities, alias text) returns text
language sql stable set search_path = '' as $$
  select case when f.is_promoted then alias || '.expires_at'
    else '(' || data.column_value(f, data.field_source(entity, f.name, alias)) || ')' end
  from data.fields f where f.entity_id = entity.id and f.name = 'expires_at'
$$;
comment on function data.expiry_time(data.entities, text) is
  'The SQL of the moment at which a storage row (alias) of an entity with x-ttl expires: its column, or the record while a worker fills the column.';

create or replace function data.alive_condition(entity data.entities, alias text) returns text
language sql stable set search_path = '' as $$
  select case
    when not entity.schema ? 'x-ttl' then null
    when data.ttl_seconds(entity.schema) is null then format('(%1$s is null or %1$s > now())', data.expiry_time(entity, alias))
    else format('(%1$s > now() or %1$s is null and %2$s.%3$I > now() - interval ''%4$s s'')',
      data.expiry_time(entity, alias), alias, data.ttl_from(entity.schema), data.ttl_seconds(entity.schema))
  end
$$;
comment on function data.alive_condition(data.entities, text) is
  'The SQL that is true for storage rows (alias) that have not expired; null for an entity whose records do not expire.';

create or replace function data.ttl_statements(entity data.entities, schema_name text) returns text[]
language sql stable set search_path = '' as $$
  select case
    when data.ttl_seconds(entity.schema) is not null
      and data.ttl_from(entity.schema) = 'updated_at' then case when to_regclass(i) is null then
      array[format('create index if not exists %I on %s (updated_at, id)', data.index_name(entity, 'updated_at', 'idx'),
        data.storage_table(entity, schema_name))] else '{}' end
    when to_regclass(i) is not null then array[format('drop index if exists %s', i)]
    else '{}'
  end
  from (select format('%I.%I', schema_name, data.index_name(entity, 'updated_at', 'idx'))) x (i)
$$;
comment on function data.ttl_statements(data.entities, text) is
  'The statements that bring or take the index by which expired records are found when x-ttl counts from updated_at.';

-- A unique value must be free as soon as its record has expired, and not only after the job has come by.
create or replace function data.build_make_room(entity data.entities, schema_name text) returns void
language plpgsql set search_path = '' as $$
declare
  _name text := format('%I.%I', build_make_room.schema_name, entity.name || '_make_room');
  _table text := data.storage_table(entity, build_make_room.schema_name);
  _keys text;
begin
  execute format('drop function if exists %s(jsonb)', _name);
  if not entity.schema ? 'x-ttl' then
    return;
  end if;
  select string_agg('(' || k.condition || ')', ' or ' order by k.condition) into _keys
  from (
    select string_agg(format('t.%I = %s', a.attname, case when a.attname = 'id' then '(_record->>''id'')::uuid'
      else data.column_value(f, '_record') end), ' and ')
    from pg_catalog.pg_index i
    join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = any (i.indkey)
    left join data.fields f on f.entity_id = entity.id and f.name = a.attname
    where i.indrelid = to_regclass(_table) and i.indisunique and i.indpred is null and i.indexprs is null
    group by i.indexrelid having bool_and(a.attname = 'id' or f.name is not null)
  ) k (condition);
  perform rowhouse.create_function($sql$
    create function %1$s(_record jsonb) returns void language plpgsql security definer set search_path = '' $sql$, $sql$
    declare
      _count int;
    begin
      if exists (select from %2$s t where (%3$s) and %4$s is not true) then
        begin
          set local rowhouse.expiring = 'on';
          delete from %2$s t where (%3$s) and %4$s is not true;
          get diagnostics _count = row_count;
          set local rowhouse.expiring = '';
          perform data.note_expirations(%5$L, _count);
        exception when foreign_key_violation or restrict_violation then
          null; -- others refer to it, so that its value stays taken
        end;
      end if;
    end $sql$, _name, _table, _keys, data.alive_condition(entity, 't'), entity.id::text);
  execute format('revoke all on function %s(jsonb) from public', _name);
  execute format('grant execute on function %s(jsonb) to rowhouse_data', _name);
  execute format('comment on function %s(jsonb) is %L', _name,
    E'@behavior -*\nRemoves expired records that have a unique value of this one.');
end
$$;
comment on function data.build_make_room(data.entities, text) is
  'Generates <entity>_make_room(record), which removes expired records whose unique values a new one has; drops it for an entity without x-ttl.';

-- Looking for room costs 30 µs, so an update does it only when a unique value changes.
create or replace function data.compile_expiry_rule(entity data.entities, schema_name text) returns text
language sql stable set search_path = '' as $$
  select case when entity.schema ? 'x-ttl' then format($sql$if new.expires_at <= now() then
      perform data.refuse_expiry(%1$L);
    end if;
    if tg_op = 'INSERT'%2$s then
      perform %3$I.%4$I(jsonb_build_object('id', new.id%5$s));
    end if;$sql$, entity.name, string_agg(format(' or new.%1$I is distinct from old.%1$I', c), '' order by c), schema_name, entity.name || '_make_room',
    string_agg(format(', %L, new.%I', c, c), '' order by c)) else '' end
  from unnest(data.unique_columns(entity, schema_name)) c
$$;
comment on function data.compile_expiry_rule(data.entities, text) is 'PL/pgSQL of the write rule of an entity with x-ttl.';

create or replace function data.unique_columns(entity data.entities, schema_name text) returns text[]
language sql stable set search_path = '' as $$
  select array(
    select distinct a.attname::text
    from pg_catalog.pg_index i join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = any (i.indkey)
    where i.indrelid = to_regclass(data.storage_table(entity, schema_name)) and i.indisunique and i.indpred is null and i.indexprs is null
      and a.attname <> 'id')
$$;
comment on function data.unique_columns(data.entities, text) is 'The columns of an entity''s storage that are unique, alone or together, besides the id.';

create or replace function data.refuse_expiry(name text) returns void
language sql set search_path = '' as $$
  select rowhouse.fail(422, format('This record of %s is not valid: /expires_at must be in the future', refuse_expiry.name),
    'Delete the record to be rid of it at once.', 'validation_failed', data.violation('/expires_at', 'must be in the future'))
$$;
comment on function data.refuse_expiry(text) is 'Raises RH422 for an expires_at that has passed.';

create or replace function data.hides_records(entity_ids uuid[]) returns boolean
language sql stable security definer set search_path = '' as $$
  select exists (select from data.entities e where e.id = any (entity_ids) and e.schema ? 'x-ttl')
$$;
comment on function data.hides_records(uuid[]) is 'Whether records of one of these entities may be in the storage and nevertheless not be there for anybody.';

-- As with data.is_maintenance, only rowhouse_owner can be believed.
create or replace function data.is_expiring() returns boolean
language sql stable parallel safe
return current_user = 'rowhouse_owner' and coalesce(current_setting('rowhouse.expiring', true), '') = 'on';
comment on function data.is_expiring() is 'Whether records are being deleted because they have expired, for good and without a trace.';
