-- What a definition changes in every record of an entity with many of them is left to a worker (build_index.sql), in batches, while
-- clients go on. Until it is done the view says what will be there: a stored computed field is computed when it is read, and a
-- property that is required now has its default in place of null. Whatever is written meanwhile is stored as it will be.

create or replace function data.fills_online(entity data.entities, old data.fields[], transforms jsonb) returns boolean
language sql stable set search_path = '' as $$
  select fills_online.old <> '{}' and data.builds_online(entity)
    -- Converting a column where it stands writes the table anew in any case.
    and not (entity.storage = 'flat' and jsonb_path_exists(transforms, '$[*] ? (@.op == "convert")')
      and data.retyped_fields(entity, fills_online.old, transforms) = '{}')
    -- What was dropped in jsonb storage has no column to come back by.
    and not exists (
      select from jsonb_array_elements(transforms) t, tenancy.apps a
      where entity.storage = 'flat' and t->>'op' = 'restore' and a.id = entity.app_id
        and not entity.schema->'properties'->(t->>'field') ? 'x-computed' and not exists (
        select from pg_catalog.pg_attribute c where c.attrelid = to_regclass(data.storage_table(entity, a.schema_name))
          and c.attname = (t->>'from') || '@' || (t->>'version') and not c.attisdropped))
$$;
comment on function data.fills_online(data.entities, data.fields[], jsonb) is
  'Whether a worker fills what a definition changes in every record, and checks them; old are the fields from before.';

create or replace function data.recomputes(entity data.entities, old data.fields[], transforms jsonb) returns boolean
language sql stable set search_path = '' as $$
  select data.computed_names(entity.schema) <> '{}' and recomputes.old <> '{}' and (
    jsonb_path_exists(transforms, '$[*] ? (@.op == "convert" || @.op == "default" || @.op == "restore")')
    or exists (
      select from data.fields f left join unnest(recomputes.old) o on o.name = f.name
      where f.entity_id = entity.id and (f.schema ? 'x-computed' or o.schema ? 'x-computed')
        and (f.schema->'x-computed', f.kind, data.is_virtual(f.schema))
          is distinct from (o.schema->'x-computed', o.kind, data.is_virtual(o.schema))))
$$;
comment on function data.recomputes(data.entities, data.fields[], jsonb) is
  'Whether a definition changes what the computed fields of existing records are; old are the fields from before.';

create or replace function data.recomputed_fields(entity data.entities, old data.fields[], transforms jsonb) returns text[]
language sql stable set search_path = '' as $$
  with recursive changed (name) as (
    select f.name from data.fields f left join unnest(recomputed_fields.old) o on o.name = f.name
    where f.entity_id = entity.id and f.schema ? 'x-computed' and (
      jsonb_path_exists(transforms, '$[*] ? (@.op == "convert" || @.op == "default" || @.op == "restore")')
      or (f.schema->'x-computed', f.kind, data.is_virtual(f.schema))
        is distinct from (o.schema->'x-computed', o.kind, data.is_virtual(o.schema)))
    union
    select f.name from changed c join data.fields f on f.entity_id = entity.id and f.schema ? 'x-computed'
    where c.name = any (data.expression_names(data.parse_expression(data.computed_expression(f.schema))))
  )
  select array(select c.name from changed c join data.fields f on f.entity_id = entity.id and f.name = c.name
    where not data.is_virtual(f.schema) order by c.name)
$$;
comment on function data.recomputed_fields(data.entities, data.fields[], jsonb) is
  'The stored computed fields that a definition adds or changes, those that are computed from such ones included.';

