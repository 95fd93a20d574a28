-- Smart comments: what PostGraphile needs to know about a view.

-- PostGraphile reads tags until the first line that is none, so only a description that begins like a tag could become
-- one; a zero-width space stops it.
create or replace function data.smart_comment(tags text[], description text) returns text
language sql immutable set search_path = '' as $$
  select array_to_string(tags || case when smart_comment.description is null then array[]::text[]
    else array[regexp_replace(smart_comment.description, '^(\s*)@', E'\\1\u200b@')] end, E'\n')
$$;
comment on function data.smart_comment(text[], text) is 'Tags, one a line, then the description, which cannot become a tag.';

create or replace function data.comment_view(entity data.entities, schema_name text) returns void
language plpgsql set search_path = '' as $$
declare
  _tags text[] := array['@primaryKey id', '@singular ' || data.singular(entity.name), '@plural ' || data.plural(entity.name),
    '@behavior +insert +update +delete -nodeId:resource:update -nodeId:resource:delete'];
  _comment record;
  -- What is masked or hidden for some readers may be null.
  _nullable text[] := array(select r.field from access.restricted(entity, access.field_shows(entity)) r);
begin
  _tags := _tags || array(
    select format('@unique %s|@behavior -update -delete', f.name)
    from data.fields f where f.entity_id = entity.id and f.is_unique order by f.name);
  _tags := _tags || array(select format('@unique %s|@behavior -update -delete', array_to_string(s.fields, ','))
    from data.unique_sets(entity.schema) s);
  _tags := _tags || array(
    select format('@foreignKey (%s) references %I.%I (%s)|@fieldName %s|@foreignFieldName %s|@foreignSingleFieldName %3$s',
      r.field, comment_view.schema_name, t.name, r.target_field, rowhouse.camel(r.name), rowhouse.camel(r.inverse_name))
    from data.relations r join data.entities t on t.id = r.target_id where r.entity_id = entity.id order by r.field);
  _tags := _tags || array(
    select format('@link %s|%s|%s|%s', rowhouse.camel(l.name), rowhouse.camel(l.inverse_name), data.link_view(entity.name, l.field), t.name)
    from data.links l join data.entities t on t.id = l.target_id where l.entity_id = entity.id order by l.field);
  if data.is_searched(entity.id) then
    _tags := _tags || format('@search %s', entity.name || '_search');
  end if;
  _tags := _tags || array(select o.tag from (values ('x-soft-delete', '@softDelete'), ('x-history', '@history')) o (option, tag)
    where entity.schema->o.option = 'true');
  execute format('comment on view %I.%I is %L', comment_view.schema_name, entity.name,
    data.smart_comment(_tags, entity.schema->>'description'));
  for _comment in
    select f.name, case when f.is_required and f.name <> all (_nullable) then array['@notNull'] else '{}' end
      || case when f.schema ? 'default' then array['@hasDefault'] else '{}' end
      || case when f.schema ? 'x-computed' then array['@behavior -attribute:insert -attribute:update'] else '{}' end
      -- The records take the name of the list of their ids, which is only written; no filter compares lists.
      || case when exists (select from data.links l where l.entity_id = f.entity_id and l.field = f.name and l.name = f.name)
        then array['@behavior -attribute:select -attribute:filterBy -attribute:orderBy']
        when data.is_linked(f.schema) then array['@behavior -attribute:filterBy -attribute:orderBy'] else '{}' end as tags,
      coalesce(f.schema->>'description', f.schema->>'title') as description
    from data.fields f where f.entity_id = entity.id
    union all
    values ('id', array['@hasDefault', '@behavior -attribute:update'], null),
      ('created_at', array['@notNull', '@behavior -attribute:insert -attribute:update'], null),
      ('updated_at', array['@notNull', '@behavior -attribute:insert -attribute:update'], null),
      ('version', array['@notNull', '@hasDefault', '@behavior -attribute:insert'],
        'Grows by one with each change. Sent in an update, it is the version you saw: if the record has changed since, the update is refused.'),
      ('created_by', array['@behavior -attribute:insert -attribute:update'], 'The account that created the record.')
  loop
    execute format('comment on column %I.%I.%I is %L', comment_view.schema_name, entity.name, _comment.name,
      nullif(data.smart_comment(_comment.tags, _comment.description), ''));
  end loop;
end
$$;
comment on function data.comment_view(data.entities, text) is 'Writes the smart comments of an entity''s view and its columns.';
