create or replace function data.plan(entity text, schema jsonb) returns jsonb
language plpgsql security definer set search_path = '' set client_min_messages = warning as $$
declare
  _old data.entities := data.require_entity_for_change(plan.entity);
  _renames jsonb;
  _changes jsonb;
begin
  plan.schema := data.resolved_schema(data.with_options(plan.schema));
  perform data.require_definition(_old.name, plan.schema);
  if plan.schema->>'x-storage' <> _old.storage then
    perform data.refuse_storage(_old);
  end if;
  _renames := data.schema_renames(_old.schema, plan.schema);
  _changes := data.schema_changes(_old, plan.schema, _renames);
  return data.save_plan(plan.entity, _old, plan.schema, _renames, _changes);
end
$$;
comment on function data.plan(text, jsonb) is
  'What giving an entity (acme/crm/contacts) a new schema would do, without doing it: {"plan" (its id), "version", "changes", "statements", "deferred" (what a worker does afterwards while everybody goes on: building indexes, validating foreign keys), "locks", "records", "rewrites", "loses_data", "losses", "offenders", "dependents"}. A property with "x-renamed-from" continues another; "x-convert" says how its values become others. Owners, admins and @entities:define. RH400; RH403, also when it would be tried on records or fields that you do not see; RH404; RH409.';

create or replace function data.require_entity_for_change(entity text) returns data.entities
language plpgsql set search_path = '' as $$
declare
  _app tenancy.apps := access.require_definer(regexp_replace(coalesce(entity, ''), '/[^/]*$', ''));
  _entity data.entities;
begin
  perform data.lock_definitions(_app);
  _entity := data.require_entity(entity);
  return _entity;
end
$$;
comment on function data.require_entity_for_change(text) is
  'The entity named site/app/entity for owners and admins of the site; its app''s definitions cannot change until the transaction ends. RH400, RH403, RH404.';

create or replace function data.refuse_storage(entity data.entities) returns void
language sql set search_path = '' as $$
  select rowhouse.fail(409, format('%s is stored as %s, and a definition does not change that', entity.name, entity.storage),
    'select data.convert_storage(entity, storage) converts it while clients go on.', 'storage_differs',
    data.violation('/x-storage', 'differs from how the entity is stored'))
$$;
comment on function data.refuse_storage(data.entities) is 'Raises RH409 for a schema whose x-storage is not how the entity is stored.';

create or replace function data.save_plan(path text, old data.entities, schema jsonb, renames jsonb, changes jsonb) returns jsonb
language plpgsql set search_path = '' as $$
declare
  _trial jsonb;
  _loses boolean;
  _id uuid;
begin
  perform access.require_checkable(old, save_plan.schema, renames, save_plan.changes);
  perform data.require_conversions(old.schema, save_plan.schema, save_plan.changes);
  _trial := data.try_definition(old, save_plan.schema, renames, save_plan.changes);
  select jsonb_agg(case when l.value is null then c.value
    else c.value || jsonb_build_object('loses_data', true, 'message', format('%s; records whose value would not come back by %s: %s',
      c.value->>'message', coalesce(c.value->>'back', 'the automatic conversion'), l.value->>'records')) end order by c.n)
  into save_plan.changes
  from jsonb_array_elements(save_plan.changes) with ordinality c (value, n)
  left join jsonb_array_elements(_trial->'losses') l on l.value->'field' = c.value->'field' and c.value ? 'expression';
  save_plan.changes := coalesce(save_plan.changes, '[]');
  _loses := exists (select from jsonb_array_elements(save_plan.changes) c where (c->>'loses_data')::boolean);
  insert into data.plans (site_id, entity_id, base_version, base_storage, schema, changes, loses_data, created_by)
  values (old.site_id, old.id, old.version, old.storage, save_plan.schema,
    jsonb_build_object('renames', renames, 'changes', save_plan.changes, 'statements', _trial->'statements'), _loses, auth.account_id())
  returning id into _id;
  return jsonb_build_object('plan', _id, 'entity', path, 'version', old.version + 1, 'storage', old.storage, 'changes', save_plan.changes,
    'loses_data', _loses, 'dependents', data.dependents(old, save_plan.changes)) || _trial;
end
$$;
comment on function data.save_plan(text, data.entities, jsonb, jsonb, jsonb) is 'Keeps a plan and returns it in full.';

