-- Taking back what a worker has not finished to fill or to check. Values that were filled are not taken out of records again: so a
-- computed field is computed when it is read, as it was said before.

create or replace function data.former_property(entity data.entities, field text) returns jsonb
language sql stable set search_path = '' as $$
  select o.schema->'properties'->coalesce((
    select t->>'from' from jsonb_array_elements(v.transforms) t
    where t->>'op' = 'rename' and t->>'to' = former_property.field), former_property.field)
  from data.entity_versions v
  join data.entity_versions o on o.entity_id = v.entity_id and o.version = v.version - 1
  where v.entity_id = entity.id and v.version = entity.version
$$;
comment on function data.former_property(data.entities, text) is
  'What a property was in the definition before the current one; null when there was none.';

create or replace function data.unchecked_fields(entity data.entities, statements jsonb) returns text[]
language sql stable set search_path = '' as $$
  select array(
    select f.name from data.fields f, unnest(array['check', 'not_null']) k
    where f.entity_id = entity.id and quote_ident(data.index_name(entity, f.name, k)) in (
      select substring(s from ' validate constraint (\S+)$') from jsonb_array_elements_text(unchecked_fields.statements) s)
    group by f.name order by f.name)
$$;
comment on function data.unchecked_fields(data.entities, jsonb) is
  'The fields of flat storage whose check or not null a definition leaves to a worker, by its statements.';

create or replace function data.is_expiry_unfinished(entity data.entities, statements jsonb) returns boolean
language sql stable set search_path = '' as $$
  select entity.schema ? 'x-ttl' and (
    exists (select from data.fields f where f.entity_id = entity.id and f.name = 'expires_at' and f.is_building)
    or exists (select from jsonb_array_elements_text(is_expiry_unfinished.statements) s
      where data.statement_index(s) = data.index_name(entity, 'updated_at', 'idx')))
$$;
comment on function data.is_expiry_unfinished(data.entities, jsonb) is 'Whether an operation builds the index by which records expire.';

create or replace function data.without_fills(entity data.entities, schema jsonb, statements jsonb) returns jsonb
language plpgsql stable set search_path = '' as $$
declare
  _checks constant text[] := '{type,enum,minLength,maxLength,minimum,maximum,exclusiveMinimum,exclusiveMaximum}';
  _unchecked text[] := data.unchecked_fields(entity, statements);
  _read text[] := '{}';
  _free text[] := '{}';
  _field record;
begin
  for _field in
    select f.name, f.kind, f.schema ? 'x-computed' as is_computed, f.is_filling, data.former_property(entity, f.name) as former
    from data.fields f where f.entity_id = entity.id and (f.is_filling or f.name = any (_unchecked)) order by f.name
  loop
    if _field.is_computed and _field.is_filling then
      _read := _read || _field.name;
      without_fills.schema := jsonb_set(without_fills.schema, array['properties', _field.name],
        data.computed_when_read(case when _field.former ? 'x-computed' then _field.former
          else schema->'properties'->_field.name end));
    elsif _field.former is not null then
      if data.kind(_field.former) = _field.kind then
        without_fills.schema := jsonb_set(without_fills.schema, array['properties', _field.name],
          (schema->'properties'->_field.name) - _checks
            || coalesce((select jsonb_object_agg(key, value) from jsonb_each(_field.former) where key = any (_checks)), '{}'));
      end if;
      if (select not coalesce(v.schema->'required', '[]') ? coalesce((
          select t->>'from' from data.entity_versions n, jsonb_array_elements(n.transforms) t
          where n.entity_id = entity.id and n.version = entity.version and t->>'op' = 'rename' and t->>'to' = _field.name), _field.name)
        from data.entity_versions v where v.entity_id = entity.id and v.version = entity.version - 1)
      then
        _free := _free || _field.name;
      end if;
    elsif _field.is_filling then
      _free := _free || _field.name; -- it came back, and not yet with its default
    end if;
  end loop;
  if data.is_expiry_unfinished(entity, statements) then
    without_fills.schema := schema - 'x-ttl'::text || coalesce((select jsonb_build_object('x-ttl', v.schema->'x-ttl')
      from data.entity_versions v where v.entity_id = entity.id and v.version = entity.version - 1 and v.schema ? 'x-ttl'), '{}');
    if data.former_property(entity, 'expires_at') is not null then
      without_fills.schema := jsonb_set(schema, '{properties,expires_at}', data.former_property(entity, 'expires_at'));
    end if;
  end if;
  if schema ? 'required' then
    without_fills.schema := jsonb_set(schema, '{required}', (schema->'required') - _free);
  end if;
  return data.without_indexes_of(schema, _read);
