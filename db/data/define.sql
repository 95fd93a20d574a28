create or replace function data.define_entity(app text, name text, schema jsonb) returns data.entities
language plpgsql security definer set search_path = '' set client_min_messages = warning as $$
#variable_conflict use_column
declare
  _app tenancy.apps := access.require_definer(define_entity.app);
  _old data.entities;
  _entity data.entities;
  _renames jsonb;
  _changes jsonb;
begin
  perform data.check_entity_name(define_entity.name);
  perform data.lock_definitions(_app);
  define_entity.schema := data.resolved_schema(data.with_options(define_entity.schema));
  perform data.require_definition(define_entity.name, define_entity.schema);
  select e.* into _old from data.entities e where e.app_id = _app.id and e.name = define_entity.name;
  if _old.schema = define_entity.schema then
    return _old;
  elsif _old.id is not null then
    _renames := data.schema_renames(_old.schema, define_entity.schema);
    _changes := data.schema_changes(_old, define_entity.schema, _renames);
    perform data.refuse_loss(_old, _changes);
    return data.redefine(_old, define_entity.schema, _renames, _changes);
  end if;
  perform access.refuse_unseen_targets(jsonb_populate_record(null::data.entities, jsonb_build_object('site_id', _app.site_id,
    'app_id', _app.id)), define_entity.schema, '{}', '[]');
  insert into data.entities as e (site_id, app_id, name, schema, storage)
  values (_app.site_id, _app.id, define_entity.name, define_entity.schema, coalesce(define_entity.schema->>'x-storage', 'jsonb'))
  returning e.* into _entity;
  insert into data.entity_versions (entity_id, version, site_id, schema, created_by)
  values (_entity.id, 1, _entity.site_id, _entity.schema, auth.account_id());
  perform data.save_fields(_entity);
  perform data.build_storage(_entity, _app.schema_name, '{}');
  perform data.build_storage(_entity, _app.schema_name, data.storage_statements(_entity, _app.schema_name, '{}', '{}', '[]'));
  perform data.build_entity(_entity, _app.schema_name);
  perform data.publish_definition(_app.id);
  return _entity;
end
$$;
comment on function data.define_entity(text, text, jsonb) is
  'Defines an entity of an app (acme/crm) from a JSON Schema, or changes it where that loses nothing. Creates its typed view, storage, validation, indexes, foreign keys and row-level security. data.plan shows what a change would do. Owners, admins and @entities:define. RH400 lists what is wrong by JSON pointer; RH403, also when it would be tried on records or fields that you do not see; RH404; RH409 when the change would lose data or existing records do not fit.';

-- The model first, then the app: roles and policies are compiled in the same order.
create or replace function data.lock_definitions(app tenancy.apps) returns void
language plpgsql set search_path = '' as $$
begin
  perform access.lock_model((app).site_id);
  perform pg_advisory_xact_lock(hashtextextended('data.define/' || (app).id, 0));
end
$$;
comment on function data.lock_definitions(tenancy.apps) is 'Until commit, nobody else defines entities of an app, or roles and policies of its site.';

create or replace function data.require_definition(name text, schema jsonb) returns void
language plpgsql stable set search_path = '' as $$
declare
  _errors jsonb := data.definition_violations(require_definition.schema);
