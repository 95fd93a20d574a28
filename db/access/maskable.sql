-- Which fields somebody may see masked or hidden. It is known of an entity, whoever asks: types and documents say null of them.

create or replace function access.maskable_fields(entity data.entities) returns text[]
language sql stable set search_path = '' as $$
  select coalesce(array_agg(r.field order by r.field), '{}') from access.restricted(entity, access.field_shows(entity)) r
$$;
comment on function access.maskable_fields(data.entities) is
  'The fields of an entity that some readers see masked or hidden, with those computed from them: null is among what they show.';

create or replace function access.maskable_fields(entity_id uuid) returns text[]
language sql stable security definer set search_path = '' as $$
  select access.maskable_fields(data.require_known(maskable_fields.entity_id))
$$;
comment on function access.maskable_fields(uuid) is 'access.maskable_fields of the entity with this id. RH404.';

create or replace function access.maskable_entities(app_id uuid) returns table (name text, id uuid, fields text[], required text[])
language sql stable security definer set search_path = '' as $$
  select e.name, e.id, m.fields,
    array(select f.name from data.fields f
      where f.entity_id = e.id and f.name = any (m.fields) and f.is_required and not f.schema ?| array['default', 'x-computed'])
  from data.entities e, access.maskable_fields(e) m (fields)
  where e.app_id = maskable_entities.app_id and m.fields <> '{}'
$$;
comment on function access.maskable_entities(uuid) is
  'The entities of an app that have fields which some readers see masked or hidden, with these fields, and those of them that a new record '
  'must have. For the gateway.';
