-- What has to be done to a storage so that it fits new fields: a list of statements, shown by a plan and run by its apply.

create or replace function data.fields_of(entity_id uuid) returns data.fields[]
language sql stable set search_path = '' as $$
  select coalesce(array_agg(f order by f.position), '{}') from data.fields f where f.entity_id = fields_of.entity_id
$$;
comment on function data.fields_of(uuid) is 'The fields of an entity as they are now.';

-- Flat storage says in its own constraints what a column can hold; the write rule says it first, and in better words.
create or replace function data.field_check(field data.fields) returns text
language sql immutable set search_path = '' as $$
  select string_agg(test, ' and ') from (
    select format('%I = any (%L::text[])', coalesce(field.name, ''), array(select jsonb_array_elements_text(field.schema->'enum')))
    where field.sql_type = 'text' and jsonb_typeof(field.schema->'enum') = 'array'
    union all
    select format(case k.key when 'minLength' then 'length(%I) >= %s' when 'maxLength' then 'length(%I) <= %s'
      when 'minimum' then '%I >= %s'
      when 'maximum' then '%I <= %s' when 'exclusiveMinimum' then '%I > %s' else '%I < %s' end, coalesce(field.name, ''), k.value)
    from jsonb_each(field.schema) k
    where k.key = any (case when field.sql_type = 'text' then array['minLength', 'maxLength']
        when field.sql_type in ('int8', 'float8', 'numeric') then array['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum']
          else '{}' end)
      and jsonb_typeof(k.value) = 'number'
  ) t (test)
$$;
comment on function data.field_check(data.fields) is 'The check constraint of a field''s column in flat storage, or null.';

create or replace function data.field_changes(entity data.entities, old data.fields[], renames jsonb)
returns table (old_field data.fields, field data.fields, moved boolean)
language sql stable set search_path = '' as $$
  select o, n, coalesce((o).sql_type <> (n).sql_type or (o).is_promoted <> (n).is_promoted, true)
  from unnest(field_changes.old) o
  full join (select f from data.fields f where f.entity_id = entity.id) x (n)
    on (o).name = coalesce(renames->>(n).name, case when not (n).name in (select value from jsonb_each_text(renames)) then (n).name end)
$$;
comment on function data.field_changes(data.entities, data.fields[], jsonb) is
  'Pairs the fields from before with those of now, either may be null; renames maps new names to old ones. moved: its column is another one afterwards.';

create or replace function data.storage_statements(entity data.entities, schema_name text, old data.fields[], renames jsonb,
  transforms jsonb)
returns text[]
language plpgsql stable set search_path = '' as $$
declare
  _table text := data.storage_table(entity, storage_statements.schema_name);
  _flat boolean := entity.storage = 'flat';
  _online boolean := storage_statements.old <> '{}' and data.builds_online(entity);
  _fills boolean := data.fills_online(entity, storage_statements.old, transforms);
  _keys text[] := data.foreign_key_statements(entity, storage_statements.schema_name, renames,
    array(select (c.old_field).name
      from data.field_changes(entity, storage_statements.old, renames) c where (c.old_field).name is not null
      and (c.moved and not _flat or (c.field).name is null)));
  _sets text[] := data.unique_set_statements(entity, storage_statements.schema_name, storage_statements.old, renames);
  _indexes text[] := data.compound_index_statements(entity, storage_statements.schema_name, renames);
  _out text[] := array(select k from unnest(_keys) k where k ~ ' drop constraint ')
    || array(select s from unnest(_sets) s where s ~ '^drop index ')
    || array(select x from unnest(_indexes) x where x ~ '^(drop|alter) ');
  _fill text[] := '{}';
  _retyped text[] := data.retyped_fields(entity, storage_statements.old, transforms);
  _converted record := data.converted_statements(entity, storage_statements.schema_name,
    case when _retyped = '{}' then transforms else '[]' end);
  _c record;
  _o data.fields;
  _n data.fields;
