-- x-history: a statement-level trigger keeps what a record was before each change, and who changed it when. The state after a
-- change is the state before the next one, or the record itself: so an insert costs nothing, and nothing is kept twice.

create or replace function data.build_history(entity data.entities, schema_name text) returns void
language plpgsql set search_path = '' as $$
declare
  _storage text := data.storage_table(entity, build_history.schema_name);
  _history text := data.kept_name(entity, build_history.schema_name, 'history');
  _keep text := format('%I.%I', build_history.schema_name, entity.name || '_keep_history');
  _event text;
begin
  if entity.schema->'x-history' is distinct from 'true' then
    if to_regclass(_history) is not null then
      foreach _event in array array['update', 'delete'] loop
        execute format('drop trigger if exists %I on %s', entity.name || '_keep_history_' || _event, _storage);
      end loop;
      execute format('drop function %s()', _keep);
      execute format('drop table %s', _history);
    end if;
  else
    perform data.create_kept(entity, build_history.schema_name, 'history',
      'operation text not null, changed_at timestamptz not null default now(), changed_by uuid',
      access.right_predicate(entity, 'read'));
    execute format('create index if not exists %I on %s (id, changed_at, version)', data.object_name(entity.name, '_history', 'idx'),
      _history);
    execute format('create index if not exists %I on %s (expires_at) where operation = ''delete'' and expires_at is not null',
      data.object_name(entity.name, '_history_expires_at', 'idx'), _history);
    perform rowhouse.create_function($sql$
      create or replace function %1$s() returns trigger language plpgsql security definer set search_path = '' $sql$, $sql$
      begin
        if data.is_expiring() then
          delete from %2$s h using gone g where h.id = g.id;
        else
          %3$s;
        end if;
        return null;
      end $sql$, _keep, _history,
      data.keep_statement(entity, build_history.schema_name, 'history', 'operation, changed_by', 'lower(tg_op), auth.account_id()'));
    execute format('revoke all on function %s() from public', _keep);
    foreach _event in array array['update', 'delete'] loop
      execute format($sql$
        create or replace trigger %I after %s on %s referencing old table as gone
        for each statement when (not data.is_maintenance()) execute function %s() $sql$,
        entity.name || '_keep_history_' || _event, _event, _storage, _keep);
    end loop;
    perform data.build_history_functions(entity, build_history.schema_name);
    perform data.build_as_of(entity, build_history.schema_name);
  end if;
  if data.keeps_records(entity.schema) then
    perform data.build_purge(entity, build_history.schema_name);
  end if;
end
$$;
comment on function data.build_history(data.entities, text) is 'Makes an entity keep former states, when it has x-history; else drops them.';

-- Former states are read as the record is: those that the reader may not see, as the record was then, are only told of where
-- a state beside them is seen.
create or replace function data.states_query(entity data.entities, schema_name text, gone text) returns text
language sql stable set search_path = '' as $$
  select case when access.is_special(entity) then format($sql$
      select t.operation, t.changed_at, t.changed_by, t.version, t.created_at, t.created_by, %s as data, coalesce(%s, false)
      from (%s where k.id = _id and not (%s)) t $sql$,
      access.shown_data(entity, data.with_visible_lists(entity, 't.data'), 't'),
      access.row_predicate(entity, 'read', 't'),
      data.kept_rows(entity, states_query.schema_name, 'history', ', k.operation, k.changed_at, k.changed_by'),
      gone)
    else format($sql$
      select k.operation, k.changed_at, k.changed_by, k.version, k.created_at, k.created_by, %s as data, true
      from %s k, lateral %I.%I(k.data, k._dropped, k._schema_version) u
      where k.id = _id and not (%s) $sql$,
      data.with_visible_lists(entity, 'u.data'),
      data.kept_name(entity, states_query.schema_name, 'history'),
      states_query.schema_name, entity.name || '_upgraded',
      gone) end
$$;
comment on function data.states_query(data.entities, text, text) is 'The query of the states that a record (_id) had, with what its reader may see of each, and whether it may see it.';

create or replace function data.build_history_functions(entity data.entities, schema_name text) returns void
language plpgsql set search_path = '' as $$
declare
  _view text := format('%I.%I', build_history_functions.schema_name, entity.name);
  _storage text := data.storage_table(entity, build_history_functions.schema_name);
  _history text := data.kept_name(entity, build_history_functions.schema_name, 'history');
  -- Of a record that has expired nothing is told, wherever it is kept until the job comes by.
  _gone text := case when entity.schema ? 'x-ttl' then format(
    'not exists (select from %s t where t.id = _id) and (data.is_stored(%L, _id) or exists (
      select from %s h where h.id = _id and h.operation = ''delete'' and h.expires_at <= now()))',
    _storage, entity.id, _history) else 'false' end;
  -- Where rights depend on the record, a hidden one has no history, nor has a deleted one of which no state was to be seen.
  _hidden text := case when access.is_special(entity) then format(
    'not exists (select from %s v where v.id = _id) and (data.is_stored(%L, _id) or not exists (select from %s f where f.id = _id))',
    _view, entity.id, data.kept_name(entity, build_history_functions.schema_name, 'former')) else 'false' end;
