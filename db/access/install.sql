-- Putting what was compiled into effect.

drop function if exists access.policy_predicates(data.entities);
create or replace function access.policy_predicates(entity data.entities, parts jsonb default null) returns jsonb
language plpgsql stable set search_path = '' as $$
declare
  _alias text := quote_ident(data.storage_name(entity));
  _path text := access.entity_path(entity);
  _parts jsonb := coalesce(policy_predicates.parts, access.parts(entity));
  _read text := access.row_predicate(entity, 'read', _alias, false, _parts);
  _update text := access.row_predicate(entity, 'update', _alias, true, _parts);
  _out jsonb := jsonb_build_object(
    'may_read', jsonb_build_object('for', 'select', 'using', _read || coalesce(' and ' || data.alive_condition(entity, _alias), '')),
    'may_create', jsonb_build_object('for', 'insert', 'check', access.row_predicate(entity, 'create', _alias, true, _parts)),
    'may_update', jsonb_build_object('for', 'update', 'using', _update),
    'may_delete', jsonb_build_object('for', 'delete', 'using', access.row_predicate(entity, 'delete', _alias, true, _parts)));
begin
  if not access.is_special(entity) then
    return _out;
  end if;
  -- What is written must be one's own to write, and a change must not take a record out of its writer's sight.
  return jsonb_set(jsonb_set(_out,
    '{may_create,check}', to_jsonb(format('case when %s then true else access.refuse_row(%L, ''create'') end',
      _out #>> '{may_create,check}', _path))),
    '{may_update,check}', to_jsonb(format('case when (%s) and (%s) then true else access.refuse_row(%L, ''update'') end',
      access.row_predicate(entity, 'update', _alias, false, _parts), _read, _path)));
end
$$;
comment on function access.policy_predicates(data.entities, jsonb) is
  'The row-level security of an entity''s storage: {policy: {"for", "using", "check"}} as SQL; parts is access.parts, where it is known.';

create or replace function access.installed_predicates(entity_id uuid) returns jsonb
language sql stable set search_path = '' as $$
  select i.predicates from access.installed i where i.entity_id = installed_predicates.entity_id
$$;
comment on function access.installed_predicates(uuid) is 'The row-level security that an entity''s storage has, as access.policy_predicates gave it; null where none was installed yet.';

drop function if exists access.build_policies(data.entities, text);
create or replace function access.build_policies(entity data.entities, table_name text, predicates jsonb) returns void
language plpgsql set search_path = '' as $$
declare
  _p record;
begin
  perform data.drop_policies(build_policies.table_name);
  for _p in
    select key as name, value->>'for' as command, value->>'using' as visible, value->>'check' as writable
    from jsonb_each(build_policies.predicates)
  loop
    execute format('create policy %I on %s for %s to rowhouse_data%s%s', _p.name, build_policies.table_name, _p.command,
      coalesce(' using (' || _p.visible || ')', ''), coalesce(' with check (' || _p.writable || ')', ''));
  end loop;
  perform data.build_sees(entity, (select a.schema_name from tenancy.apps a where a.id = entity.app_id));
  insert into access.installed as i (entity_id, predicates) values (entity.id, build_policies.predicates)
  on conflict (entity_id) do update set predicates = excluded.predicates;
end
$$;
comment on function access.build_policies(data.entities, text, jsonb) is
  'Installs the row-level security of an entity''s storage (access.policy_predicates); nobody else may use the table at that time.';

-- Everything an entity''s storage is guarded by, from the roles and policies there are; while it is defined.
create or replace function access.guard(entity data.entities, table_name text) returns void
language plpgsql set search_path = '' as $$
declare
  _parts jsonb;
begin
  perform access.save_ready_made(entity);
  perform access.refuse_lost_denials(entity);
  perform access.save_rules(entity);
  if access.is_special(entity) then
    _parts := access.parts(entity);
    perform access.build_rights(entity, _parts);
    perform access.build_unseen(entity);
  end if;
  perform access.build_policies(entity, guard.table_name, access.policy_predicates(entity, _parts));
  if not access.is_special(entity) and to_regprocedure(access.rights_function(entity) || '(text, int)') is not null then
    perform data.release_kept(entity, a.schema_name) from tenancy.apps a where a.id = entity.app_id;
    perform access.drop_rights(entity);
  end if;
end
$$;
comment on function access.guard(data.entities, text) is 'Compiles the rules of an entity and installs them, on a storage that is being built.';

create or replace function access.compile_entity(entity_id uuid) returns void
language plpgsql set search_path = '' set client_min_messages = warning as $$
declare
  _entity data.entities;
  _schema_name name;
  _before boolean;
  _front text;
  _parts jsonb;
  _predicates jsonb;
begin
  select e.* into _entity from data.entities e where e.id = compile_entity.entity_id for no key update;
  if not found then
    return; -- it was dropped meanwhile
  end if;
  select a.schema_name into _schema_name from tenancy.apps a where a.id = _entity.app_id;
  _before := to_regprocedure(access.rights_function(_entity) || '(text, int)') is not null;
  _front := access.front_sql(_entity);
  perform access.save_rules(_entity);
  if access.is_special(_entity) then
    _parts := access.parts(_entity);
    perform access.build_rights(_entity, _parts);
    perform access.build_unseen(_entity);
  end if;
  _predicates := access.policy_predicates(_entity, _parts);
  if access.installed_predicates(_entity.id) is distinct from _predicates then
    perform data.lock_tables(array[data.storage_table(_entity, _schema_name)]);
    perform access.build_policies(_entity, data.storage_table(_entity, _schema_name), _predicates);
    if data.keeps_records(_entity.schema) then
      perform data.build_kept(_entity, _schema_name); -- under the same predicates
    end if;
  end if;
  if _front <> access.front_sql(_entity) then
    perform data.build_front(_entity, _schema_name);
    update tenancy.apps a set definition_version = nextval('tenancy.definition_versions') where a.id = _entity.app_id;
  end if;
  if _before and not access.is_special(_entity) then
    perform access.drop_rights(_entity);
  end if;
end
$$;
comment on function access.compile_entity(uuid) is
  'Puts the roles and policies of a site into effect for one entity. Mostly that replaces a function; where conditions on records change, the storage is locked for as long as a catalog update takes, in bursts of 100 ms. RH409 a condition that does not fit, RH503 busy.';

create or replace function access.compile_entities(entity_ids uuid[]) returns void
language sql set search_path = '' as $$
  select access.compile_entity(e.id) from data.entities e where e.id = any (compile_entities.entity_ids) order by e.id
$$;
comment on function access.compile_entities(uuid[]) is 'Puts the roles and policies of a site into effect for entities.';

create or replace function access.concerned_entities(role_ids uuid[]) returns uuid[]
language sql stable set search_path = '' as $$
  select coalesce(array_agg(distinct e.id), '{}')
  from access.permissions p
  join tenancy.apps a on a.site_id = p.site_id
  join data.entities e on e.app_id = a.id
  where p.role_id = any (concerned_entities.role_ids) and p.entity = any (access.patterns(a.name || '/' || e.name))
    and (not p.is_plain or p.fields is not null and access.protects_fields(e.schema))
$$;
comment on function access.concerned_entities(uuid[]) is 'The entities for which permissions of roles have to be compiled, because they depend on something.';

-- Nobody shares it: of two that had defined an entity each, and went on to a policy, neither could. What it waits for may wait for
-- what this transaction holds from before: then one of the two is told, and the other goes on.
drop function if exists access.lock_model(uuid, boolean);
create or replace function access.lock_model(site_id uuid) returns void
language plpgsql set search_path = '' as $$
begin
  perform pg_advisory_xact_lock(hashtextextended('access.define/' || lock_model.site_id, 0));
exception when deadlock_detected or lock_not_available then
  perform rowhouse.fail(503, 'Somebody else is defining entities, roles or policies of this site',
    'Nothing of this transaction was kept: try it again in a moment.', 'busy');
end
$$;
comment on function access.lock_model(uuid) is
  'Until commit, nobody else defines entities, roles and policies of a site. RH503 when lock_timeout ends the waiting, or another transaction waits for this one.';
