-- Indexes of an entity with many records are built by a worker (data.operations) while clients go on.
--
-- On jsonb storage the index comes first, on the new column while it is empty, and every batch that fills the column adds to it: where no
-- process has the operator's login (data.ask_operator), writers wait 0.5 to 1.2 s for it with 1 million records of 340 MB, where
-- an index on a full column takes 1.9 to 4.1 s. Readers never wait.

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
  _renames jsonb := (select coalesce(jsonb_object_agg(t->>'to', t->'from'), '{}') from jsonb_array_elements(transforms) t
    where t->>'op' = 'rename');
  _retyped text[] := data.retyped_fields(entity, defer_indexes.old, transforms);
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
      lateral (select case
        when (c.field).name = any (_retyped) then false
        when _flat then true
        -- Values that become others in the column they have would be written under the lock.
        when data.is_converted(transforms, (c.field).name) then false
        else coalesce((c.old_field).is_promoted and not c.moved, false)
          -- A column that no record has had yet is right when it is empty.
          or (c.field).name = 'expires_at' and (c.old_field).name is null and entity.schema ? 'x-ttl'
            and not exists (select from jsonb_array_elements(transforms) t where t->>'field' = 'expires_at') end) o (has_column)
    where (c.field).name is not null
  ) d
  where f.entity_id = entity.id and f.name = d.name
    and not (f.is_unique and d.has_key)
    and (f.is_unique or f.is_indexed and not d.has_idx or f.is_promoted and not d.has_column);
end
$$;
comment on function data.defer_indexes(data.entities, data.fields[], jsonb) is
  'Marks the fields whose new indexes are left to a worker: in jsonb storage they get a column that writes keep and nothing reads yet.';

-- The foreign keys are there from the definition on, for what is written from then on (data.storage_statements).
drop function if exists data.deferred_statements(data.entities, text, jsonb);
create or replace function data.deferred_statements(entity data.entities, schema_name text, old data.fields[], renames jsonb,
  statements text[]) returns text[]
language sql stable set search_path = '' as $$
  select array(
    select format('create %sindex if not exists %I on %s (%I%s)', case u when true then 'unique ' else '' end,
      data.index_name(entity, f.name, case u when true then 'key' else 'idx' end),
      data.storage_table(entity, deferred_statements.schema_name), f.name,
      case u when true then '' else ', created_at, id' end)
    from data.fields f, coalesce((f.schema->>'x-unique')::boolean, false) u
    where f.entity_id = entity.id and f.is_building
      and (u or (coalesce((f.schema->>'x-index')::boolean, false) or f.schema ? 'x-relation') and not f.is_indexed)
    order by f.position)
  || case when data.builds_online(entity)
    then array(select s from unnest(data.unique_set_statements(entity, deferred_statements.schema_name, deferred_statements.old, renames)
      || data.compound_index_statements(entity, deferred_statements.schema_name, renames)) s where s ~ '^create ') else '{}' end
  || case when deferred_statements.old <> '{}' and data.builds_online(entity)
    then array(select s from unnest(data.ttl_statements(entity, deferred_statements.schema_name)) s where s ~ '^create ') else '{}' end
  || data.deferred_fills(entity, deferred_statements.schema_name)
  || array(select regexp_replace(s, ' add constraint (\S+) (foreign key|check|not null) .*$', ' validate constraint \1')
    from unnest(statements) s where s ~ ' add constraint .* not valid$')
  -- What a cancelled operation has left.
  || array(select format('alter table %s validate constraint %I', t, c.conname) from pg_catalog.pg_constraint c
    where c.conrelid = to_regclass(t) and c.contype in ('c', 'n') and not c.convalidated
      and not exists (select from unnest(statements) s where s ~ format(' constraint (if exists )?%s ', c.conname)) order by c.conname)
  || data.search_statements(entity, deferred_statements.schema_name)
  from data.storage_table(entity, deferred_statements.schema_name) t
$$;
comment on function data.deferred_statements(data.entities, text, data.fields[], jsonb, text[]) is
  'What a definition leaves to a worker: statements that create indexes, what it fills, and statements that validate the constraints which statements add.';

create or replace function data.statement_index(statement text) returns text
language sql immutable set search_path = '' as $$ select substring(statement from 'index (?:if not exists|concurrently) "?([^" ]+)') $$;
comment on function data.statement_index(text) is 'The name of the index that a statement creates.';

create or replace function data.build_index_step(operation data.operations, entity data.entities, out step text, out reached jsonb,
  out records bigint)
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
      execute format('with n as (select count(*) from %s) update data.operations o set records_total = (table n) where o.id = $1', _table)
        using operation.id;
      step := 'index';
    when 'index' then
      if not data.create_next_index(operation, _schema_name, _table) then
        step := 'copy'; -- the step during which other entities of the app can be defined
      end if;
    when 'copy' then
      select b.reached, b.records into reached, records from data.fill_batch(entity, _schema_name, operation.reached) b;
      step := case when reached is null then 'keys' else 'copy' end;
    when 'keys' then
      if not data.validate_next_reference(operation, _table) then
        step := 'switch';
      end if;
    else
      execute format('analyze %s', _table);
      perform data.finish_search(entity, _schema_name);
      perform data.switch_indexes(entity, _schema_name);
      step := 'done';
  end case;