-- Definition, functions and checks are really made, in a subtransaction that is taken back: what it says is what happens.
create or replace function data.try_definition(old data.entities, schema jsonb, renames jsonb, changes jsonb) returns jsonb
language plpgsql set search_path = '' as $$
declare
  _schema_name name := (select a.schema_name from tenancy.apps a where a.id = old.app_id);
  _fields data.fields[] := data.fields_of(old.id);
  _entity data.entities;
  _statements text[];
  _deferred text[];
  _offenders jsonb;
  _records bigint;
  _losses jsonb;
  _before text;
  _keeps boolean;
  _fills boolean;
begin
  begin
    if jsonb_path_exists(changes, '$[*] ? (exists (@.expression))') then
      _before := data.keep_upgrade(old, _schema_name);
    end if;
    _entity := data.save_definition(old, try_definition.schema, data.schema_transforms(changes));
    perform data.refuse_collisions(old.app_id);
    _statements := data.storage_statements(_entity, _schema_name, _fields, renames, data.schema_transforms(changes));
    _deferred := data.deferred_statements(_entity, _schema_name, _fields, renames, _statements);
    _keeps := data.keeps_view(_entity, _schema_name, _fields, _statements);
    _fills := data.fills_search(_entity, _schema_name);
    execute format('select count(*) from %s', data.storage_table(old, _schema_name)) into _records;
    if exists (select from jsonb_array_elements(changes) c where (c->>'checks')::boolean) then
      perform data.build_upgrade(_entity, _schema_name);
      perform data.build_violations(_entity, _schema_name);
      _offenders := coalesce(data.misfits(_entity, _schema_name), '[]');
      begin
        _offenders := _offenders || data.key_offenders(_entity, _schema_name, changes, true);
      exception when data_exception then
        -- What is not of its new type is told already, and compares with nothing.
        if _offenders = '[]' then
          raise;
        end if;
      end;
    end if;
    if _before is not null then
      _losses := data.conversion_losses(old, _entity, _schema_name, changes, _before);
    end if;
    raise exception 'taken back' using errcode = 'RH002'; -- 'RH000' would catch every RH error: it names their class
  exception when sqlstate 'RH002' then
    null;
  end;
  return jsonb_build_object('statements', to_jsonb(_statements), 'deferred', to_jsonb(_deferred), 'offenders', coalesce(_offenders, '[]'),
    'losses', coalesce(_losses, '[]'), 'records', _records,
    'rewrites', case when _fills
      or exists (select from unnest(_statements) s where s ~ '^update |alter column .* type ') then _records else 0 end,
    'locks', data.statement_locks(old, _schema_name, _statements, _keeps, _fills));
end
$$;
comment on function data.try_definition(data.entities, jsonb, jsonb, jsonb) is
  'What a definition would do to storage and records: {statements, deferred (what a worker does afterwards), offenders (up to 20 a kind), losses (data.conversion_losses), records, rewrites (records written), locks}.';

drop function if exists data.key_offenders(data.entities, text, jsonb);
create or replace function data.key_offenders(entity data.entities, schema_name text, changes jsonb, tells_values boolean default false)
  returns jsonb
language plpgsql stable set search_path = '' as $$
declare
  _source text := data.computed_call(entity, key_offenders.schema_name, data.upgraded_source(entity, 't'));
  _table text := data.storage_table(entity, schema_name);
  _field record;
  _found jsonb;
  _out jsonb := '[]';
begin
  for _field in
    select f.name, f.is_unique or f.is_building
      and coalesce((f.schema->>'x-unique')::boolean, false) as is_unique, f.sql_type, data.column_value(f, 'r.data') as value,
      case when t.id is not null then data.storage_table(t, key_offenders.schema_name) end as target, r.target_field
    from data.fields f
    left join data.relations r on r.entity_id = f.entity_id and r.field = f.name
    left join data.entities t on t.id = r.target_id
    where f.entity_id = entity.id
      and exists (select from jsonb_array_elements(changes) c where c->>'field' = f.name and c->>'keyword' in ('x-unique', 'x-relation'))
    order by f.name
  loop
    if _field.is_unique then
      execute format($sql$
        select jsonb_agg(jsonb_build_object('pointer', %L, 'id', x.id,
          'message', case when %L then format('is %%s in %%s records', x.v, x.n) else format('is the same in %%s records', x.n) end))
        from (
          select %s as v, count(*) as n, min(r.id::text) as id from (select t.id, %s as data from %s t) r
          group by 1 having count(*) > 1 and %3$s is not null limit 20) x $sql$,
        '/' || _field.name, tells_values, _field.value, _source, _table) into _found;
      _out := _out || coalesce(_found, '[]');
    end if;
    if _field.target is not null then
      execute format('
        select jsonb_agg(jsonb_build_object(''pointer'', %L, ''message'', ''refers to no record'', ''id'', id))
        from (
          select r.id from (select t.id, %s as data from %s t) r
          where %s is not null and not exists (select from %s o where o.%I = %4$s) limit 20) x',
        '/' || _field.name, _source, _table, _field.value, _field.target, _field.target_field) into _found;
      _out := _out || coalesce(_found, '[]');
    end if;
  end loop;
  return _out || data.unique_set_offenders(entity, format('select t.id, %s as data from %s t', _source, _table), changes);
