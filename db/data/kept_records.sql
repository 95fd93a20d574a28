-- What an entity keeps of records that are no longer so: <entity>__deleted_records (x-soft-delete) and <entity>__history
-- (x-history). Both hold whole records in one shape, whatever the storage, each under the definition it was written under.

create or replace function data.keeps_records(schema jsonb) returns boolean
language sql immutable parallel safe set search_path = '' as $$
  select 'true' in (coalesce(keeps_records.schema->>'x-soft-delete', ''), coalesce(keeps_records.schema->>'x-history', ''))
$$;
comment on function data.keeps_records(jsonb) is 'Whether an entity with this schema keeps deleted records or former states.';

create or replace function data.kept_name(entity data.entities, schema_name text, what text) returns text
language sql immutable parallel safe set search_path = '' as $$ select format('%I.%I', schema_name, entity.name || '__' || what) $$;
comment on function data.kept_name(data.entities, text, text) is
  'A relation beside an entity, as SQL: deleted_records, deleted or history. No entity has two underscores in a row in its name.';

create or replace function data.kept_columns() returns text
language sql immutable parallel safe as $$
  select 'id, created_at, updated_at, version, created_by, _schema_version, _dropped, data, expires_at'
$$;
comment on function data.kept_columns() is 'The columns of a kept record that are its own.';

create or replace function data.stored_source(entity data.entities, alias text) returns text
language sql stable set search_path = '' as $$ select case entity.storage when 'jsonb' then alias || '.data'
  else data.record_source(entity, alias) end $$;
comment on function data.stored_source(data.entities, text) is 'The SQL expression for the data of a storage row (alias) under the definition it was written under.';

create or replace function data.kept_values(entity data.entities, alias text) returns text
language sql stable set search_path = '' as $$
  select array_to_string(case entity.storage
      when 'jsonb' then (select array_agg(format('%s.%s', alias, c))
        from unnest(array['id', 'created_at', 'updated_at', 'version', 'created_by', '_schema_version', '_dropped']) c)
      else (data.copy_list(entity, data.with_storage(entity, 'jsonb'), alias)).expressions[1:7] end
    || case data.link_names(entity.schema) when '{}' then data.stored_source(entity, alias)
      else format('data.with_written_lists(%s, %s._links)', data.stored_source(entity, alias), alias) end
    || case when not entity.schema ? 'x-ttl' then 'null::timestamptz'
      when data.ttl_seconds(entity.schema) is null then data.expiry_time(entity, alias)
      else format('coalesce(%1$s, %2$s.%3$I + interval ''%4$s s'')', data.expiry_time(entity, alias), alias,
        data.ttl_from(entity.schema), data.ttl_seconds(entity.schema)) end, ', ')
$$;
comment on function data.kept_values(data.entities, text) is 'What data.kept_columns are of a storage row (alias), as SQL.';

-- Records in the storage were checked when the definition changed, these were not: a value that does not fit is not shown.
create or replace function data.readable(record jsonb, types jsonb) returns jsonb
language sql stable parallel safe set search_path = '' as $$
  select record - array(select t.key from jsonb_each_text(types) t where record ? t.key and not pg_input_is_valid(record->>t.key, t.value))
$$;
comment on function data.readable(jsonb, jsonb) is 'A record without the values that cannot be read as the SQL types {field: type}.';

create or replace function data.kept_rows(entity data.entities, schema_name text, what text, more text default '') returns text
language sql stable set search_path = '' as $$
  select format('
    select k.id, k.created_at, k.updated_at, k.version, k.created_by, %1$s as _schema_version, u.dropped as _dropped, r.data%2$s%3$s
    from %4$s k, lateral %5$I.%6$I(k.data, k._dropped, k._schema_version) u,
      lateral (select case when k._schema_version = %1$s then u.data else data.readable(u.data, %7$L) end as data offset 0) r',
    entity.version,
    string_agg(format(', %s as %I', data.column_value(f, 'r.data'), f.name), '' order by f.position) filter (where f.is_promoted),
    more, data.kept_name(entity, schema_name, what), schema_name, entity.name || '_upgraded',
    coalesce(jsonb_object_agg(f.name, f.sql_type) filter (where f.sql_type not in ('text', 'jsonb')), '{}'))
  from data.fields f where f.entity_id = entity.id
$$;
comment on function data.kept_rows(data.entities, text, text, text) is
  'The SQL that reads kept records as rows shaped like the entity''s storage, as of its current definition.';