end
$$;
comment on function data.build_index_step(data.operations, data.entities) is
  'A step of building indexes: begin, index (one each), copy (2,000 records each), keys (one each), switch. Returns the next step.';

create or replace function data.create_next_index(operation data.operations, schema_name text, table_name text) returns boolean
language plpgsql set search_path = '' as $$
declare
  _statement text := (
    select s from jsonb_array_elements_text(operation.arguments->'statements') with ordinality o (s, n)
    where s ~ '^create ' and data.is_valid_index(create_next_index.schema_name, data.statement_index(s)) is not true order by n limit 1);
  _name text := data.statement_index(_statement);
begin
  if _statement is not null and rowhouse.operator_is_alive() then
    perform data.ask_operator(operation, _statement);
    return true;
  end if;
  update data.operations o set statement = null, failure = null,
    note = case when _statement is null then o.note
      else _name || ' was built in a transaction, for which writers waited: no process with the operator''s login has reported for 30 s' end
  where o.id = operation.id;
  if _statement is null then
    return false;
  end if;
  perform data.lock_tables('{}', array[table_name]);
  execute format('drop index if exists %I.%I', schema_name, _name); -- one whose building was interrupted
  set local maintenance_work_mem = '256MB';
  begin
    execute _statement;
  exception when unique_violation then
    perform data.refuse_duplicates(operation.entity_id);
  end;
  return true;
end
$$;
comment on function data.create_next_index(data.operations, text, text) is
  'Creates the next index of an operation, or asks for it where a process with the operator''s login can do it while everybody goes on; false when all are there. RH409 when records are not unique.';

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
  _fill record := data.fill_assignment(entity, fill_batch.schema_name);
  _set text;
begin
  execute format('
    select (array_agg(x.id order by x.id desc))[1], count(*)
    from (select t.id from %s t where t.id > $1 order by t.id limit 2000) x',
    _table)
  into _last, records using _after;
  -- What is written meanwhile is filled already: who waited until there is no more would follow a busy writer for ever.
  reached := case when records = 2000 then to_jsonb(_last) end;
  _set := concat_ws(', ', nullif(_fill.assignment, ''), _search);
  if _set = '' or _last is null then
    reached := null;
    return;
  end if;
  _update := format('update %s t set %s where t.id > $1 and t.id <= $2 and (%s)', _table, _set,
    concat_ws(' or ', nullif(_fill.condition, ''), case when _search is not null then 't._search is null' end));
  set local rowhouse.maintenance = 'on';
  set local lock_timeout = '300ms';
  begin
    execute case when _search is null then _update else data.learning_words(entity, fill_batch.schema_name, _update) end
      using _after, _last;
  exception
    when unique_violation then
      set local rowhouse.maintenance = '';
      perform data.refuse_duplicates(entity.id);
    when foreign_key_violation then
      set local rowhouse.maintenance = '';
      perform data.refuse_orphans(entity.id);
    when lock_not_available then
      reached := to_jsonb(_after);
      records := 0;
      perform pg_sleep(0.1);
  end;
  set local rowhouse.maintenance = '';
end
$$;
comment on function data.fill_batch(data.entities, text, jsonb) is
  'Fills the columns that are being built for the next 2,000 records by id; reached is null when these were the last. RH409 when records are not unique or refer to no record.';

create or replace function data.switch_indexes(entity data.entities, schema_name text) returns void
language plpgsql set search_path = '' as $$
declare
  _superseded text;
  _former text[] := array(select r.former from data.retyping(entity) r);
begin
  perform data.lock_tables(array[format('%I.%I', schema_name, entity.name), data.storage_table(entity, schema_name)]
    || case when _former <> '{}' then access.share_views(entity) else '{}' end);
  for _superseded in
    select data.index_name(entity, f.name, 'idx') from data.fields f
    where f.entity_id = entity.id and f.is_building and f.is_indexed and (f.schema->>'x-unique')::boolean
  loop
    execute format('drop index if exists %I.%I', schema_name, _superseded);
  end loop;
  perform data.save_fields(entity);
  if _former <> '{}' then
    update data.entities e set oldest_version = e.version where e.id = entity.id returning e.* into entity;
  end if;
  perform access.guard(entity, data.storage_table(entity, schema_name)); -- conditions read the columns, too
  perform data.build_front(entity, schema_name);
  perform data.finish_retyping(entity, schema_name, _former);
  perform data.publish_definition(entity.app_id);
end
$$;
comment on function data.switch_indexes(data.entities, text) is 'Lets the view, the policies and the write functions of an entity use the columns and indexes that were built.';