begin
  if _errors <> '[]' then
    perform rowhouse.fail(400,
      format('The schema of %s is not valid: %s', require_definition.name,
      concat_ws(' ', nullif(_errors #>> '{0,pointer}', ''), _errors #>> '{0,message}')),
      'errors lists every problem by JSON pointer into the schema.', 'invalid_schema', _errors);
  end if;
end
$$;
comment on function data.require_definition(text, jsonb) is 'Raises RH400 with every problem of a schema that cannot define an entity.';

-- Gateways hear of it when the transaction commits.
create or replace function data.publish_definition(app_id uuid) returns void
language plpgsql set search_path = '' as $$
begin
  perform data.refuse_collisions(publish_definition.app_id);
  perform data.refuse_broken_rollups(publish_definition.app_id);
  update tenancy.apps a set definition_version = nextval('tenancy.definition_versions') where a.id = publish_definition.app_id;
end
$$;
comment on function data.publish_definition(uuid) is 'Gives an app a new definition version, when its names do not collide (RH400) and its rollups find what they need (RH409).';

drop function if exists data.refuse_loss(data.entities, jsonb), data.refuse_misfits(data.entities, text),
  data.backfill_defaults(data.entities, text, jsonb);
create or replace function data.refuse_loss(old data.entities, changes jsonb) returns void
language plpgsql set search_path = '' as $$
declare
  _errors jsonb;
begin
  select jsonb_agg(jsonb_build_object('pointer', coalesce('/properties/' || (c->>'field'), '/' || (c->>'option')),
    'message', case c->>'change'
    when 'option' then c->>'message'
    when 'drop' then 'was removed: its values would be lost'
    when 'keyword' then 'was written by clients and would be computed: those values would be lost'
    else format('was %s and would become %s', c->>'from', c->>'to') end))
  into _errors
  from jsonb_array_elements(changes) c
  where c->>'change' in ('drop', 'convert')
    and not coalesce(old.schema->'properties'->(c->>'field') ?| array['x-computed', 'x-alias'], false)
    or c->>'change' in ('keyword', 'option') and (c->>'loses_data')::boolean;
  if _errors is not null then
    perform rowhouse.fail(409,
      format('This definition of %s would lose data: %s %s', old.name, _errors #>> '{0,pointer}', _errors #>> '{0,message}'),
      'Keep every property with its type and add new ones beside it, or give a new name with "x-renamed-from"; data.plan(entity, schema) shows what would happen, data.apply(plan) does it.',
      'would_lose_data', _errors);
  end if;
end
$$;
comment on function data.refuse_loss(data.entities, jsonb) is 'Raises RH409 when changes drop a property, change its type or compute what clients wrote.';

create or replace function data.misfits(entity data.entities, schema_name text, since xid8 default null) returns jsonb
language plpgsql stable set search_path = '' as $$
declare
  _errors jsonb;
begin
  execute format('select jsonb_agg(e) from (select e || jsonb_build_object(''id'', t.id) as e
    from %s t, jsonb_array_elements(%I.%I(%s)) e where $1 is null or age(t.xmin) <= age($1::xid) limit 20) x',
    data.storage_table(entity, schema_name), schema_name, entity.name || '_violations',
    data.computed_call(entity, schema_name, data.upgraded_source(entity, 't'))) into _errors using misfits.since;
  return _errors;
end
$$;
comment on function data.misfits(data.entities, text, xid8) is
  'Up to 20 violations of an entity''s definition by its stored records, or by those that transaction since and later ones wrote, as [{id, pointer, message}], or null.';

create or replace function data.refuse_misfits(entity data.entities, errors jsonb) returns void
language plpgsql set search_path = '' as $$
begin
  if errors is not null then
    perform rowhouse.fail(409, format('Existing records of %s do not fit this definition: %s %s in record %s', entity.name,
      errors #>> '{0,pointer}', errors #>> '{0,message}', errors #>> '{0,id}'),
      'errors lists up to 20 of them. Change the records first, or give the property a default.', 'records_do_not_fit', errors);
  end if;
end
$$;
comment on function data.refuse_misfits(data.entities, jsonb) is 'Raises RH409 with offenders when existing records violate the new definition.';

create or replace function data.drop_front(entity data.entities, schema_name text) returns void
language plpgsql set search_path = '' as $$
begin
  perform access.drop_share_views(entity);
  perform data.drop_kept_front(entity, schema_name);
  perform data.drop_write_functions(entity, schema_name);
  perform data.drop_batch_functions(entity, schema_name);
  perform data.drop_link_views(entity, schema_name);
  perform access.drop_seen_views(entity, drop_front.schema_name);
  execute format('drop view if exists %I.%I', schema_name, entity.name);
  perform data.drop_rollups(entity, schema_name);
  perform data.drop_policies(data.storage_table(entity, schema_name));
end
$$;
comment on function data.drop_front(data.entities, text) is
  'Drops an entity''s view, write functions and the policies of its storage; data.build_entity makes them anew.';

create or replace function data.build_entity(entity data.entities, schema_name text) returns void
language plpgsql set search_path = '' as $$
begin
  perform data.drop_front(entity, schema_name);
  perform access.guard(entity, data.storage_table(entity, schema_name));
  perform data.build_front(entity, schema_name);
end
$$;
comment on function data.build_entity(data.entities, text) is
  'Builds what stands before an entity''s storage (upgrade, write rule, search, view, write functions) from data.fields and data.relations.';

create or replace function data.build_front(entity data.entities, schema_name text) returns void
language plpgsql set search_path = '' as $$
begin
  perform data.build_upgrade(entity, schema_name);
  perform data.build_make_room(entity, schema_name);
  perform data.build_write_rule(entity, schema_name);
  perform data.build_search(entity, schema_name);
  perform data.build_link_rule(entity, schema_name);
  perform data.build_link_views(entity, schema_name);
  perform data.build_rollups(entity, schema_name);
  perform data.build_view(entity, schema_name);
  perform data.build_write_functions(entity, schema_name);
  perform data.build_batch_functions(entity, schema_name);
  perform data.build_change_counter(entity, schema_name);
  perform data.build_kept(entity, schema_name);
  perform audit.build(entity, schema_name);
  perform access.build_shares(entity.id);
end
$$;
comment on function data.build_front(data.entities, text) is
  'Builds or replaces what stands before an entity''s storage (upgrade, write rule, search, view, write functions, kept records). Without dropping it first, where the columns stay the same: a statement that has begun does not find its view gone.';

create or replace function data.definition_violations(schema jsonb) returns jsonb
language sql stable set search_path = '' as $$
  select case when d <> '[]' then d
    else data.expression_violations(definition_violations.schema) || data.unique_violations(definition_violations.schema) end
  from (select case when e <> '[]' then e
    when data.kind(definition_violations.schema) is distinct from 'object'
      or jsonb_typeof(definition_violations.schema->'properties') is distinct from 'object'
      then data.violation('', 'must have type object and properties')
    else coalesce((
      select jsonb_agg(jsonb_build_object('pointer', '/properties/' || p.key, 'message', p.message))
      from (
        select k.key, case
          when k.key !~ '^[a-z][a-z0-9]*(_[a-z0-9]+)*$' or length(k.key) > 58
            then 'is not a valid name: up to 58 lower-case letters, digits and single underscores, starting with a letter'
          when k.key = any (data.system_columns()) then 'is a system column that every entity has; choose another name'
          when k.key in ('node_id', 'query', 'client_mutation_id') then 'is a reserved name in GraphQL; choose another name'
          when k.key = 'data' and (k.value ?| array['x-index', 'x-unique', 'x-relation']
            or definition_violations.schema->>'x-storage' = 'flat')
            then 'cannot be indexed, unique, a relation or stored flat: the storage has a column of that name'
          when k.value ?| array['x-index', 'x-unique', 'x-relation'] and not data.is_linked(k.value)
            and data.kind(k.value) in ('array', 'object', 'any') then 'cannot be indexed, unique or a relation: it is no scalar'
            || case when data.kind(k.value) = 'array'
              and k.value ? 'x-relation' then '; a list of related records is {"x-relation": {"entity": "labels", "many": true}}'
              else '' end
        end as message
        from jsonb_each(definition_violations.schema->'properties') k
      ) p where p.message is not null), '[]')
      || case when definition_violations.schema->'additionalProperties' <> 'false' or definition_violations.schema ? 'patternProperties'
        then data.violation(case when definition_violations.schema ? 'patternProperties' then '/patternProperties'
          else '/additionalProperties' end,
          'is not supported: an entity has exactly the properties of its schema') else '[]' end
      || data.search_violations(definition_violations.schema)
      || data.index_violations(definition_violations.schema)
      || data.alias_violations(definition_violations.schema)
      || access.ready_made_violations(definition_violations.schema)
      || data.link_violations(definition_violations.schema)
      || access.mask_violations(definition_violations.schema)
  end
  from (select data.schema_violations(definition_violations.schema) || data.option_violations(definition_violations.schema)) x (e)) y (d)
$$;
comment on function data.definition_violations(jsonb) is 'What is wrong with the schema of an entity: a JSON array of {pointer, message}.';

create or replace function data.drop_entity(entity text, confirm text) returns void
language plpgsql security definer set search_path = '' set client_min_messages = warning as $$
declare
  _entity data.entities := data.require_entity(drop_entity.entity);
  _app tenancy.apps;
  _by text;
begin
  perform access.require_definer(regexp_replace(drop_entity.entity, '/[^/]+$', ''));
  perform tenancy.require_confirmation(_entity.name, drop_entity.confirm);
  select a.* into _app from tenancy.apps a where a.id = _entity.app_id;
  perform data.lock_definitions(_app);
  _entity := data.require_entity(drop_entity.entity); -- as it is by now
  select a.* into _app from tenancy.apps a where a.id = _entity.app_id for update;
  select string_agg(e.name || '.' || r.field, ', ') into _by
  from (select entity_id, field, target_id from data.relations union all select entity_id, field, target_id from data.links) r
  join data.entities e on e.id = r.entity_id
  where r.target_id = _entity.id and r.entity_id <> _entity.id;
  if _by is not null then
    perform rowhouse.fail(409, format('Other entities refer to %s: %s', _entity.name, _by), 'Remove those relations first.',
      'still_referenced');
  end if;
  perform data.end_operation(o, _entity, 'cancelled') from data.operations o
    where o.entity_id = _entity.id and o.state in ('waiting', 'running');
  perform data.drop_search(_entity, _app.schema_name);
  delete from data.relations r where r.entity_id = _entity.id;
  delete from data.links l where l.entity_id = _entity.id;
  delete from data.entities e where e.id = _entity.id;
  perform data.drop_kept_front(_entity, _app.schema_name);
  perform data.drop_write_functions(_entity, _app.schema_name);
  perform data.drop_batch_functions(_entity, _app.schema_name);
  perform access.drop_seen_views(_entity, _app.schema_name);
  perform access.drop_share_views(_entity);
  execute format('drop view %I.%I', _app.schema_name, _entity.name);
  perform data.drop_rollups(_entity, _app.schema_name);
  perform data.drop_links(_entity, _app.schema_name);
  execute format('drop table %s', data.storage_table(_entity, _app.schema_name));
  perform data.refuse_broken_rollups(_app.id);
  perform data.drop_kept(_entity, _app.schema_name);
  perform data.drop_write_rule(_entity, _app.schema_name);
  perform access.drop_rights(_entity);
  execute format('drop function if exists %I.%I()', _app.schema_name, _entity.name || '_note_changes');
  update tenancy.apps a set definition_version = nextval('tenancy.definition_versions') where a.id = _app.id;
end
$$;
comment on function data.drop_entity(text, text) is
  'Drops an entity (acme/crm/contacts) with all its records; confirm must repeat the entity''s name. Site owners and admins only. RH400, RH403, RH404, RH409 other entities refer to it.';
