-- Giving an entity a new definition: what a plan shows is what its apply, data.define_entity and data.rollback do.

-- A reader that waits behind a queued exclusive lock waits as long as the lock does: so it is asked for again and again. All
-- locks at once or none: who holds one and waits for the next deadlocks with statements that come from the other side.
create or replace function data.lock_tables(exclusive text[], others text[] default '{}') returns void
language plpgsql set search_path = '' as $$
declare
  _until timestamptz := clock_timestamp() + interval '10 seconds';
  _name text;
begin
  loop
    begin
      set local lock_timeout = '100ms';
      foreach _name in array lock_tables.exclusive loop
        -- LOCK TABLE takes with a view all it looks at: with one that hashes, the keys of every site, which its owner may not.
        -- To give a view to its own owner is the same lock, on the view alone.
        execute coalesce((select format('alter view %s owner to %s', _name, c.relowner::regrole) from pg_catalog.pg_class c
          where c.oid = to_regclass(_name) and c.relkind = 'v'), format('lock table %s in access exclusive mode', _name));
      end loop;
      if lock_tables.others <> '{}' then
        execute format('lock table %s in share row exclusive mode', array_to_string(lock_tables.others, ', '));
      end if;
      set local lock_timeout = '5s';
      return;
    exception when lock_not_available or deadlock_detected then
      if clock_timestamp() > _until then
        perform rowhouse.fail(503, 'The entity is in use without a pause', 'A long transaction holds its records. Try again in a moment.',
          'busy');
      end if;
      perform data.end_autovacuum(lock_tables.exclusive || lock_tables.others);
      perform pg_sleep(0.02 + random() * 0.05);
    end;
  end loop;
end
$$;
comment on function data.lock_tables(text[], text[]) is
  'Locks tables and views, exclusive ones from everybody and others from writers, without making anybody queue for longer than 100 ms at a time. RH503 after 10 s.';

create or replace function data.save_definition(old data.entities, schema jsonb, transforms jsonb) returns data.entities
language plpgsql set search_path = '' as $$
declare
  _fields data.fields[] := data.fields_of(old.id);
  _entity data.entities;
begin
  update data.entities e set schema = save_definition.schema, version = e.version + 1, updated_at = now()
  where e.id = old.id returning e.* into _entity;
  insert into data.entity_versions (entity_id, version, site_id, schema, transforms, created_by)
  values (_entity.id, _entity.version, _entity.site_id, _entity.schema, save_definition.transforms, auth.account_id());
  -- Nothing is stored of an entity without records, so nothing has to be upgraded.
  if not data.has_records(_entity) then
    update data.entities e set oldest_version = e.version where e.id = _entity.id returning e.* into _entity;
  end if;
  perform data.save_fields(_entity);
  perform data.refuse_relinking(old, _fields, data.schema_renames(old.schema, save_definition.schema));
  perform data.defer_indexes(_entity, _fields, save_definition.transforms);
  perform data.defer_fills(_entity, _fields, save_definition.transforms);
  return _entity;
end
$$;
comment on function data.save_definition(data.entities, jsonb, jsonb) is 'Writes a definition as an entity''s next version, with the fields and relations it describes.';

create or replace function data.has_records(entity data.entities) returns boolean
language plpgsql stable set search_path = '' as $$
declare
  _found boolean;
begin
  execute format('select exists (select from %s)',
    data.storage_table(entity, (select a.schema_name from tenancy.apps a where a.id = entity.app_id))) into _found;
  return _found;
end
$$;
comment on function data.has_records(data.entities) is 'Whether an entity''s storage holds any record.';

create or replace function data.redefine(old data.entities, schema jsonb, renames jsonb, changes jsonb, statements text[] default null)
  returns data.entities
language plpgsql set search_path = '' as $$
declare
  _schema_name name := (select a.schema_name from tenancy.apps a where a.id = old.app_id);
  _transforms jsonb := data.schema_transforms(redefine.changes);
  _fields data.fields[] := data.fields_of(old.id);
  _checks boolean := exists (select from jsonb_array_elements(redefine.changes) c where (c->>'checks')::boolean);
  _entity data.entities;
  _statements text[];
  _deferred text[];
  _keeps boolean;
  _begun xid8 := pg_snapshot_xmin(pg_current_snapshot());
  _released text[];
  _failing jsonb := access.failing_tests(old.site_id, old.id);
  _rules text := access.rules_digest(old.id);
