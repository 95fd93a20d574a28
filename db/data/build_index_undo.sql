-- Taking back what an operation has not finished.

create or replace function data.build_index_undo(operation data.operations, entity data.entities) returns void
language plpgsql set search_path = '' as $$
declare
  _schema_name name := (select a.schema_name from tenancy.apps a where a.id = entity.app_id);
  _table text := data.storage_table(entity, _schema_name);
  _statements jsonb := operation.arguments->'statements';
  _names text[] := array(select data.statement_index(s) from jsonb_array_elements_text(_statements) s where s ~ '^create ');
  _fields data.fields[] := data.fields_of(entity.id);
  _new text[];
  _schema jsonb;
  _references text[] := data.unfinished_references(operation, _table);
  _statement text;
  _entity data.entities;
begin
  perform data.refuse_untyping(entity);
  perform data.lock_tables(array[format('%I.%I', _schema_name, entity.name), _table] || array(
    select distinct data.storage_table(t, _schema_name) from data.relations r join data.entities t on t.id = r.target_id
    where r.entity_id = entity.id and r.field = any (_references) and t.id <> entity.id));
  _new := array(select f.name from data.fields f
    where f.entity_id = entity.id and data.former_property(entity, f.name) is null
      and (f.is_filling and f.schema ? 'x-computed' or f.name = 'expires_at' and data.is_expiry_unfinished(entity, _statements)));
  _schema := data.without_fills(entity, data.without_deferred(entity, _names, _references), _statements);
  if data.search_state(entity, _schema_name) like 'building %' then
    _schema := data.without_search(_schema);
  end if;
  -- The column of a field that has none any more is not to be looked for.
  update data.fields f set is_building = false where f.entity_id = entity.id;
  _entity := data.save_definition(entity, _schema, '[]');
  perform access.guard(_entity, _table);
  perform data.build_front(_entity, _schema_name);
  foreach _statement in array
    array(select k || case when k ~ ' add constraint ' then ' not valid' else '' end
      from unnest(data.foreign_key_statements(_entity, _schema_name, '{}', '{}')) k)
    || array(select format('drop index if exists %I.%I', _schema_name, n) from unnest(_names) n)
    || data.undo_statements(_entity, _schema_name, _fields, _statements)
    || array(select x from unnest(data.ttl_statements(_entity, _schema_name)) x where x ~ '^drop ')
  loop
    execute _statement;
  end loop;
  _entity := data.drop_new_fields(_entity, _new);
  perform data.publish_definition(_entity.app_id);
end
$$;
comment on function data.build_index_undo(data.operations, data.entities) is
  'Removes what an unfinished operation has left: the entity gets a definition without what was being built, filled and checked. RH409 while values of flat storage are converted.';

drop function if exists data.without_deferred(data.entities, text[]);
create or replace function data.without_deferred(entity data.entities, names text[], fields text[]) returns jsonb
language sql stable set search_path = '' as $$
  select entity.schema - 'x-indexes' - 'x-unique' || jsonb_build_object('properties', (
      select jsonb_object_agg(p.key,
        case when f.is_building then p.value - 'x-unique' - case when f.is_indexed then '{}' else '{x-index}'::text[] end else p.value end
        - case when f.name = any (without_deferred.fields) then '{x-relation}' else '{}'::text[] end
        -- What is kept of it: a relation of before, which was to be another one.
        || coalesce((select jsonb_build_object('x-relation', v.schema #> array['properties', f.name, 'x-relation'])
          from data.entity_versions v
          where v.entity_id = entity.id and v.version = entity.version - 1 and f.name = any (without_deferred.fields)
            and v.schema->'properties'->f.name ? 'x-relation'), '{}'))
      from jsonb_each(entity.schema->'properties') p join data.fields f on f.entity_id = entity.id and f.name = p.key))
    || coalesce((select jsonb_build_object('x-unique', jsonb_agg(s.fields order by n))
      from data.unique_sets(entity.schema) with ordinality s (fields, n)
      where data.unique_name(entity, s.fields) <> all (names) having count(*) > 0), '{}')
    || coalesce((select jsonb_build_object('x-indexes', jsonb_agg(i order by n))
      from jsonb_array_elements(entity.schema->'x-indexes') with ordinality o (i, n)
      where data.compound_index_name(entity, entity.schema, i) <> all (names) having count(*) > 0), '{}')
$$;
comment on function data.without_deferred(data.entities, text[], text[]) is
  'An entity''s schema without what is being built: indexes, by their names, and relations, by their fields.';