begin
  perform rowhouse.create_function($sql$
    create function %1$s(_id uuid, _at timestamptz) returns setof %2$s
    language sql stable security definer rows 1 set search_path = '' $sql$, $sql$
      select o.* from (select s.* from (
        select %3$s from %4$s t where t.id = _id and t.updated_at <= _at
        union all
        select %8$s from (%5$s where k.id = _id and k.operation <> 'restore' and k.updated_at <= _at and k.changed_at > _at) t where %7$s
      ) s where not (%6$s) order by s.version desc limit 1) o%9$s $sql$,
    format('%I.%I', build_history_functions.schema_name, entity.name || '_as_of'), _view, data.column_list(entity, 't'), _storage,
    data.kept_rows(entity, build_history_functions.schema_name, 'history'), _gone, access.row_predicate(entity, 'read', 't'),
    data.column_list(entity, 't', 'kept'),
    audit.kept_sql(entity, 'as_of', ' where ', 'o.id'));
  perform data.publish_kept_function(entity, build_history_functions.schema_name, format('%I(uuid, timestamptz)', entity.name || '_as_of'));

  perform rowhouse.create_function($sql$
    create function %1$s(_id uuid, _limit int, _before int) returns jsonb
    language plpgsql stable security definer set search_path = '' set timezone = 'UTC' $sql$, $sql$
    declare
      _out jsonb;
    begin
      with states (operation, changed_at, changed_by, version, created_at, created_by, data, is_visible) as (
        %2$s
        union all
        select null, null, null, t.version, t.created_at, t.created_by, %5$s, true from %6$s t where t.id = _id
      ), ordered as (
        select s.*, lead(s.data) over w as next, lead(s.is_visible) over w as is_next_visible, row_number() over w as n
        from states s window w as (order by s.changed_at nulls last, s.version)
      ), changes as (
        select 1 as version, o.created_at as at, o.created_by as by, 'insert' as operation, null::jsonb as changes, 0::bigint as n
        from ordered o where o.n = 1 and o.is_visible
        union all
        select o.version + (o.operation = 'update')::int, o.changed_at, o.changed_by, o.operation,
          case when o.operation = 'update' and o.is_visible and o.is_next_visible then (
            select coalesce(jsonb_object_agg(key, jsonb_build_object('old', a.value, 'new', b.value)), '{}')
            from jsonb_each(o.data) a full join jsonb_each(o.next) b using (key) where a.value is distinct from b.value) end,
          o.n
        from ordered o where o.operation is not null and (o.is_visible or o.is_next_visible)
      )
      select jsonb_agg(
        jsonb_strip_nulls(jsonb_build_object('version', c.version, 'operation', c.operation, 'at', c.at))
        || jsonb_build_object('by', c.by)
        || case when c.changes is null then '{}' else jsonb_build_object('changes', c.changes) end order by c.n desc)
      into _out
      from (select * from changes h where _before is null or h.version < _before order by h.n desc limit coalesce(_limit, 100)) c;
      if _out is null and (_before is null or not exists (select from %6$s t where t.id = _id)) then
        perform data.write_error(404, %7$L, _id);
      end if;%8$s
      return jsonb_build_object('data', coalesce(_out, '[]'));
    end $sql$,
    format('%I.%I', build_history_functions.schema_name, entity.name || '_history'),
    data.states_query(entity, build_history_functions.schema_name, format('%s or %s', _gone, _hidden)), null, null,
    access.shown_data(entity,
      data.with_visible_lists(entity, case data.link_names(entity.schema) when '{}' then data.record_source(entity, 't')
      else format('data.with_written_lists(%s, t._links)', data.record_source(entity, 't')) end), 't'), _storage, entity.name,
    coalesce(E'\n      perform ' || nullif(audit.kept_sql(entity, 'history', '', '_id'), '') || ';', ''));
  perform data.publish_kept_function(entity, build_history_functions.schema_name, format('%I(uuid, int, int)', entity.name || '_history'));
end
$$;
comment on function data.build_history_functions(data.entities, text) is
  'Generates <entity>_as_of(id, time), which returns a record as it was, and <entity>_history(id, limit, before), its changes.';

create or replace function data.is_stored(entity_id uuid, id uuid) returns boolean
language plpgsql stable security definer set search_path = '' as $$
declare
  _found boolean;
begin
  execute (select format('select exists (select from %s t where t.id = $1)', data.storage_table(e, a.schema_name))
    from data.entities e join tenancy.apps a on a.id = e.app_id where e.id = is_stored.entity_id) into _found using is_stored.id;
  return _found;
end
$$;
comment on function data.is_stored(uuid, uuid) is 'Whether a record is in the storage, seen or not. Internal.';

create or replace function data.note_restored(entity data.entities, schema_name text, id uuid) returns void
language plpgsql set search_path = '' as $$
declare
  _history text := data.kept_name(entity, note_restored.schema_name, 'history');
begin
  if to_regclass(_history) is null then
    return;
  end if;
  execute format('update %s h set expires_at = null where h.id = $1 and h.operation = ''delete''', _history) using note_restored.id;
  execute format('insert into %s (id, created_at, updated_at, version, created_by, _schema_version, data, operation, changed_by)
    select t.id, t.created_at, t.updated_at, t.version, t.created_by, t._schema_version, ''{}'', ''restore'', auth.account_id()
    from %s t where t.id = $1',
    _history, data.storage_table(entity, note_restored.schema_name)) using note_restored.id;
end
$$;
comment on function data.note_restored(data.entities, text, uuid) is 'Notes in the history, if there is one, that a record was restored.';

create or replace function data.history(entity text, id uuid, query jsonb default '{}') returns jsonb
language plpgsql stable set search_path = '' as $$
declare
  _sql text;
  _out jsonb;
begin
  _sql := data.compile(regexp_replace(history.entity, '/[^/]*$', ''), split_part(history.entity, '/', 3), 'history', '{}')->>'sql';
  execute _sql into _out using history.id, (history.query->>'limit'), (history.query->>'before');
  return _out;
end
$$;
comment on function data.history(text, uuid, jsonb) is
  'The changes of a record of an entity with x-history, newest first, as {"data": [{version, operation, at, by, changes: {field: {old, new}}}]}; query is {"limit" (100), "before" (a version)}. Deleted records have one too, until data.purge. RH400, RH404.';
