-- Going back is a definition like any other: the schema of a former version, with what became of each of its fields since.

create or replace function data.trace_field(entity data.entities, version int, field text) returns jsonb
language plpgsql stable set search_path = '' as $$
declare
  _name text := trace_field.field;
  _dropped jsonb;
  _converted jsonb;
  _before text;
  _v record;
begin
  for _v in
    select v.version, t.value as t, p.schema as schema_before, v.schema as schema_after
    from data.entity_versions v
    join data.entity_versions p on p.entity_id = v.entity_id and p.version = v.version - 1,
      jsonb_array_elements(v.transforms) with ordinality t (value, n)
    where v.entity_id = entity.id and v.version > trace_field.version and t.value->>'op' in ('drop', 'rename', 'restore', 'convert')
    order by v.version, t.n
  loop
    if _v.t->>'op' = 'drop' and _v.t->>'field' = _name then
      _dropped := jsonb_build_object('from', _name, 'version', _v.version, 'kind', data.kind(_v.schema_before->'properties'->_name));
      _name := null;
    elsif _v.t->>'op' = 'rename' and _v.t->>'from' = _name then
      _name := _v.t->>'to';
    elsif _v.t ? 'expression' and _v.t->>'field' = _name then
      _before := coalesce((select r->>'from' from data.entity_versions x, jsonb_array_elements(x.transforms) r
        where x.entity_id = entity.id and x.version = _v.version and r->>'op' = 'rename' and r->>'to' = _name), _name);
      _converted := jsonb_build_object('version', _v.version, 'back', _v.schema_after->'properties'->_name->'x-convert-back',
        'before', jsonb_build_array(_v.t->'from', _v.schema_before->'properties'->_before->'x-convert'));
    elsif _v.t->>'op' = 'restore' and _v.t->'from' = _dropped->'from' and _v.t->'version' = _dropped->'version' then
      _name := _v.t->>'field';
      _dropped := null;
    end if;
  end loop;
  return jsonb_strip_nulls(jsonb_build_object('name', _name, 'dropped', _dropped))
    || case when _name is null or _converted is null then '{}' else jsonb_build_object('converted', _converted) end;
end
$$;
comment on function data.trace_field(data.entities, int, text) is
  'What became of a field that an entity had at a version: {"name": what it is called now} or {"dropped": {from, version, kind}}; and {"converted": {version, back, before: [kind, x-convert]}} for the last conversion by an expression.';

create or replace function data.plan_rollback(entity text, version int) returns jsonb
language plpgsql security definer set search_path = '' set client_min_messages = warning as $$
declare
  _old data.entities := data.require_entity_for_change(plan_rollback.entity);
  _target data.entity_versions;
  _renames jsonb;
  _restores jsonb;
  _backs jsonb;
  _far text;
begin
  select v.* into _target from data.entity_versions v where v.entity_id = _old.id and v.version = plan_rollback.version;
  if _target.entity_id is null or _target.version = _old.version then
    perform rowhouse.fail(404, format('%s has no former version %s', _old.name, plan_rollback.version),
      format('select version, created_at, schema from data.entity_versions lists them; it has version %s now.', _old.version), 'not_found');
  end if;
  select coalesce(jsonb_object_agg(k, t->'name') filter (where t->>'name' <> k), '{}'),
    coalesce(jsonb_object_agg(k, t->'dropped') filter (where t ? 'dropped'), '{}'),
    coalesce(jsonb_object_agg(k, t #> '{converted,back}') filter (where jsonb_typeof(t #> '{converted,back}') = 'string'), '{}'),
    min(k) filter (where t #> '{converted,before}' <> jsonb_build_array(data.kind(p), p->'x-convert'))
  into _renames, _restores, _backs, _far
  from jsonb_each(_target.schema->'properties') x (k, p), lateral data.trace_field(_old, plan_rollback.version, k) t;
  if _far is not null then
    perform rowhouse.fail(409, format('%s was converted by an expression more than once since version %s', _far, plan_rollback.version),
      'Roll back one conversion after the other: data.rollback(entity, version) to the version before each.', 'rollback_in_steps');
  end if;
  -- A definition of before may say another storage than the one that the records are in by now.
  if _target.schema ? 'x-storage' then
    _target.schema := _target.schema || jsonb_build_object('x-storage', _old.storage);
  end if;
  return data.save_plan(plan_rollback.entity, _old, _target.schema, _renames,
    data.schema_changes(_old, _target.schema, _renames, _restores, _backs));
end
$$;
comment on function data.plan_rollback(text, int) is
  'A plan like data.plan''s that takes an entity back to a former version: names, kinds and dropped values come back, fields added since go. Owners, admins and @entities:define. RH403, RH404.';

create or replace function data.rollback(entity text, version int) returns data.entities
language plpgsql security definer set search_path = '' as $$
begin
  return data.apply((data.plan_rollback(rollback.entity, rollback.version)->>'plan')::uuid, allow_loss => true);
end
$$;
comment on function data.rollback(text, int) is
  'Takes an entity back to a former version, as a new version. Values of fields added since are kept until data.compact, so that one can go forward again. Owners, admins and @entities:define. RH403; RH404; RH409 when records do not fit the former version.';
