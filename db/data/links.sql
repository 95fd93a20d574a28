-- Relations of many to many: "tags": {"x-relation": {"entity": "tags", "many": true}}. The property reads and writes as a list of
-- ids; underneath is a table of links with true foreign keys, and the list is nowhere else but in what a write said last
-- (_links, for the trigger that makes rows of it, and for history).

create or replace function data.is_linked(property jsonb) returns boolean
language sql immutable parallel safe set search_path = '' as $$ select coalesce(property #> '{x-relation,many}' = 'true', false) $$;
comment on function data.is_linked(jsonb) is 'Whether a property is a list of links to other records.';

create or replace function data.link_names(schema jsonb) returns text[]
language sql immutable parallel safe set search_path = '' as $$
  select array(select key from jsonb_each(link_names.schema->'properties') where data.is_linked(value) order by key)
$$;
comment on function data.link_names(jsonb) is 'The properties of an entity that are lists of links.';

create or replace function data.link_table(entity data.entities, schema_name text, field text) returns text
language sql immutable parallel safe set search_path = '' as $$
  select format('%I.%I', schema_name, data.object_name(entity.name || '__links', link_table.field))
$$;
comment on function data.link_table(data.entities, text, text) is 'The table of a property''s links, as SQL with its schema.';

create or replace function data.link_view(entity_name text, field text) returns text
language sql immutable parallel safe set search_path = '' as $$ select data.object_name(entity_name || '__linked', link_view.field) $$;
comment on function data.link_view(text, text) is 'The name of the view that shows a property''s links of which the reader may see both ends.';

create or replace function data.link_properties(schema jsonb) returns jsonb
language sql immutable parallel safe set search_path = '' as $$
  select coalesce(jsonb_object_agg(p.key,
    '{"type": "array", "items": {"type": "string", "format": "uuid"}, "uniqueItems": true, "maxItems": 10000}'::jsonb), '{}')
  from jsonb_each(case jsonb_typeof(link_properties.schema->'properties') when 'object' then link_properties.schema->'properties'
    else '{}' end) p
  where jsonb_typeof(p.value) = 'object' and data.is_linked(p.value)
$$;
comment on function data.link_properties(jsonb) is 'What a schema''s lists of links are besides what was said of them.';

create or replace function data.link_violations(schema jsonb) returns jsonb
language sql immutable set search_path = '' as $$
  select coalesce(jsonb_agg(jsonb_build_object('pointer', '/properties/' || p.key, 'message', m.message) order by p.key), '[]')
  from jsonb_each(link_violations.schema->'properties') p,
    lateral (select case
      when p.value #> '{x-relation,many}' not in ('true', 'false') then 'x-relation: many is true or false'
      when data.is_linked(link_violations.schema->'properties'->(p.value->>'x-alias')) then 'is an alias of a list of links, which has none'
      when not data.is_linked(p.value) then null
      when data.kind(p.value) <> 'array' or data.kind(p.value->'items') is distinct from 'uuid' or p.value->'uniqueItems' <> 'true'
        or (p.value->>'maxItems')::int > 10000
        then 'lists links: an array of at most 10,000 UUIDs, none of them twice'
      when link_violations.schema->'required' ? p.key
        or p.value ?| array['default', 'minItems', 'x-index', 'x-unique', 'x-search', 'x-computed', 'x-rollup', 'x-alias']
        then 'lists links, which may always be none: it cannot be required, nor have a default, minItems, an index, a search or an expression'
      when coalesce(p.value #>> '{x-relation,field}', 'id') <> 'id' then 'links to records by their id: leave x-relation/field out'
      end) m (message)
  where m.message is not null
$$;
comment on function data.link_violations(jsonb) is 'What is wrong with a schema''s lists of links: a JSON array of {pointer, message}.';

create or replace function data.link_relation_name(field text) returns text
language sql immutable set search_path = '' as $$
  select case when field ~ '.+_ids$' then data.plural(regexp_replace(field, '_ids$', '')) else field end
$$;
comment on function data.link_relation_name(text) is 'What a relation of many to many is called when nothing was said: tags stays tags, tag_ids becomes tags.';

create or replace function data.save_links(entity data.entities) returns void
language plpgsql set search_path = '' as $$
declare
  _field record;
  _relation jsonb;
  _target data.entities;
  _name text;
  _inverse text;
begin
  delete from data.links l where l.entity_id = entity.id;
  for _field in select f.name, f.schema from data.fields f where f.entity_id = entity.id and data.is_linked(f.schema) order by f.name loop
    _relation := _field.schema->'x-relation';
    select e.* into _target from data.entities e where e.app_id = entity.app_id and e.name = _relation->>'entity';
    _name := coalesce(_relation->>'name', data.link_relation_name(_field.name));
    _inverse := coalesce(_relation->>'inverse', data.plural(entity.name) || case when (
      select count(*)
      from data.fields f
      where f.entity_id = entity.id and f.schema #>> '{x-relation,entity}' = _target.name) > 1 then '_by_' || _field.name else '' end);
    if _target.id is null then
      perform data.refuse_relation(_field.name, 'entity', format('There is no entity %L in this app', left(_relation->>'entity', 60)));
    elsif coalesce(_relation->>'onDelete', 'cascade') not in ('restrict', 'cascade') then
      perform data.refuse_relation(_field.name, 'onDelete', 'must be cascade (the link goes) or restrict');
    elsif _name !~ '^[a-z][a-z0-9]*(_[a-z0-9]+)*$' or _inverse !~ '^[a-z][a-z0-9]*(_[a-z0-9]+)*$' or length(_name) > 58
      or length(_inverse) > 100 then
      perform data.refuse_relation(_field.name, 'name', 'name and inverse are lower-case letters, digits and single underscores');
    elsif _name <> _field.name and entity.schema->'properties' ? _name then
      perform data.refuse_relation(_field.name, 'name', format('%s is another property', _name));
    end if;
    insert into data.links (entity_id, field, site_id, target_id, on_delete, name, inverse_name)
    values (entity.id, _field.name, entity.site_id, _target.id, coalesce(_relation->>'onDelete', 'cascade'), _name, _inverse);
  end loop;
end
$$;
comment on function data.save_links(data.entities) is 'Writes the relations of many to many that an entity''s schema describes. RH400 names what is wrong with one.';

-- What a list of texts becomes as links, or the other way round, nobody has said: a new property beside it is clear.
create or replace function data.refuse_relinking(old data.entities, fields data.fields[], renames jsonb) returns void
language plpgsql set search_path = '' as $$
declare
  _name text;
begin
  select (c.field).name into _name from data.field_changes(old, fields, renames) c
  where (c.field).name is not null and (c.old_field).name is not null
    and (data.is_linked((c.field).schema) <> data.is_linked((c.old_field).schema)
    or data.is_linked((c.field).schema) and (c.field).schema #>> '{x-relation,entity}' <> (c.old_field).schema #>> '{x-relation,entity}')
      limit 1;
  if _name is not null then
    perform rowhouse.fail(409, format('%s cannot become, cease to be, or lead elsewhere as a list of links', _name),
      'Add a new property beside it, copy what it should hold, and drop the old one.',
      'would_lose_data', data.violation(format('/properties/%s/x-relation', _name), 'cannot be changed so'));
  end if;
end
$$;
comment on function data.refuse_relinking(data.entities, data.fields[], jsonb) is 'Raises RH409 when a property becomes or ceases to be a list of links, or links to another entity.';