create or replace function data.is_unique_part(entity data.entities, field text) returns boolean
language sql stable set search_path = '' as $$
  select coalesce(entity.schema #> array['properties', field, 'x-unique'] = 'true', false)
    or exists (select from data.unique_sets(entity.schema) s where field = any (s.fields))
$$;
comment on function data.is_unique_part(data.entities, text) is 'Whether a property is unique, alone or together with others.';

-- A column whose values are unique is made anew: what is computed now may be what another record had before.
create or replace function data.defer_fills(entity data.entities, old data.fields[], transforms jsonb) returns void
language plpgsql set search_path = '' as $$
declare
  _renames jsonb := (
    select coalesce(jsonb_object_agg(t->>'to', t->'from'), '{}') from jsonb_array_elements(transforms) t where t->>'op' = 'rename');
begin
  if not data.fills_online(entity, defer_fills.old, transforms) then
    return;
  end if;
  update data.fields f
  set is_filling = true, is_building = f.is_building or not d.has_column and d.wants_column, is_promoted = d.has_column,
    is_unique = f.is_unique and d.has_column, is_indexed = f.is_indexed and d.has_column
  from (
    select (c.field).name, (c.field).is_promoted or (c.field).is_building as wants_column,
      coalesce((c.old_field).is_promoted and (c.old_field).schema ? 'x-computed' and (c.old_field).sql_type = (c.field).sql_type, false)
        and not data.is_unique_part(entity, (c.field).name) as has_column
    from data.field_changes(entity, defer_fills.old, _renames) c
  ) d
  where f.entity_id = entity.id and f.name = d.name
    and f.name = any (data.recomputed_fields(entity, defer_fills.old, transforms));
  update data.fields f set is_filling = true
  where f.entity_id = entity.id and f.is_promoted and not f.schema ? 'x-computed'
    and f.name in (select t->>'field' from jsonb_array_elements(transforms) t where t->>'op' = 'default')
    -- A new column of flat storage comes with its default.
    and (data.is_restored(transforms, f.name)
      or coalesce(_renames->>f.name, f.name) in (select o.name from unnest(defer_fills.old) o where o.is_promoted));
end
$$;
comment on function data.defer_fills(data.entities, data.fields[], jsonb) is
  'Marks the fields that a worker fills after a definition: stored computed ones that are new or become others, and those whose default takes the place of null.';

create or replace function data.computed_when_read(property jsonb) returns jsonb
language sql immutable parallel safe set search_path = '' as $$
  select property - '{x-index,x-unique}'::text[]
    - '{enum,minLength,maxLength,pattern,minimum,maximum,exclusiveMinimum,exclusiveMaximum,precision,scale}'::text[]
    || jsonb_build_object('x-computed', data.computed_expression(property))
$$;
comment on function data.computed_when_read(jsonb) is 'A computed property as one that is not stored.';

create or replace function data.shown_schema(entity data.entities) returns jsonb
language sql stable set search_path = '' as $$
  select case when f.properties is null then entity.schema
    else jsonb_set(entity.schema, '{properties}', entity.schema->'properties' || f.properties) end
  from (
    select jsonb_object_agg(f.name, f.schema - '{x-index,x-unique}'::text[]
      || jsonb_build_object('x-computed', data.computed_expression(f.schema)))
    from data.fields f where f.entity_id = entity.id and f.is_filling and f.schema ? 'x-computed'
  ) f (properties)
$$;
comment on function data.shown_schema(data.entities) is
  'An entity''s schema as its view shows it: computed fields that a worker is filling are not stored.';

create or replace function data.pending_defaults(entity data.entities) returns jsonb
language sql stable set search_path = '' as $$
  select coalesce(jsonb_object_agg(f.name, f.schema->'default'), '{}') from data.fields f
  where f.entity_id = entity.id and f.is_filling and not f.schema ? 'x-computed'
$$;
comment on function data.pending_defaults(data.entities) is 'The properties whose default a worker is putting in place of null, with it.';

create or replace function data.promoted_source(field data.fields, alias text) returns text
language sql immutable set search_path = '' as $$
  select case when field.is_filling and not field.schema ? 'x-computed'
    then format('coalesce(%s.%I, %s)', alias, field.name,
      data.column_value(field, format('%L::jsonb', jsonb_build_object(field.name, field.schema->'default'))))
    else format('%s.%I', alias, field.name) end
$$;
comment on function data.promoted_source(data.fields, text) is 'The SQL that reads a field from its column in a storage row (alias).';

create or replace function data.deferred_fills(entity data.entities, schema_name text) returns text[]
language sql stable set search_path = '' as $$
  select array(
    select format('update %s set %I = %s', data.storage_table(entity, deferred_fills.schema_name), f.name,
      coalesce('(' || data.computed_expression(f.schema) || ')', format('%L where it is null', f.schema->>'default')))
    from data.fields f where f.entity_id = entity.id and f.is_filling order by f.position)
  || array(
    select format('update %s set %I = %I where _schema_version <> %s', data.storage_table(entity, deferred_fills.schema_name), f.name,
      data.former_column(entity, f.name), entity.version)
    from data.fields f
    where f.entity_id = entity.id and entity.storage = 'flat' and f.is_building and not f.is_promoted and not f.schema ? 'x-computed'
    order by f.position)
$$;
comment on function data.deferred_fills(data.entities, text) is
  'What a worker fills after a definition, said as statements that are never run as they are.';

-- One expression for all of them, so that a record is computed once. No join: a record that a writer changed while the update
-- waited for it is computed from what the writer left.
create or replace function data.fill_assignment(entity data.entities, schema_name text, out assignment text, out condition text)
language plpgsql stable set search_path = '' as $$
declare
  _flat boolean := entity.storage = 'flat';
  _retyping boolean := data.is_retyping(entity);
  _record text := data.record_source(entity, 't');
  _upgraded boolean := not _flat and _record <> 't.data';
  _plain text[];
  _changed text[];
  _columns text[];
  _values text[];
  _computes boolean;
begin
  select array_agg(format('%I = %s', f.name, v)) filter (where not c),
    array_agg(case when f.is_filling then format('t.%I is null', f.name) else format('t.%I is distinct from %s', f.name, v) end)
      filter (where not c),
    array_agg(quote_ident(f.name)) filter (where c and (f.is_promoted or f.is_building)),
    array_agg(data.column_value(f, 'x.record')) filter (where c and (f.is_promoted or f.is_building)),
    bool_or(c)
  into _plain, _changed, _columns, _values, _computes
  from data.fields f,
    lateral (select case when f.is_filling then data.promoted_source(f, 't') else data.column_value(f, _record) end,
      f.schema ? 'x-computed' or _retyping and not f.is_filling) x (v, c)
  where f.entity_id = entity.id and (f.is_filling or f.is_building and not f.is_promoted);
  if _computes then
    _columns := _columns || '{_schema_version}'::text[] || case when _flat then '{}' else '{data,_dropped}'::text[] end;
    _values := _values || entity.version::text || case when _flat then '{}' else array['x.record', case when _upgraded
      then format('(%I.%I(t.data, t._dropped, t._schema_version)).dropped', fill_assignment.schema_name, entity.name || '_upgraded')
      else 't._dropped' end] end;
    _plain := _plain || format('(%s) = (select %s from (select %s as record offset 0) x)', array_to_string(_columns, ', '),
      array_to_string(_values, ', '), data.computed_call(entity, fill_assignment.schema_name, _record));
    -- What was written since the definition was computed then.
    _changed := _changed || format('t._schema_version <> %s', entity.version);
  end if;
  assignment := array_to_string(_plain, ', ');
  condition := array_to_string(_changed, ' or ');
end
$$;
comment on function data.fill_assignment(data.entities, text) is
  'What fills the columns of a storage row (t) that are being built or filled, and the condition under which that is left to be done; null where nothing is.';
