-- Which fields somebody may see masked or hidden. It is known of an entity, whoever asks: types and documents say null of them.

create or replace function access.maskable_fields(entity_id uuid) returns text[]
language sql stable security definer set search_path = '' as $$
  select coalesce(array_agg(r.field order by r.field), '{}')
  from data.entities e, access.restricted(e, access.field_shows(e)) r
  where e.id = maskable_fields.entity_id
$$;
comment on function access.maskable_fields(uuid) is
  'The fields of an entity that some readers see masked or hidden, with those computed from them: null is among what they show.';

create or replace function access.maskable_entities(app_id uuid) returns table (name text, id uuid, fields text[])
language sql stable security definer set search_path = '' as $$
  select e.name, e.id, f from data.entities e, access.maskable_fields(e.id) f
  where e.app_id = maskable_entities.app_id and f <> '{}'
$$;
comment on function access.maskable_entities(uuid) is
  'The entities of an app that have fields which some readers see masked or hidden, with these fields. For the gateway.';