create or replace function data.create_kept(entity data.entities, schema_name text, what text, columns text, policy text) returns void
language plpgsql set search_path = '' as $$
declare
  _table text := data.kept_name(entity, create_kept.schema_name, what);
begin
  execute format('
    create table if not exists %s (id uuid not null, created_at timestamptz not null, updated_at timestamptz not null,
      version int not null, created_by uuid, _schema_version int not null, _dropped jsonb, data jsonb not null,
      expires_at timestamptz, %s)',
    _table, columns);
  execute format('comment on table %s is %L', _table, E'@behavior -*\nKept records of an entity.');
  execute format('grant select on %s to rowhouse_data', _table);
  execute format('alter table %s enable row level security, force row level security', _table);
  execute format('drop policy if exists owner_all on %s', _table);
  execute format('create policy owner_all on %s to rowhouse_owner using (true) with check (true)', _table);
  execute format('drop policy if exists may_read on %s', _table);
  execute format('create policy may_read on %s for select to rowhouse_data using (%s)', _table, policy);
end
$$;
comment on function data.create_kept(data.entities, text, text, text, text) is 'Creates a table for kept records, where there is none, under row-level security.';

create or replace function data.keep_statement(entity data.entities, schema_name text, what text, columns text, "values" text) returns text
language sql stable set search_path = '' as $$
  select format('insert into %s (%s, %s) select %s, %s from gone t', data.kept_name(entity, schema_name, what), data.kept_columns(),
    columns,
    data.kept_values(entity, 't'), "values")
$$;
comment on function data.keep_statement(data.entities, text, text, text, text) is 'The statement of a trigger that keeps rows of the transition table gone.';

create or replace function data.build_kept(entity data.entities, schema_name text) returns void
language plpgsql set search_path = '' as $$
begin
  perform data.drop_kept_front(entity, build_kept.schema_name);
  perform data.build_soft_delete(entity, build_kept.schema_name);
  perform data.build_history(entity, build_kept.schema_name);
end
$$;
comment on function data.build_kept(data.entities, text) is 'Builds what x-soft-delete and x-history of an entity ask for, and removes what they no longer do.';

create or replace function data.drop_kept_front(entity data.entities, schema_name text) returns void
language plpgsql set search_path = '' as $$
begin
  perform data.drop_as_of(entity, drop_kept_front.schema_name);
  execute format('drop function if exists %1$I.%2$I(uuid), %1$I.%3$I(uuid), %1$I.%4$I(uuid, timestamptz), %1$I.%5$I(uuid, int, int)',
    drop_kept_front.schema_name,
    entity.name || '_restore', entity.name || '_purge', entity.name || '_as_of', entity.name || '_history');
  execute format('drop view if exists %s', data.kept_name(entity, drop_kept_front.schema_name, 'deleted'));
end
$$;
comment on function data.drop_kept_front(data.entities, text) is 'Drops the view and the functions through which kept records are seen.';

create or replace function data.release_kept(entity data.entities, schema_name text) returns void
language plpgsql set search_path = '' as $$
declare
  _table text;
begin
  perform data.drop_kept_front(entity, release_kept.schema_name);
  foreach _table in array data.kept_tables(entity, release_kept.schema_name) loop
    execute format('drop policy if exists may_read on %s', _table);
  end loop;
end
$$;
comment on function data.release_kept(data.entities, text) is 'Drops whatever asks for rights to kept records; nobody sees them until data.build_kept.';

create or replace function data.drop_kept(entity data.entities, schema_name text) returns void
language plpgsql set search_path = '' as $$
begin
  perform data.drop_kept_front(entity, drop_kept.schema_name);
  execute format('drop table if exists %s, %s', data.kept_name(entity, drop_kept.schema_name, 'deleted_records'),
    data.kept_name(entity, drop_kept.schema_name, 'history'));
  execute format('drop function if exists %1$I.%2$I(), %1$I.%3$I()', drop_kept.schema_name, entity.name || '_keep_deleted',
    entity.name || '_keep_history');
end
$$;
comment on function data.drop_kept(data.entities, text) is 'Drops all kept records of an entity whose storage has been dropped.';

create or replace function data.publish_kept_function(entity data.entities, schema_name text, signature text) returns void
language plpgsql set search_path = '' as $$
declare
  _function text := format('%I.', publish_kept_function.schema_name) || signature;