end
$$;
comment on function data.key_offenders(data.entities, text, jsonb, boolean) is
  'Records that break uniqueness or relations that changes ask for, as [{id, pointer, message}], up to 20 each; the values that are not unique only where tells_values.';

drop function if exists data.statement_locks(data.entities, text, text[]), data.statement_locks(data.entities, text, text[], boolean);
create or replace function data.statement_locks(entity data.entities, schema_name text, statements text[], keeps_view boolean,
  fills_search boolean) returns jsonb
language sql stable set search_path = '' as $$
  select jsonb_build_array(
      jsonb_build_object('relation', data.storage_table(entity, schema_name), 'mode', 'ACCESS EXCLUSIVE', 'message', case
        when fills_search or exists (select from unnest(statements) s where s ~ '^update |alter column .* type ')
          then 'nobody reads or writes while every record is written'
        when exists (select from unnest(statements) s
          where s ~ 'create (unique )?index| check \(|foreign key|set not null' and s !~ ' not valid$')
          then 'nobody reads or writes while every record is read once'
        else 'for the moment of a catalog change' end),
      jsonb_build_object('relation', format('%I.%I', schema_name, entity.name), 'mode', 'ACCESS EXCLUSIVE', 'message',
        case when keeps_view then 'the view is replaced where it stands'
          else 'the view is made anew: a statement that has begun may not find it' end))
    || coalesce((select jsonb_agg(jsonb_build_object('relation', t, 'mode', 'SHARE ROW EXCLUSIVE', 'message', 'a foreign key refers to it'))
      from (select distinct substring(s from ' references (\S+) ') from unnest(statements) s where s ~ ' references ') x (t)), '[]')
$$;
comment on function data.statement_locks(data.entities, text, text[], boolean, boolean) is 'Which locks a definition takes, as [{relation, mode, message}]. Each is tried for 100 ms at a time.';

create or replace function data.dependents(entity data.entities, changes jsonb) returns jsonb
language sql stable set search_path = '' as $$
  select coalesce(jsonb_agg(jsonb_build_object('kind', d.kind, 'name', d.name, 'message', d.message) order by d.kind, d.name), '[]')
  from (
    select 'relation', e.name || '.' || r.field, format('refers to %s.%s', entity.name, r.target_field)
    from data.relations r join data.entities e on e.id = r.entity_id where r.target_id = entity.id
    union all
    select 'relation', e.name || '.' || l.field, format('links to %s', entity.name)
    from data.links l join data.entities e on e.id = l.entity_id where l.target_id = entity.id
    union all
    select 'role', o.name, format('may %s', string_agg(p.action, ', ' order by p.action))
    from access.permissions p join access.roles o on o.id = p.role_id join tenancy.apps a on a.id = entity.app_id
    where p.site_id = entity.site_id and p.entity = any (access.patterns(a.name || '/' || entity.name)) group by o.name
    union all
    select 'policy', access.policy_path(p), format('%ss %s%s', p.effect, array_to_string(p.actions, ', '),
      coalesce(' by ' || (select string_agg(distinct f, ', ') from unnest(access.condition_fields(p.condition)) f), ''))
    from tenancy.apps a, access.effective_policies(entity.site_id, a.name || '/' || entity.name) p where a.id = entity.app_id
    union all
    select 'view', v.oid::regclass::text, 'is a view over this entity; drop it first'
    from pg_catalog.pg_depend d join pg_catalog.pg_rewrite w on w.oid = d.objid join pg_catalog.pg_class v on v.oid = w.ev_class
    where d.classid = 'pg_catalog.pg_rewrite'::regclass
      and d.refobjid = to_regclass(format('%I.%I', (select a.schema_name from tenancy.apps a where a.id = entity.app_id), entity.name))
      and v.oid <> d.refobjid
    group by v.oid
  ) d (kind, name, message)
$$;
comment on function data.dependents(data.entities, jsonb) is 'Who depends on an entity: relations that refer to it, roles and policies about it, views over it, as [{kind, name, message}].';