begin
  _out := _out || _converted.before;
  for _c in select * from data.field_changes(entity, storage_statements.old, renames) loop
    _o := _c.old_field;
    _n := _c.field;
    -- Constraints and indexes that do not fit the new field go first; an index of a dropped column goes with it.
    if _flat and _o.name is not null
      and (data.field_check(_o) is distinct from data.field_check(_n) or _o.name is distinct from _n.name or _n.name = any (_retyped))
    then
      _out := _out || format('alter table %s drop constraint if exists %I', _table, data.index_name(entity, _o.name, 'check'));
    end if;
    if _flat and _o.is_required and (not coalesce(_n.is_required, false) or _n.name = any (_retyped)) then
      _out := _out || format('alter table %s alter column %I drop not null', _table, _o.name);
    end if;
    if _o.is_unique and not coalesce(_n.is_unique, false) then
      _out := _out || format('drop index if exists %I.%I', storage_statements.schema_name, data.index_name(entity, _o.name, 'key'));
    end if;
    if _o.is_indexed and not _o.is_unique and not (coalesce(_n.is_indexed, false) and not _n.is_unique) then
      _out := _out || format('drop index if exists %I.%I', storage_statements.schema_name, data.index_name(entity, _o.name, 'idx'));
    end if;
  end loop;

  -- Columns leave before others come: two names may be swapped.
  for _c in select * from data.field_changes(entity, storage_statements.old, renames) c where (c.old_field).is_promoted loop
    _o := _c.old_field;
    _n := _c.field;
    if _n.name = any (_retyped) then
      _out := _out || data.retype_statements(entity, storage_statements.schema_name, _o);
    elsif _n.name is null and _flat and not _o.schema ? 'x-computed' then
      _out := _out || format('alter table %s rename column %I to %I', _table, _o.name, _o.name || '@' || entity.version);
    elsif _n.name is null or _c.moved and (not _flat or not _n.is_promoted or _o.schema ? 'x-computed') then
      _out := _out || format('alter table %s drop column if exists %I', _table, _o.name);
    elsif _n.name <> _o.name then
      _out := _out || format('alter table %s rename column %I to %I', _table, _o.name, '~' || _n.name);
    end if;
  end loop;

  for _c in select * from data.field_changes(entity, storage_statements.old,
    renames) c where (c.field).is_promoted order by (c.field).position loop
    _o := _c.old_field;
    _n := _c.field;
    if _o.is_promoted and _n.name <> _o.name and (_flat and not (_c.moved and _o.schema ? 'x-computed') or not _c.moved) then
      _out := _out || format('alter table %s rename column %I to %I', _table, '~' || _n.name, _n.name)
        || data.rename_statements(entity, storage_statements.schema_name, _o, _n);
    end if;
    if _flat and data.is_converted(transforms, _n.name) then
      _out := _out || format(case when _c.moved then 'alter table %1$s alter column %2$I type %4$s using %3$s'
        else 'update %1$s set %2$I = %3$s' end,
        _table, _n.name, data.column_value(_n, '"~converted"'), _n.sql_type);
    elsif _flat and _o.name is not null and _c.moved and not _o.schema ? 'x-computed' then
      _out := _out || data.retype_statement(_table, _n, _o.kind);
    elsif _flat and data.is_restored(transforms, _n.name) then
      _out := _out || array(select unnest(data.restore_statements(_table, _n, (t->>'from') || '@' || (t->>'version')) || array[
          case when c is not null then data.retype_statement(_table, _n, c->>'from') end])
        from jsonb_array_elements(transforms) t
        left join jsonb_array_elements(transforms) c on c->>'op' = 'convert' and c->>'field' = _n.name
        where t->>'op' = 'restore' and t->>'field' = _n.name);
    elsif _flat and _o.name is null and data.is_defaulted(transforms, _n.name) then
      -- PostgreSQL keeps what older rows have in the catalog: none is written.
      _out := _out || format('alter table %s add column if not exists %I %s default %s', _table, _n.name, _n.sql_type,
          data.column_value(_n, format('%L::jsonb', jsonb_build_object(_n.name, _n.schema->'default'))))
        || format('alter table %s alter column %I drop default', _table, _n.name);
    elsif _c.moved then
      _out := _out || format('alter table %s add column if not exists %I %s', _table, _n.name, _n.sql_type);
      if not _flat and not _n.schema ? 'x-computed'
        and (_o.name is not null or exists (select from jsonb_array_elements(transforms) t where t->>'field' = _n.name)) then
        _fill := _fill || format('%I = %s', _n.name, data.column_value(_n, data.record_source(entity, 't')));
      end if;
    elsif not _flat and data.is_converted(transforms, _n.name) then
      _fill := _fill || format('%I = %s', _n.name, data.column_value(_n, data.record_source(entity, 't')));
    end if;
    if data.is_defaulted(transforms, _n.name) and not _n.is_filling and (_flat or not _c.moved)
      and not (_flat and _o.name is null and not data.is_restored(transforms, _n.name))
    then
      _out := _out || format('update %s t set %2$I = %3$s where t.%2$I is null', _table, _n.name,
        data.column_value(_n, format('%L::jsonb', jsonb_build_object(_n.name, _n.schema->'default'))));
    end if;
  end loop;
  _out := _out || array(select format('alter table %s add column if not exists %I %s', _table, f.name, f.sql_type)
    from data.fields f where f.entity_id = entity.id and f.is_building and not f.is_promoted order by f.position);
  if _fill <> '{}' then
    _out := _out || format('update %s t set %s', _table, array_to_string(_fill, ', '));
  end if;
  _out := _out || _converted.after;
  _out := _out || data.computed_statements(entity, storage_statements.schema_name, old, transforms);

  for _c in select * from data.field_changes(entity, storage_statements.old, renames) c
    where (c.field).is_promoted or _flat and (c.field).is_filling or (c.field).name = any (_retyped) order by (c.field).position
  loop
    _o := _c.old_field;
    _n := _c.field;
    if _flat and _n.is_required and (_c.moved or not _o.is_required) then
      _out := _out || case when _fills then format('alter table %s add constraint %I not null %I not valid', _table,
          data.index_name(entity, _n.name, 'not_null'), _n.name)
        else format('alter table %s alter column %I set not null', _table, _n.name) end;
    end if;
    if _flat and data.field_check(_n) is not null
      and (_o.name is distinct from _n.name or data.field_check(_o) is distinct from data.field_check(_n) or not _n.is_promoted)
    then
      _out := _out || format('alter table %s add constraint %I check (%s)%s', _table, data.index_name(entity, _n.name, 'check'),
        data.field_check(_n), case when _fills then ' not valid' else '' end);
    end if;
    if _n.is_unique and (not coalesce(_o.is_unique, false) or _c.moved and (not _flat or _o.schema ? 'x-computed')) then
      _out := _out || format('create unique index if not exists %I on %s (%I)', data.index_name(entity, _n.name, 'key'), _table, _n.name);
    elsif _n.is_indexed and not _n.is_unique
      and (not coalesce(_o.is_indexed and not _o.is_unique, false) or _c.moved and (not _flat or _o.schema ? 'x-computed')) then
      _out := _out || format('create index if not exists %I on %s (%I, created_at, id)', data.index_name(entity, _n.name, 'idx'), _table,
        _n.name);
    end if;
  end loop;
  return array_remove(_out, null)
    || data.link_statements(entity, storage_statements.schema_name, storage_statements.old, renames, transforms)
    || array(select x from unnest(data.ttl_statements(entity, storage_statements.schema_name)) x where x !~ '^create ' or not _online)
    || array(select s from unnest(_sets) s where s !~ '^drop index ' and not _online)
    || array(select x from unnest(_indexes) x where x ~ '^create ' and not _online)
    || array(select k || case when _online then ' not valid' else '' end from unnest(_keys) k where k !~ ' drop constraint ');
