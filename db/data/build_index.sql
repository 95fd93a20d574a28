-- Indexes of an entity with many records are built by a worker (data.operations) while clients go on.
--
-- A function cannot create an index concurrently, and no login but the operator's may own a storage. So the index comes
-- first, on the new column while it is empty, and every batch that fills the column adds to it: with 1 million records of
-- 340 MB writers wait 0.5 to 1.2 s for it, where an index on the filled column takes 1.9 to 4.1 s. Where the column is there
-- already (flat storage, compound indexes) there is no empty column to begin with and writers do wait that long, readers never; an
-- operator who wants to spare them runs the operation's arguments->'statements' with "create index concurrently" first.

-- At 10,000 records a definition with a new index takes 0.3 to 0.4 s, all of it under an exclusive lock.
create or replace function data.builds_online(entity data.entities) returns boolean
language plpgsql stable set search_path = '' as $$
declare
  _many boolean;
begin
  execute format('select count(*) > 10000 from (select from %s limit 10001) t',
    data.storage_table(entity, (select a.schema_name from tenancy.apps a where a.id = entity.app_id))) into _many;
  return _many;
end
$$;
comment on function data.builds_online(data.entities) is 'Whether an entity has more than 10,000 records, so that new indexes are built by a worker.';

create or replace function data.defer_indexes(entity data.entities, old data.fields[], transforms jsonb) returns void
language plpgsql set search_path = '' as $$
declare
  _flat boolean := entity.storage = 'flat';
  _renames jsonb := (select coalesce(jsonb_object_agg(t->>'to', t->'from'), '{}') from jsonb_array_elements(transforms) t where t->>'op' = 'rename');
begin
  if defer_indexes.old = '{}' or not data.builds_online(entity) then
    return;
  end if;
  update data.fields f
  set is_building = true, is_unique = f.is_unique and d.has_key, is_indexed = d.has_idx, is_promoted = f.is_promoted and d.has_column
  from (
    select (c.field).name, o.has_column, o.has_column and coalesce((c.old_field).is_unique, false) as has_key,
      o.has_column and coalesce((c.old_field).is_indexed and not (c.old_field).is_unique, false) as has_idx
    from data.field_changes(entity, defer_indexes.old, _renames) c,
      lateral (select _flat or coalesce((c.old_field).is_promoted and not c.moved, false)) o (has_column)
    where (c.field).name is not null
  ) d
  -- A foreign key, an index that several properties are unique by and row-level security need their columns at once.
  where f.entity_id = entity.id and f.name = d.name
    and (d.has_column or not (f.schema ? 'x-relation' or f.name = 'expires_at' and entity.schema ? 'x-ttl' or exists (select from data.unique_sets(entity.schema) s where f.name = any (s.fields))))
    and not (f.is_unique and d.has_key)
    and (f.is_unique or f.is_indexed and not d.has_idx or f.is_promoted and not d.has_column);
end
$$;
comment on function data.defer_indexes(data.entities, data.fields[], jsonb) is
  'Marks the fields whose new indexes are left to a worker: in jsonb storage they get a column that writes keep and nothing reads yet.';

create or replace function data.deferred_statements(entity data.entities, schema_name text, renames jsonb) returns text[]
language sql stable set search_path = '' as $$
  select array(
    select format('create %sindex if not exists %I on %s (%I%s)', case u when true then 'unique ' else '' end,
      data.index_name(entity, f.name, case u when true then 'key' else 'idx' end), data.storage_table(entity, deferred_statements.schema_name), f.name,
      case u when true then '' else ', created_at, id' end)
    from data.fields f, coalesce((f.schema->>'x-unique')::boolean, false) u
    where f.entity_id = entity.id and f.is_building and (u or coalesce((f.schema->>'x-index')::boolean, false) and not f.is_indexed)
    order by f.position)
  || case when data.builds_online(entity)
    then array(select s from unnest(data.compound_index_statements(entity, deferred_statements.schema_name, renames)) s where s ~ '^create ') else '{}' end
  || data.search_statements(entity, deferred_statements.schema_name)
$$;
comment on function data.deferred_statements(data.entities, text, jsonb) is 'The statements that create the indexes which a definition leaves to a worker.';

create or replace function data.statement_index(statement text) returns text
language sql immutable set search_path = '' as $$ select substring(statement from 'index if not exists "?([^" ]+)') $$;
comment on function data.statement_index(text) is 'The name of the index that a statement creates.';

