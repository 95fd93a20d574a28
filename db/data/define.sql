create or replace function data.define_entity(app text, name text, schema jsonb) returns data.entities
language plpgsql security definer set search_path = '' set client_min_messages = warning as $$
#variable_conflict use_column
declare
  _app tenancy.apps := tenancy.require_app(define_entity.app, array['owner', 'admin']);
  _old data.entities;
  _entity data.entities;
  _errors jsonb;
begin
  perform data.check_entity_name(define_entity.name);
  perform pg_advisory_xact_lock(hashtextextended('data.define/' || _app.id, 0));
  _errors := data.definition_violations(define_entity.schema);
  if _errors <> '[]' then
    perform rowhouse.fail(400, format('The schema of %s is not valid: %s %s', define_entity.name, _errors #>> '{0,pointer}', _errors #>> '{0,message}'),
      'errors lists every problem by JSON pointer into the schema.', 'invalid_schema', _errors);
  end if;
  select e.* into _old from data.entities e where e.app_id = _app.id and e.name = define_entity.name;
  if _old.id is not null then
    if _old.schema = define_entity.schema then
      return _old;
    end if;
    perform data.refuse_loss(_old, define_entity.schema);
  end if;
  insert into data.entities as e (site_id, app_id, name, schema)
  values (_app.site_id, _app.id, define_entity.name, define_entity.schema)
  on conflict (app_id, name) do update set schema = excluded.schema, version = e.version + 1, updated_at = now()
  returning e.* into _entity;
  perform data.save_fields(_entity);
  perform data.build_entity(_entity, _app.schema_name);
  if _old.id is not null then
    perform data.backfill_defaults(_entity, _app.schema_name, _old.schema);
    perform data.refuse_misfits(_entity, _app.schema_name);
  end if;
  perform data.refuse_collisions(_app.id);
  update tenancy.apps a set definition_version = nextval('tenancy.definition_versions') where a.id = _app.id;
  return _entity;
end
$$;
comment on function data.define_entity(text, text, jsonb) is
  'Defines an entity of an app (acme/crm) from a JSON Schema, or extends it. Creates its typed view, storage, validation, indexes, foreign keys and row-level security. Site owners and admins only. RH400 lists what is wrong by JSON pointer; RH403; RH404; RH409 when the change would lose data or existing records do not fit.';

create or replace function data.definition_violations(schema jsonb) returns jsonb
language sql immutable set search_path = '' as $$
  select case when e <> '[]' then e
    when data.kind(definition_violations.schema) is distinct from 'object' or jsonb_typeof(definition_violations.schema->'properties') is distinct from 'object'
      then data.violation('', 'must have type object and properties')
    else coalesce((
      select jsonb_agg(jsonb_build_object('pointer', '/properties/' || p.key, 'message', p.message))
      from (
        select k.key, case
          when k.key !~ '^[a-z][a-z0-9]*(_[a-z0-9]+)*$' or length(k.key) > 58
            then 'is not a valid name: up to 58 lower-case letters, digits and single underscores, starting with a letter'
          when k.key = any (data.system_columns()) then 'is a system column that every entity has; choose another name'
          when k.key in ('node_id', 'query', 'client_mutation_id') then 'is a reserved name in GraphQL; choose another name'
          when k.key = 'data' and k.value ?| array['x-index', 'x-unique', 'x-relation'] then 'cannot be indexed, unique or a relation: the storage has a column of that name'
          when k.value ?| array['x-index', 'x-unique', 'x-relation'] and data.kind(k.value) in ('array', 'object') then 'cannot be indexed, unique or a relation: it is no scalar'
        end as message
        from jsonb_each(definition_violations.schema->'properties') k
      ) p where p.message is not null), '[]')
      || case when definition_violations.schema->'additionalProperties' = 'true'
        then data.violation('/additionalProperties', 'true is not supported: an entity has exactly the properties of its schema') else '[]' end
  end
  from data.schema_violations(definition_violations.schema) e
$$;
comment on function data.definition_violations(jsonb) is 'What is wrong with the schema of an entity: a JSON array of {pointer, message}.';

create or replace function data.refuse_loss(old data.entities, schema jsonb) returns void
language plpgsql set search_path = '' as $$
declare
  _errors jsonb;
begin
  select jsonb_agg(jsonb_build_object('pointer', '/properties/' || f.name, 'message', case
    when refuse_loss.schema->'properties'->f.name is null then 'was removed: its values would be lost'
    else format('was %s and would become %s', f.sql_type, data.sql_type(refuse_loss.schema->'properties'->f.name)) end))
  into _errors
  from data.fields f
  where f.entity_id = old.id and f.sql_type is distinct from data.sql_type(refuse_loss.schema->'properties'->f.name);
  if _errors is not null then
    perform rowhouse.fail(409, format('This definition of %s would lose data: %s %s', old.name, _errors #>> '{0,pointer}', _errors #>> '{0,message}'),
      'Keep every existing property with its type; add new ones beside it.', 'would_lose_data', _errors);
  end if;
end
$$;
comment on function data.refuse_loss(data.entities, jsonb) is 'Raises RH409 when a new schema drops a property or changes its type.';

create or replace function data.backfill_defaults(entity data.entities, schema_name text, old_schema jsonb) returns void
language plpgsql set search_path = '' as $$
declare
  _defaults jsonb;
begin
  select jsonb_object_agg(f.name, f.schema->'default') into _defaults from data.fields f
  where f.entity_id = entity.id and f.is_required and f.schema ? 'default'
    and not coalesce(backfill_defaults.old_schema->'required', '[]') ? f.name;
  if _defaults is not null then
    execute format('update %I.%I set data = $1 || data where data || $1 is distinct from data', schema_name, entity.name || '_jsonb') using _defaults;
  end if;
end
$$;
comment on function data.backfill_defaults(data.entities, text, jsonb) is 'Gives existing records the defaults of properties that became required.';

create or replace function data.refuse_misfits(entity data.entities, schema_name text) returns void
language plpgsql set search_path = '' as $$
declare
  _errors jsonb;
begin
  execute format('select jsonb_agg(e) from (select e || jsonb_build_object(''id'', t.id) as e
    from %1$I.%2$I t, jsonb_array_elements(%1$I.%3$I(t.data)) e limit 20) x',
    schema_name, entity.name || '_jsonb', entity.name || '_violations') into _errors;
  if _errors is not null then
    perform rowhouse.fail(409, format('Existing records of %s do not fit this definition: %s %s in record %s', entity.name,
      _errors #>> '{0,pointer}', _errors #>> '{0,message}', _errors #>> '{0,id}'),
      'errors lists up to 20 of them. Change the records first, or give the property a default.', 'records_do_not_fit', _errors);
  end if;
end
$$;
comment on function data.refuse_misfits(data.entities, text) is 'Raises RH409 with up to 20 offenders when existing records violate the new definition.';

create or replace function data.build_entity(entity data.entities, schema_name text) returns void
language plpgsql set search_path = '' as $$
begin
  perform data.drop_write_functions(entity, schema_name);
  execute format('drop view if exists %I.%I', schema_name, entity.name);
  perform data.build_storage(entity, schema_name);
  perform data.build_write_rule(entity, schema_name);
  perform data.build_view(entity, schema_name);
  perform data.build_write_functions(entity, schema_name);
end
$$;
comment on function data.build_entity(data.entities, text) is 'Builds everything an entity consists of from data.fields and data.relations.';

create or replace function data.drop_entity(entity text, confirm text) returns void
language plpgsql security definer set search_path = '' set client_min_messages = warning as $$
declare
  _entity data.entities := data.require_entity(drop_entity.entity);
  _app tenancy.apps;
  _by text;
begin
  perform tenancy.require_app(regexp_replace(drop_entity.entity, '/[^/]+$', ''), array['owner', 'admin']);
  perform tenancy.require_confirmation(_entity.name, drop_entity.confirm);
  select a.* into _app from tenancy.apps a where a.id = _entity.app_id for update;
  select string_agg(e.name || '.' || r.field, ', ') into _by
  from data.relations r join data.entities e on e.id = r.entity_id
  where r.target_id = _entity.id and r.entity_id <> _entity.id;
  if _by is not null then
    perform rowhouse.fail(409, format('Other entities refer to %s: %s', _entity.name, _by), 'Remove those relations first.', 'still_referenced');
  end if;
  delete from data.relations r where r.entity_id = _entity.id;
  delete from data.entities e where e.id = _entity.id;
  perform data.drop_write_functions(_entity, _app.schema_name);
  execute format('drop view %I.%I', _app.schema_name, _entity.name);
  execute format('drop table %I.%I', _app.schema_name, _entity.name || '_jsonb');
  perform data.drop_write_rule(_entity, _app.schema_name);
  update tenancy.apps a set definition_version = nextval('tenancy.definition_versions') where a.id = _app.id;
end
$$;
comment on function data.drop_entity(text, text) is
  'Drops an entity (acme/crm/contacts) with all its records; confirm must repeat the entity''s name. Site owners and admins only. RH400, RH403, RH404, RH409 other entities refer to it.';