end
$$;
comment on function data.without_fills(data.entities, jsonb, jsonb) is
  'A schema of an entity without what a worker is filling and checking: computed fields are computed when they are read, by their former expression; other properties are checked as before. statements are those of the operation.';

create or replace function data.without_indexes_of(schema jsonb, names text[]) returns jsonb
language sql immutable set search_path = '' as $$
  select schema - 'x-indexes' - 'x-unique'
    || coalesce((select jsonb_build_object('x-unique', jsonb_agg(u order by n))
      from jsonb_array_elements(schema->'x-unique') with ordinality o (u, n) where not u ?| names having count(*) > 0), '{}')
    || coalesce((select jsonb_build_object('x-indexes', jsonb_agg(i order by n))
      from jsonb_array_elements(schema->'x-indexes') with ordinality o (i, n)
      where not data.index_fields(i) && names and not data.filter_fields(i->'where') && names having count(*) > 0), '{}')
$$;
comment on function data.without_indexes_of(jsonb, text[]) is 'A schema without the x-indexes and x-unique that hold one of these properties.';

create or replace function data.undo_statements(
  entity data.entities, schema_name text, fields data.fields[], statements jsonb
) returns text[]
language sql stable set search_path = '' as $$
  with unchecked as (
    select n.*::data.fields as field, data.index_name(entity, n.name, 'check') as name
    from data.fields n
    where n.entity_id = entity.id and n.is_promoted
      and n.name = any (data.unchecked_fields(entity, undo_statements.statements))
      and (data.former_property(data.with_version(entity, entity.version - 1), n.name) is not null
        or exists (select from unnest(undo_statements.fields) o where o.name = n.name and o.is_filling))
  )
  select array(select format('alter table %s drop column if exists %I', t, o.name)
      from unnest(undo_statements.fields) o join data.fields n on n.entity_id = entity.id and n.name = o.name
      where (o.is_filling or o.is_building) and (o.is_promoted or o.is_building) and not n.is_promoted order by o.position)
    || array(select format('alter table %s drop constraint if exists %I', t, u.name) from unchecked u order by u.name)
    || array(select format('alter table %s add constraint %I check (%s) not valid', t, u.name, data.field_check(u.field))
      from unchecked u where data.field_check(u.field) is not null order by u.name)
    || array(select format('alter table %s alter column %I drop not null', t, (u.field).name)
      from unchecked u where not (u.field).is_required order by u.name)
  from data.storage_table(entity, undo_statements.schema_name) t
$$;
comment on function data.undo_statements(data.entities, text, data.fields[], jsonb) is
  'The statements that take from an entity''s storage what a worker has not finished; fields are those from before it was taken back.';

create or replace function data.with_version(entity data.entities, version int) returns data.entities
language plpgsql immutable set search_path = '' as $$
begin
  entity.version := with_version.version;
  return entity;
end
$$;
comment on function data.with_version(data.entities, int) is 'The entity as if it were at that version.';

-- What came with the operation's definition goes with it, unless something else has come to need it.
create or replace function data.drop_new_fields(entity data.entities, names text[]) returns data.entities
language plpgsql set search_path = '' as $$
declare
  _schema jsonb := jsonb_set(entity.schema, '{properties}', (entity.schema->'properties') - names);
begin
  if names = '{}' or data.definition_violations(_schema) <> '[]' then
    return entity;
  end if;
  return data.redefine(entity, _schema, '{}', data.schema_changes(entity, _schema, '{}'));
exception when sqlstate 'RH409' or sqlstate 'RH400' then
  return entity;
end
$$;
comment on function data.drop_new_fields(data.entities, text[]) is
  'Drops fields from a definition where nothing refers to them, and returns the entity.';