create or replace function data.build_index_step(operation data.operations, entity data.entities, out step text, out reached jsonb, out records bigint)
language plpgsql set search_path = '' as $$
declare
  _schema_name name := (select a.schema_name from tenancy.apps a where a.id = entity.app_id);
  _table text := data.storage_table(entity, _schema_name);
begin
  step := operation.step;
  reached := operation.reached;
  records := 0;
  case operation.step
    when 'begin' then
      execute format('with n as (select count(*) from %s) update data.operations o set records_total = (table n) where o.id = $1', _table) using operation.id;
      step := 'index';
    when 'index' then
      if not data.create_next_index(operation, _schema_name, _table) then
        step := 'copy'; -- the step during which other entities of the app can be defined
      end if;
    when 'copy' then
      select b.reached, b.records into reached, records from data.fill_batch(entity, _schema_name, operation.reached) b;
      step := case when reached is null then 'switch' else 'copy' end;
    else
      execute format('analyze %s', _table);
      perform data.finish_search(entity, _schema_name);
      perform data.switch_indexes(entity, _schema_name);
      step := 'done';
  end case;
end
$$;
comment on function data.build_index_step(data.operations, data.entities) is
  'A step of building indexes: begin, index (one each), copy (2,000 records each), switch. Returns the next step.';

create or replace function data.create_next_index(operation data.operations, schema_name text, table_name text) returns boolean
language plpgsql set search_path = '' as $$
declare
  _statement text;
  _is_valid boolean;
begin
  foreach _statement in array array(select jsonb_array_elements_text(operation.arguments->'statements')) loop
    select x.indisvalid into _is_valid from pg_catalog.pg_index x
    where x.indexrelid = to_regclass(format('%I.%I', schema_name, data.statement_index(_statement)));
    continue when _is_valid;
    if not _is_valid then
      execute format('drop index %I.%I', schema_name, data.statement_index(_statement)); -- an operator's, that failed
    end if;
    perform data.lock_tables('{}', array[table_name]);
    set local maintenance_work_mem = '256MB';
    begin
      execute _statement;
    exception when unique_violation then
      perform data.refuse_duplicates(operation.entity_id);
    end;
    return true;
  end loop;
  return false;
end
$$;
comment on function data.create_next_index(data.operations, text, text) is
  'Creates the next index of an operation; false when all are there. Writers wait meanwhile. RH409 when records are not unique.';