begin
  if redefine.schema->>'x-storage' <> old.storage then
    perform data.refuse_storage(old);
  end if;
  perform data.refuse_broken_references(old, redefine.changes);
  perform data.refuse_during_operation(old);
  perform access.refuse_lost_protection(old, redefine.schema, redefine.renames, redefine.changes);
  perform access.require_checkable(old, redefine.schema, redefine.renames, redefine.changes);
  _entity := data.save_definition(old, redefine.schema, _transforms);
  _statements := data.storage_statements(_entity, _schema_name, _fields, renames, _transforms);
  _deferred := data.deferred_statements(_entity, _schema_name, _fields, renames, _statements);
  if array(select s from unnest(redefine.statements) s order by 1) <> array(select s from unnest(_statements) s order by 1)
    and redefine.statements is not null then
    perform rowhouse.fail(409, format('What this plan would do to %s is not what has to be done now', _entity.name),
      'Plan again: data.plan(entity, schema).', 'plan_outdated');
  end if;
  if _checks then
    perform data.build_upgrade(_entity, _schema_name);
    perform data.build_violations(_entity, _schema_name);
    perform data.refuse_misfits(_entity, data.misfits(_entity, _schema_name));
  end if;
  _keeps := data.keeps_view(_entity, _schema_name, _fields, _statements);
  perform data.lock_tables(array[format('%I.%I', _schema_name, old.name), data.storage_table(old, _schema_name)]
      || case when _keeps then '{}' else data.lockable_relations(_schema_name, old.name) end
      || access.share_views(old),
    array(select distinct substring(s from ' references (\S+) ') from unnest(_statements) s where s ~ ' references '));
  if _checks then
    -- Nobody waited while every record was read; what was written meanwhile is read now.
    perform data.refuse_misfits(_entity, data.misfits(_entity, _schema_name, _begun));
  end if;
  perform access.drop_share_views(old, true);
  if not _keeps then
    _released := data.release_rules(_schema_name, old.name);
    perform data.drop_front(old, _schema_name);
  end if;
  perform data.build_storage(_entity, _schema_name, array(
    select s from unnest(_statements) with ordinality o (s, n) where not _keeps or s !~ ' drop column ' order by n));
  if _entity.storage = 'flat' then
    update data.entities e set oldest_version = e.version - data.is_retyping(_entity)::int where e.id = _entity.id
    returning e.* into _entity;
  end if;
  if data.search_statements(_entity, _schema_name) <> '{}' then
    perform data.defer_search(_entity, _schema_name);
  end if;
  perform access.guard(_entity, data.storage_table(_entity, _schema_name));
  perform data.build_front(_entity, _schema_name);
  if _keeps then
    -- View and policies no longer read what these columns held.
    perform data.build_storage(_entity, _schema_name, array(select s from unnest(_statements) s where s ~ ' drop column '));
  else
    perform data.restore_rules(_entity.name, _released);
  end if;
  -- Nobody reads meanwhile: not for a definition that only adds.
  if access.rules_digest(old.id) <> _rules
    or redefine.changes @? '$[*] ? (@.change == "drop" || @.change == "convert" || @.change == "rename")' then
    perform access.refuse_broken(old.site_id, _failing, false, old.id);
  end if;
  perform data.publish_definition(_entity.app_id);
  if _deferred <> '{}' then
    perform data.start_operation(_entity, 'build_index', jsonb_build_object('statements', _deferred));
  end if;
  return _entity;
end
$$;
comment on function data.redefine(data.entities, jsonb, jsonb, jsonb, text[]) is
  'Gives an entity its next definition; statements are those of a plan. Internal: callers check rights. RH409 when records do not fit, others refer to what changes, a test of access that passed would fail, or an operation is at work; RH503 busy.';

create or replace function data.refuse_broken_references(old data.entities, changes jsonb) returns void
language plpgsql set search_path = '' as $$
declare
  _by text;
begin
  select string_agg(distinct e.name || '.' || r.field, ', ') into _by
  from jsonb_array_elements(changes) c
  join data.relations r on r.target_id = old.id and r.target_field = coalesce(c->>'from', c->>'field') and r.target_field <> 'id'
  join data.entities e on e.id = r.entity_id
  where c->>'change' in ('drop', 'convert') or c->>'change' = 'keyword' and c->>'keyword' = 'x-unique'
    or c->>'change' = 'rename';
  if _by is not null then
    perform rowhouse.fail(409, format('Other entities refer to a property that changes: %s', _by), 'Change those relations first.',
      'still_referenced');
  end if;
end
$$;
comment on function data.refuse_broken_references(data.entities, jsonb) is 'Raises RH409 when relations refer to a property that is dropped, renamed, converted or no longer unique.';

create or replace function data.refuse_during_operation(entity data.entities) returns void
language plpgsql set search_path = '' as $$
declare
  _operation data.operations;
begin
  select o.* into _operation from data.operations o where o.entity_id = entity.id and o.state in ('waiting', 'running');
  if _operation.id is not null then
    perform rowhouse.fail(409, format('%s is being changed: %s', entity.name, replace(_operation.kind, '_', ' ')),
      format('Wait until it is done (data.operations), or select data.cancel_operation(%L).', _operation.id), 'operation_running');
  end if;
end
$$;
comment on function data.refuse_during_operation(data.entities) is 'Raises RH409 while an operation works on an entity.';
