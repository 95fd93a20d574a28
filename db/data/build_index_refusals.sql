-- What keeps an index or a relation from being built: the records, told by id. Whoever may define the entity reads it.

create or replace function data.refuse_duplicates(entity_id uuid) returns void
language plpgsql set search_path = '' as $$
declare
  _entity data.entities;
  _errors jsonb;
begin
  select e.* into _entity from data.entities e where e.id = refuse_duplicates.entity_id;
  _errors := data.key_offenders(_entity, (select a.schema_name from tenancy.apps a where a.id = _entity.app_id), (
    select coalesce(jsonb_agg(jsonb_build_object('field', f.name, 'keyword', 'x-unique')), '[]') from data.fields f
    where f.entity_id = _entity.id and f.is_building and (f.schema->>'x-unique')::boolean) || '{"option": "x-unique"}');
  perform rowhouse.fail(409,
    format('Records of %s are not unique: %s %s', _entity.name, _errors #>> '{0,pointer}', _errors #>> '{0,message}'),
    'errors lists up to 20 of them. Change those records, then define the index again.', 'records_do_not_fit', _errors);
end
$$;
comment on function data.refuse_duplicates(uuid) is 'Raises RH409 with records whose values are not unique in the fields of an entity whose indexes are being built.';

create or replace function data.refuse_orphans(entity_id uuid) returns void
language plpgsql set search_path = '' as $$
declare
  _entity data.entities;
  _errors jsonb;
begin
  select e.* into _entity from data.entities e where e.id = refuse_orphans.entity_id;
  _errors := data.key_offenders(_entity, (select a.schema_name from tenancy.apps a where a.id = _entity.app_id), (
    select jsonb_agg(jsonb_build_object('field', r.field, 'keyword', 'x-relation')) from data.relations r where r.entity_id = _entity.id));
  perform rowhouse.fail(409,
    format('Records of %s refer to none: %s %s', _entity.name, _errors #>> '{0,pointer}', _errors #>> '{0,message}'),
    'errors lists up to 20 of them. Change those records, then define the relation again.', 'records_do_not_fit', _errors);
end
$$;
comment on function data.refuse_orphans(uuid) is 'Raises RH409 with the records of an entity that refer to no record where a relation is being built.';