end
$$;
comment on function data.storage_statements(data.entities, text, data.fields[], jsonb, jsonb) is
  'The statements that bring an entity''s storage from the fields of before (old) to those of now; renames maps new names to old ones.';

create or replace function data.is_defaulted(transforms jsonb, field text) returns boolean
language sql immutable parallel safe set search_path = '' as $$
  select exists (select from jsonb_array_elements(transforms) t where t->>'op' = 'default' and t->>'field' = is_defaulted.field)
$$;
comment on function data.is_defaulted(jsonb, text) is 'Whether transforms put a field''s default in place of null.';

create or replace function data.is_restored(transforms jsonb, field text) returns boolean
language sql immutable parallel safe set search_path = '' as $$
  select exists (select from jsonb_array_elements(transforms) t where t->>'op' = 'restore' and t->>'field' = is_restored.field)
$$;
comment on function data.is_restored(jsonb, text) is 'Whether transforms bring a dropped field back.';

create or replace function data.restore_statements(table_name text, field data.fields, dropped text) returns text[]
language sql stable set search_path = '' as $$
  select case when exists (select from pg_catalog.pg_attribute a
    where a.attrelid = to_regclass(table_name) and a.attname = restore_statements.dropped and not a.attisdropped)
    then array[format('alter table %s rename column %I to %I', table_name, restore_statements.dropped, field.name)]
    else array[format('alter table %s add column %I %s', table_name, field.name, field.sql_type),
      format('update %s t set %I = %s where t._dropped ? %L', table_name, field.name,
        data.column_value(field, format('jsonb_build_object(%L, t._dropped->%L)', field.name, restore_statements.dropped)),
        restore_statements.dropped)]
  end