begin
  execute format('comment on function %s is %L', _function, E'@behavior -*\nDeleted records and former states of ' || entity.name || '.');
  execute format('revoke all on function %s from public', _function);
  execute format('grant execute on function %s to %I, rowhouse_owner', _function,
    (select s.role_name from tenancy.sites s where s.id = entity.site_id));
  execute format('alter function %s owner to rowhouse_data', _function);
end
$$;
comment on function data.publish_kept_function(data.entities, text, text) is 'Gives a generated function to rowhouse_data, and lets the site call it.';

drop function if exists data.compact_kept(data.entities, text);
create or replace function data.kept_tables(entity data.entities, schema_name text) returns text[]
language sql stable set search_path = '' as $$
  select array(select k
    from unnest(array['deleted_records', 'history']) with ordinality w (what, n), data.kept_name(entity, schema_name, what) k
    where to_regclass(k) is not null order by n)
$$;
comment on function data.kept_tables(data.entities, text) is 'The tables that hold an entity''s kept records, as SQL.';

-- data.compact promises that dropped values are gone.
create or replace function data.compact_kept(entity data.entities, schema_name text, tables text[] default null, after uuid default null,
  last uuid default null) returns void
language plpgsql set search_path = '' as $$
declare
  _table text;
begin
  foreach _table in array coalesce(tables, data.kept_tables(entity, schema_name)) loop
    execute format('update %s k set data = (%I.%I(k.data, k._dropped, k._schema_version)).data, _dropped = null, _schema_version = %s
      where (k._schema_version <> %4$s or k._dropped is not null)%s', _table, schema_name, entity.name || '_upgraded', entity.version,
      case when last is not null then ' and k.id > $1 and k.id <= $2' end) using after, last;
  end loop;
end
$$;
comment on function data.compact_kept(data.entities, text, text[], uuid, uuid) is
  'Brings the kept records of an entity to its current definition and forgets their dropped values: all, or those of some tables with ids after one up to the last.';

create or replace function data.compact_kept_batch(entity data.entities, schema_name text, after jsonb, out reached jsonb,
  out records bigint)
language plpgsql set search_path = '' as $$
declare
  _n int := coalesce((after->>'table')::int, 1);
  _table text := (data.kept_tables(entity, schema_name))[_n];
  _after uuid := coalesce(after->>'after', '00000000-0000-0000-0000-000000000000')::uuid;
  _last uuid;
begin
  records := 0;
  if _table is null then
    return;
  end if;
  execute format('
    select (array_agg(x.id order by x.id desc))[1], count(*)
    from (select k.id from %s k where k.id > $1 order by k.id limit 2000) x',
    _table)
  into _last, records using _after;
  if _last is null then
    reached := jsonb_build_object('table', _n + 1);
    return;
  end if;
  perform data.compact_kept(entity, schema_name, array[_table], _after, _last);
  reached := jsonb_build_object('table', _n, 'after', _last);
end
$$;
comment on function data.compact_kept_batch(data.entities, text, jsonb) is
  'Compacts about the next 2,000 kept records by id, one table after the other; reached is null when there were none.';

create or replace function data.expire_kept(entity data.entities, schema_name text) returns bigint
language plpgsql set search_path = '' as $$
declare
  _deleted text := data.kept_name(entity, expire_kept.schema_name, 'deleted_records');
  _history text := data.kept_name(entity, expire_kept.schema_name, 'history');
  _ids uuid[] := '{}';
  _more uuid[];
begin
  if to_regclass(_deleted) is not null then
    execute format('
      with gone as (
        delete from %1$s k where k.id = any (array(select x.id from %1$s x where x.expires_at <= now() limit 1000))
        returning k.id
      )
      select coalesce(array_agg(id), ''{}'') from gone', _deleted) into _ids;
  end if;
  if to_regclass(_history) is not null then
    execute format('
      select coalesce(array_agg(distinct x.id), ''{}'')
      from (select h.id from %s h where h.operation = ''delete'' and h.expires_at <= now() limit 1000) x',
      _history) into _more;
    execute format('delete from %s h where h.id = any ($1)', _history) using _ids || _more;
    _ids := case when _ids = '{}' then _more else _ids end;
  end if;
  return cardinality(_ids);
end
$$;
comment on function data.expire_kept(data.entities, text) is
  'Deletes for good up to 1,000 deleted records whose time has come, with their history, and the history of as many that were not kept; returns how many.';
