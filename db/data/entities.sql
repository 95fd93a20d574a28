create or replace function data.require_entity(entity text) returns data.entities
language plpgsql stable security definer set search_path = '' as $$
declare
  _app tenancy.apps;
  _entity data.entities;
begin
  if require_entity.entity is null or require_entity.entity !~ '^[^/]+/[^/]+/[^/]+$' then
    perform rowhouse.fail(400, format('%L does not name an entity', left(require_entity.entity, 120)),
      'Write site/app/entity, for example acme/crm/contacts.', 'invalid_path');
  end if;
  _app := tenancy.require_app(regexp_replace(require_entity.entity, '/[^/]+$', ''));
  select e.* into _entity from data.entities e where e.app_id = _app.id and e.name = split_part(require_entity.entity, '/', 3);
  if _entity.id is null then
    perform rowhouse.fail(404, format('There is no entity %L', left(require_entity.entity, 120)),
      coalesce('Entities of this app: ' || (select string_agg(e.name, ', ' order by e.name) from data.entities e where e.app_id = _app.id),
        'This app has no entities yet: data.define_entity(app, name, schema).'), 'not_found');
  end if;
  return _entity;
end
$$;
comment on function data.require_entity(text) is 'The entity named site/app/entity, for members of the site. RH400, RH404.';

create or replace function data.require_known(entity_id uuid) returns data.entities
language plpgsql stable set search_path = '' as $$
declare
  _entity data.entities;
begin
  select e.* into _entity from data.entities e
  where e.id = require_known.entity_id and tenancy.knows_site(e.site_id)
    and (auth.account_id() is not null or auth.is_operator() or e.id = any (access.my_public_entities()));
  if _entity.id is null then
    perform rowhouse.fail(404, 'There is no such entity that you may see', 'data.entities lists them.', 'not_found');
  end if;
  return _entity;
end
$$;
comment on function data.require_known(uuid) is
  'The entity with this id, for who may look it up: what functions with the owner''s rights begin with when they are given an id. RH404, '
  'the same for another site''s as for none. Internal.';

create or replace function data.relation_name(field text, target text) returns text
language sql immutable set search_path = '' as $$
  select case when field ~ '.+_id$' then regexp_replace(field, '_id$', '') else field || '_' || target end
$$;
comment on function data.relation_name(text, text) is 'What a relation is called when nothing was said: customer_id becomes customer, reports_to becomes reports_to_employee.';

-- One place turns a schema into rows; everything else reads data.fields and data.relations.
create or replace function data.save_fields(entity data.entities) returns void
language plpgsql set search_path = '' as $$
declare
  _field record;
  _relation jsonb;
  _target data.entities;
  _target_field data.fields;
  _name text;
  _inverse text;
begin
  delete from data.relations r where r.entity_id = entity.id;
  delete from data.fields f where f.entity_id = entity.id and not entity.schema->'properties' ? f.name;
  insert into data.fields as f
    (entity_id, name, site_id, position, schema, kind, sql_type, is_required, is_unique, is_indexed, is_promoted)
  select entity.id, p.key, entity.site_id, 0, p.value, data.kind(p.value), data.sql_type(p.value),
    coalesce(entity.schema->'required', '[]') ? p.key, u, i or r, u or i or r or entity.storage = 'flat' and not data.is_virtual(p.value)
      or p.key = any (data.indexed_together(entity.schema))
        or exists (select from data.unique_sets(entity.schema) s where p.key = any (s.fields))
  from jsonb_each(entity.schema->'properties') p,
    lateral (select coalesce((p.value->>'x-unique')::boolean, false), p.value ? 'x-relation' and not data.is_linked(p.value),
      coalesce((p.value->>'x-index')::boolean, false)) flags (u, r, i)
  on conflict (entity_id, name) do update set schema = excluded.schema, kind = excluded.kind, sql_type = excluded.sql_type,
    is_required = excluded.is_required, is_unique = excluded.is_unique, is_indexed = excluded.is_indexed,
    is_promoted = excluded.is_promoted, is_building = false, is_filling = false;
  update data.fields f set position = o.position
  from (select name, row_number() over (order by position = 0, position, not is_required, name) as position
    from data.fields where entity_id = entity.id) o
  where f.entity_id = entity.id and f.name = o.name;

  for _field in select * from data.fields f where f.entity_id = entity.id and f.schema ? 'x-relation' and not data.is_linked(f.schema) loop
    _relation := _field.schema->'x-relation';
    select e.* into _target from data.entities e where e.app_id = entity.app_id and e.name = _relation->>'entity';
    select f.* into _target_field from data.fields f where f.entity_id = _target.id and f.name = _relation->>'field';
    if _target.id is null then
      perform data.refuse_relation(_field.name, 'entity', format('There is no entity %L in this app', left(_relation->>'entity', 60)));
    elsif coalesce(_relation->>'field', 'id') <> 'id' and not coalesce(_target_field.is_unique, false) then
      perform data.refuse_relation(_field.name, 'field',
        format('%s.%s is not a property with x-unique', _target.name, left(_relation->>'field', 60)));
    elsif _field.sql_type <> coalesce(_target_field.sql_type, 'uuid') then
      perform data.refuse_relation(_field.name, 'field', format('%s is %s, but %s.%s is %s', _field.name, _field.sql_type, _target.name,
        coalesce(_relation->>'field', 'id'), coalesce(_target_field.sql_type, 'uuid')));
    elsif coalesce(_relation->>'onDelete', 'restrict') not in ('restrict', 'cascade', 'set null')
      or (_relation->>'onDelete' = 'set null' and _field.is_required)
    then
      perform data.refuse_relation(_field.name, 'onDelete', 'must be restrict, cascade or (when the property is not required) set null');
    end if;
    _name := coalesce(_relation->>'name', data.relation_name(_field.name, _target.name));
    _inverse := coalesce(_relation->>'inverse', data.plural(entity.name) || case when (
      select count(*) from data.fields f where f.entity_id = entity.id and f.schema #>> '{x-relation,entity}' = _target.name) > 1
      then '_by_' || _field.name else '' end);
    if _name !~ '^[a-z][a-z0-9]*(_[a-z0-9]+)*$' or _inverse !~ '^[a-z][a-z0-9]*(_[a-z0-9]+)*$' or length(_name) > 58
      or length(_inverse) > 100 then
      perform data.refuse_relation(_field.name, 'name', 'name and inverse are lower-case letters, digits and single underscores');
    end if;
    insert into data.relations (entity_id, field, site_id, target_id, target_field, on_delete, name, inverse_name)
    values (entity.id, _field.name, entity.site_id, _target.id, coalesce(_relation->>'field', 'id'),
      coalesce(_relation->>'onDelete', 'restrict'), _name, _inverse);
  end loop;
  perform data.save_links(entity);
end
$$;
comment on function data.save_fields(data.entities) is 'Writes the fields and relations that an entity''s schema describes. RH400 names what is wrong with a relation.';

create or replace function data.refuse_relation(field text, part text, message text) returns void
language sql set search_path = '' as $$
  select rowhouse.fail(400, format('The relation of %s is not valid: %s', field, message),
    'Write "x-relation": {"entity": "companies", "field": "id", "onDelete": "restrict"}; field is id or any property with x-unique.',
    'invalid_relation', data.violation(format('/properties/%s/x-relation/%s', field, part), message))
$$;
comment on function data.refuse_relation(text, text, text) is 'Raises RH400 for a property''s x-relation.';
