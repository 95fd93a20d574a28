-- The tables of links as a definition wants them. What is dropped stays under another name until data.compact, so that a
-- rollback finds it; it keeps nothing in the other entity from being deleted.

create or replace function data.dropped_link_table(entity data.entities, schema_name text, field text, version int) returns text
language sql immutable parallel safe set search_path = '' as $$
  select format('%I.%I', schema_name, data.object_name(entity.name || '__links@' || dropped_link_table.version, dropped_link_table.field))
$$;
comment on function data.dropped_link_table(data.entities, text, text, int) is 'Where the links of a property are that this version dropped, as SQL.';

create or replace function data.link_key_statements(table_name text, found text, target text, on_delete text) returns text[]
language sql stable set search_path = '' as $$
  select case when k.conname is not null and k.confdeltype = wanted then '{}'::text[]
    else array_remove(array[case when k.conname is not null then format('alter table %s drop constraint %I', table_name, k.conname) end,
      format('alter table %s add constraint target_fkey foreign key (target_id) references %s (id) on delete %s', table_name, target,
        on_delete)], null) end
  from (values (case on_delete when 'cascade' then 'c' else 'r' end)) w (wanted)
  left join lateral (
    select c.conname, c.confdeltype
    from pg_catalog.pg_constraint c
    join pg_catalog.pg_attribute a on a.attrelid = c.conrelid and a.attnum = c.conkey[1]
    where c.conrelid = to_regclass(found) and c.contype = 'f' and a.attname = 'target_id') k on true
$$;
comment on function data.link_key_statements(text, text, text, text) is
  'The statements that make a table of links, which is called found before, refer to target so, where it does not.';

create or replace function data.link_statements(entity data.entities, schema_name text, old data.fields[], renames jsonb, transforms jsonb)
  returns text[]
language plpgsql stable set search_path = '' as $$
declare
  _storage text := data.storage_table(entity, link_statements.schema_name);
  _out text[] := '{}';
  _c record;
  _l record;
  _was text;
  _is text;
begin
  if data.link_names(entity.schema) <> '{}' and not exists (
    select from pg_catalog.pg_attribute a where a.attrelid = to_regclass(_storage) and a.attname = '_links')
  then
    _out := _out || format('alter table %s add column if not exists _links jsonb', _storage);
  end if;
  -- Tables leave before others come: two names may be swapped.
  for _c in select * from data.field_changes(entity, link_statements.old, renames) c
    where data.is_linked((c.old_field).schema) order by (c.old_field).name loop
    _was := data.link_table(entity, link_statements.schema_name, (_c.old_field).name);
    if (_c.field).name is null then
      _is := data.dropped_link_table(entity, link_statements.schema_name, (_c.old_field).name, entity.version);
      _out := _out || format('alter table %s rename to %I', _was, (parse_ident(_is))[2])
        || (select data.link_key_statements(_is, _was, c.confrelid::regclass::text, 'cascade') from pg_catalog.pg_constraint c
          join pg_catalog.pg_attribute a on a.attrelid = c.conrelid and a.attnum = c.conkey[1]
            where c.conrelid = to_regclass(_was) and c.contype = 'f' and a.attname = 'target_id');
    elsif (_c.field).name <> (_c.old_field).name then
      _out := _out || format('alter table %s rename to %I', _was, data.object_name(entity.name || '__links~', (_c.field).name));
    end if;
  end loop;
  for _l in
    select l.field, l.on_delete, data.storage_table(t, link_statements.schema_name) as target, (c.old_field).name as old_name,
      data.link_table(entity, link_statements.schema_name, l.field) as name,
      (select data.dropped_link_table(entity, link_statements.schema_name, x->>'from', (x->>'version')::int)
        from jsonb_array_elements(transforms) x
        where x->>'op' = 'restore' and x->>'field' = l.field limit 1) as dropped
    from data.links l join data.entities t on t.id = l.target_id
    left join data.field_changes(entity, link_statements.old, renames) c on (c.field).name = l.field
    where l.entity_id = entity.id order by l.field
  loop
    _was := coalesce(case when _l.old_name is not null then data.link_table(entity, link_statements.schema_name, _l.old_name) end,
      case when to_regclass(_l.dropped) is not null then _l.dropped end, _l.name);
    if to_regclass(_was) is null or _l.old_name is null and _was = _l.name and link_statements.old <> '{}' then
      _out := _out
        || format('create table %s (source_id uuid not null, target_id uuid not null, position int not null, primary key (source_id, target_id))',
        _l.name)
        || format('create index on %s (target_id, source_id)', _l.name)
        || format('alter table %s add constraint source_fkey foreign key (source_id) references %s (id) on delete cascade', _l.name,
          _storage)
        || data.link_key_statements(_l.name, null, _l.target, _l.on_delete);
    else
      if _was <> _l.name then
        _out := _out || format('alter table %s rename to %I',
          case when _l.old_name is null then _was
          else format('%I.%I', link_statements.schema_name, data.object_name(entity.name || '__links~', _l.field)) end,
          (parse_ident(_l.name))[2]);
      end if;
      _out := _out || data.link_key_statements(_l.name, _was, _l.target, _l.on_delete);
    end if;
  end loop;
  return _out;
end
$$;
comment on function data.link_statements(data.entities, text, data.fields[], jsonb, jsonb) is
  'The statements that bring an entity''s tables of links from the fields of before (old) to those of now.';

create or replace function data.drop_dropped_links(entity data.entities, schema_name text) returns void
language plpgsql set search_path = '' as $$
declare
  _table text;
begin
  for _table in
    select distinct c.conrelid::regclass::text from pg_catalog.pg_constraint c join pg_catalog.pg_class t on t.oid = c.conrelid
    where c.confrelid = to_regclass(data.storage_table(entity, drop_dropped_links.schema_name)) and c.contype = 'f'
      and t.relname ~ '__links@'
  loop
    execute format('drop table %s', _table);
  end loop;
end
$$;
comment on function data.drop_dropped_links(data.entities, text) is 'Drops for good the links of an entity, from it and to it, whose property has been dropped.';

create or replace function data.drop_links(entity data.entities, schema_name text) returns void
language plpgsql set search_path = '' as $$
declare
  _name text;
begin
  perform data.drop_dropped_links(entity, drop_links.schema_name);
  foreach _name in array data.link_names(entity.schema) loop
    execute format('drop view if exists %I.%I', drop_links.schema_name, data.link_view(entity.name, _name));
    execute format('drop table if exists %s', data.link_table(entity, drop_links.schema_name, _name));
  end loop;
  execute format('drop function if exists %I.%I() cascade', drop_links.schema_name, entity.name || '_link');
end
$$;
comment on function data.drop_links(data.entities, text) is 'Drops the tables of an entity''s links, when its view is gone.';