-- A row is computed from as it is once it is locked, so nothing a writer does meanwhile is lost. Who waits for a writer gives up
-- before PostgreSQL looks for deadlocks (1 s), so that no writer is their victim.
drop function if exists data.fill_batch(data.entities, text, jsonb);
create or replace function data.fill_batch(entity data.entities, schema_name text, after jsonb, out reached jsonb, out records bigint)
language plpgsql set search_path = '' as $$
declare
  _table text := data.storage_table(entity, schema_name);
  _search text := data.search_assignment(entity, schema_name);
  _update text;
  _after uuid := coalesce(after #>> '{}', '00000000-0000-0000-0000-000000000000')::uuid;
  _last uuid;
  _set text;
  _differs text;
begin
  execute format('select (array_agg(x.id order by x.id desc))[1], count(*) from (select t.id from %s t where t.id > $1 order by t.id limit 2000) x', _table)
  into _last, records using _after;
  reached := to_jsonb(_last);
  select string_agg(format('%I = %s', f.name, v), ', '), string_agg(format('t.%I is distinct from %s', f.name, v), ' or ') into _set, _differs
  from data.fields f, data.column_value(f, data.record_source(entity, 't')) v
  where f.entity_id = entity.id and f.is_building and not f.is_promoted;
  _set := concat_ws(', ', _set, _search);
  if _set = '' or _last is null then
    reached := null;
    return;
  end if;
  _update := format('update %s t set %s where t.id > $1 and t.id <= $2 and (%s)', _table, _set, concat_ws(' or ', _differs, case when _search is not null then 't._search is null' end));
  set local rowhouse.maintenance = 'on';
  set local lock_timeout = '300ms';
  begin
    execute case when _search is null then _update else data.learning_words(entity, fill_batch.schema_name, _update) end using _after, _last;
  exception
    when unique_violation then
      set local rowhouse.maintenance = '';
      perform data.refuse_duplicates(entity.id);
    when lock_not_available then
      reached := after;
      records := 0;
      perform pg_sleep(0.1);
  end;
  set local rowhouse.maintenance = '';
end
$$;
comment on function data.fill_batch(data.entities, text, jsonb) is
  'Fills the columns that are being built for the next 2,000 records by id; reached is null when there were none. RH409 when records are not unique.';

create or replace function data.refuse_duplicates(entity_id uuid) returns void
language plpgsql set search_path = '' as $$
declare
  _entity data.entities;
  _errors jsonb;
begin
  select e.* into _entity from data.entities e where e.id = refuse_duplicates.entity_id;
  _errors := data.key_offenders(_entity, (select a.schema_name from tenancy.apps a where a.id = _entity.app_id), (
    select jsonb_agg(jsonb_build_object('field', f.name, 'keyword', 'x-unique')) from data.fields f
    where f.entity_id = _entity.id and f.is_building and (f.schema->>'x-unique')::boolean));
  perform rowhouse.fail(409, format('Records of %s are not unique: %s %s', _entity.name, _errors #>> '{0,pointer}', _errors #>> '{0,message}'),
    'errors lists up to 20 values. Change those records, then define the index again.', 'records_do_not_fit', _errors);
end
$$;
comment on function data.refuse_duplicates(uuid) is 'Raises RH409 with the values that are not unique in the fields of an entity whose indexes are being built.';

create or replace function data.switch_indexes(entity data.entities, schema_name text) returns void
language plpgsql set search_path = '' as $$
declare
  _superseded text;
begin
  perform data.lock_tables(array[format('%I.%I', schema_name, entity.name), data.storage_table(entity, schema_name)]);
  for _superseded in
    select data.index_name(entity, f.name, 'idx') from data.fields f
    where f.entity_id = entity.id and f.is_building and f.is_indexed and (f.schema->>'x-unique')::boolean
  loop
    execute format('drop index if exists %I.%I', schema_name, _superseded);
  end loop;
  perform data.save_fields(entity);
  perform data.build_front(entity, schema_name);
  perform data.publish_definition(entity.app_id);
end
$$;
comment on function data.switch_indexes(data.entities, text) is 'Lets the view and the write functions of an entity use the columns and indexes that were built.';

create or replace function data.build_index_undo(operation data.operations, entity data.entities) returns void
language plpgsql set search_path = '' as $$
declare
  _schema_name name := (select a.schema_name from tenancy.apps a where a.id = entity.app_id);
  _table text := data.storage_table(entity, _schema_name);
  _names text[] := array(select data.statement_index(s) from jsonb_array_elements_text(operation.arguments->'statements') s);
  _columns text[];
  _schema jsonb;
  _dropped text;
  _entity data.entities;
begin
  perform data.lock_tables(array[format('%I.%I', _schema_name, entity.name), _table]);
  _columns := array(select format('alter table %s drop column %I', _table, f.name) from data.fields f
    where f.entity_id = entity.id and f.is_building and not f.is_promoted);
  _schema := data.without_deferred(entity, _names);
  if data.search_state(entity, _schema_name) like 'building %' then
    _schema := data.without_search(_schema);
  end if;
  -- The column of a field that has none any more is not to be looked for.
  update data.fields f set is_building = false where f.entity_id = entity.id;
  _entity := data.save_definition(entity, _schema, '[]');
  perform data.build_front(_entity, _schema_name);
  foreach _dropped in array array(select format('drop index if exists %I.%I', _schema_name, n) from unnest(_names) n) || _columns loop
    execute _dropped;
  end loop;
  perform data.publish_definition(_entity.app_id);
end
$$;
comment on function data.build_index_undo(data.operations, data.entities) is
  'Removes what an unfinished index has left: the entity gets a definition without it, as before.';

create or replace function data.without_deferred(entity data.entities, names text[]) returns jsonb
language sql stable set search_path = '' as $$
  select entity.schema - 'x-indexes' || jsonb_build_object('properties', (
      select jsonb_object_agg(p.key, case when f.is_building then p.value - 'x-unique' - case when f.is_indexed then '{}' else '{x-index}'::text[] end else p.value end)
      from jsonb_each(entity.schema->'properties') p join data.fields f on f.entity_id = entity.id and f.name = p.key))
    || coalesce((select jsonb_build_object('x-indexes', jsonb_agg(i order by n)) from jsonb_array_elements(entity.schema->'x-indexes') with ordinality o (i, n)
      where data.compound_index_name(entity, entity.schema, i) <> all (names) having count(*) > 0), '{}')
$$;
comment on function data.without_deferred(data.entities, text[]) is 'An entity''s schema without the indexes that are being built; names are those of the indexes.';
