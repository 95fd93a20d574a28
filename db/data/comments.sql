-- Smart comments: what PostGraphile needs to know about a view.

create or replace function data.comment_view(entity data.entities, schema_name text) returns void
language plpgsql set search_path = '' as $$
declare
  _tags text := '@primaryKey id' || E'\n@behavior +insert +update +delete';
  _relation record;
  _field data.fields;
begin
  for _relation in
    select r.*, t.name as target from data.relations r join data.entities t on t.id = r.target_id
    where r.entity_id = entity.id order by r.field
  loop
    _tags := _tags || format(E'\n@foreignKey (%s) references %I.%I (%s)|@fieldName %s|@foreignFieldName %s',
      _relation.field, comment_view.schema_name, _relation.target, _relation.target_field,
      rowhouse.camel(_relation.name), rowhouse.camel(_relation.inverse_name));
  end loop;
  execute format('comment on view %I.%I is %L', comment_view.schema_name, entity.name,
    _tags || coalesce(E'\n' || (entity.schema->>'description'), ''));
end
$$;
comment on function data.comment_view(data.entities, text) is 'Writes the smart comments of an entity''s view.';

create or replace function data.refuse_collisions(app_id uuid) returns void
language plpgsql set search_path = '' as $$
begin
  return;
end
$$;