$$;
comment on function data.restore_statements(text, data.fields, text) is
  'The statements that bring a dropped field back into flat storage: from the column it became, or, when it was dropped in jsonb storage, from _dropped.';

create or replace function data.retype_statement(table_name text, field data.fields, "from" text) returns text
language sql immutable set search_path = '' as $$
  select format('alter table %s alter column %I type %s using %s', table_name, field.name, field.sql_type, data.column_value(field,
    format('jsonb_build_object(%1$L, data.convert_value(to_jsonb(%1$I), %2$L, %3$L))', field.name, retype_statement."from", field.kind)))
$$;
comment on function data.retype_statement(text, data.fields, text) is 'The statement that gives a column of flat storage the type of a field that was of another kind.';

create or replace function data.rename_statements(entity data.entities, schema_name text, old data.fields, new data.fields) returns text[]
language sql stable set search_path = '' as $$
  select array(
    select format('alter index if exists %I.%I rename to %I', rename_statements.schema_name, data.index_name(entity, old.name, s),
      data.index_name(entity, new.name, s))
    from unnest(array['key', 'idx']) s
    where case s when 'key' then old.is_unique and new.is_unique else old.is_indexed and new.is_indexed and not old.is_unique
      and not new.is_unique end)
  || array(
    select format('alter table %s rename constraint %I to %I', data.storage_table(entity, rename_statements.schema_name), c.conname,
      data.index_name(entity, new.name, 'fkey'))
    from pg_catalog.pg_constraint c
    where c.conrelid = to_regclass(data.storage_table(entity, rename_statements.schema_name)) and c.contype = 'f'
      and c.conname = data.index_name(entity, old.name, 'fkey') and new.schema ? 'x-relation')
$$;
comment on function data.rename_statements(data.entities, text, data.fields, data.fields) is
  'The statements that give the indexes and the foreign key of a renamed field their new names.';

create or replace function data.foreign_key_statements(entity data.entities, schema_name text, renames jsonb, gone text[]) returns text[]
language sql stable set search_path = '' as $$
  with wanted as (
    select r.field, r.target_field, r.on_delete, data.storage_table(t, foreign_key_statements.schema_name) as target
    from data.relations r join data.entities t on t.id = r.target_id where r.entity_id = entity.id
  ), found as (
    select c.conname, coalesce((select n.key from jsonb_each_text(renames) n where n.value = a.attname), a.attname::text) as field,
      c.confrelid, c.confdeltype,
      a.attname = any (gone) as is_gone, b.attname as target_field
    from pg_catalog.pg_constraint c
    join pg_catalog.pg_attribute a on a.attrelid = c.conrelid and a.attnum = c.conkey[1]
    join pg_catalog.pg_attribute b on b.attrelid = c.confrelid and b.attnum = c.confkey[1]
    where c.conrelid = to_regclass(data.storage_table(entity, foreign_key_statements.schema_name)) and c.contype = 'f'
  ), kept as (
    select f.* from found f join wanted w on w.field = f.field and w.target_field = f.target_field and f.confrelid = to_regclass(w.target)
      and f.confdeltype = case w.on_delete when 'restrict' then 'r' when 'cascade' then 'c' else 'n' end
    where not f.is_gone
  )
  select array(select format('alter table %s drop constraint if exists %I', data.storage_table(entity, foreign_key_statements.schema_name),
    f.conname)
      from found f where not f.is_gone and not exists (select from kept k where k.conname = f.conname))
    || array(select format('alter table %s add constraint %I foreign key (%I) references %s (%I) on delete %s deferrable initially immediate',
        data.storage_table(entity, foreign_key_statements.schema_name), data.index_name(entity, w.field, 'fkey'), w.field, w.target,
        w.target_field, w.on_delete)
      from wanted w where not exists (select from kept k where k.field = w.field) order by w.field)
$$;
comment on function data.foreign_key_statements(data.entities, text, jsonb, text[]) is
  'The statements that make the foreign keys of an entity''s storage those of data.relations; gone are columns that leave with theirs.';
