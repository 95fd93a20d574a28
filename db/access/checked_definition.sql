-- A definition that is tried on stored records tells its author about them: by being refused or accepted, by offenders, by what a
-- worker notes. So it is for who reads all these records, and sees in full whatever of them is tried. That depends on the definition
-- and on rights only: it is asked before a record is read.

create or replace function access.reads_all(entity data.entities) returns boolean
language sql stable set search_path = '' as $$
  select access.administers((entity).site_id) or case when access.is_special(entity) then access.sees_all((entity).id)
    else access.allows((entity).site_id, access.entity_path(entity), 'read') end
$$;
comment on function access.reads_all(data.entities) is
  'Whether the caller administers the site or may read every record of an entity, whatever it holds.';

create or replace function access.sees_whole(entity_id uuid) returns boolean
language sql stable security definer set search_path = '' as $$
  select coalesce((
    select access.administers(e.site_id) or access.reads_all(e) and access.unseen(e.id) = '{}'
    from data.entities e where e.id = sees_whole.entity_id and tenancy.knows_site(e.site_id)), false)
$$;
comment on function access.sees_whole(uuid) is
  'Whether the caller may read every record of an entity with every field of it in full; false where they do not know the entity.';

-- What a change of one of them makes to be tried again for all.
create or replace function access.tried_together(entity data.entities) returns table (names text[], said jsonb, is_timed boolean)
language sql stable set search_path = '' as $$
  with meaning (fields) as materialized (
    select data.all_fields(entity.schema, data.data_columns(entity.schema, 'x'))
    where entity.schema ? 'x-rules' or data.computed_names(entity.schema) <> '{}'
  ), part (names, said, is_timed) as (
    select data.expression_names(t.tree), r->'rule', data.uses_now(t.tree, m.fields)
    from meaning m, jsonb_array_elements(coalesce(entity.schema->'x-rules', '[]')) r,
      lateral (select data.parse_expression(r->>'rule')) t (tree)
    union all
    select array[c], null, data.uses_now(data.parse_expression(data.computed_expression(entity.schema->'properties'->c)), m.fields)
    from meaning m, unnest(data.computed_names(entity.schema)) c
    union all
    select s.fields, to_jsonb(s.fields), false from data.unique_sets(entity.schema) s
    union all
    select array(select jsonb_object_keys(entity.schema->'properties')), null, false
    where entity.schema ?| array['allOf', 'anyOf', 'oneOf', 'not', 'if', '$ref', 'dependentRequired', 'dependentSchemas', 'propertyNames',
      'minProperties', 'maxProperties', 'patternProperties', 'unevaluatedProperties', 'enum', 'const']
  )
  select array(select distinct b from unnest(p.names) n, unnest(access.bases(entity, n) || n) b), p.said, p.is_timed from part p
$$;
comment on function access.tried_together(data.entities) is
  'The fields that one rule, list of unique properties, computed property or combination of a definition reads, with what those are '
  'computed from, how it is said, and whether it changes with time.';

-- An index on a text refuses what is longer than 2,704 bytes, and how large one with a condition is tells how many fulfil it.
create or replace function access.indexed_by_value(old jsonb, schema jsonb) returns text[]
language sql immutable set search_path = '' as $$
  with indexed (name, is_compared) as (
    select p.key, false from jsonb_each(indexed_by_value.schema->'properties') p
    where p.value->'x-index' = 'true' and old->'properties'->p.key->'x-index' is distinct from 'true'
    union all
    select f.name, f.is_compared
    from jsonb_array_elements(coalesce(indexed_by_value.schema->'x-indexes', '[]')) i,
      lateral (select unnest(data.index_fields(i)), false union all select unnest(data.filter_fields(i->'where')), true) f (name, is_compared)
    where not exists (select from jsonb_array_elements(old->'x-indexes') o where o = i)
  )
  select array(select distinct i.name from indexed i
    where i.is_compared
      or data.kind(indexed_by_value.schema->'properties'->i.name) not in ('integer', 'number', 'boolean', 'date', 'date-time', 'uuid'))
$$;
comment on function access.indexed_by_value(jsonb, jsonb) is
  'The fields whose values decide whether the new indexes of a schema can be built, or how large they are.';

drop function if exists access.checked_fields(data.entities, jsonb, jsonb, jsonb);
create or replace function access.checked_fields(old data.entities, schema jsonb, renames jsonb, changes jsonb)
returns table (field text, was text)
language sql stable set search_path = '' as $$
  with change as materialized (
    select c->>'change' as what, c->>'field' as name, c->>'keyword' as keyword, c->>'option' as option, (c->>'checks')::boolean as checks, c
    from jsonb_array_elements(changes) c
  ), definition (entity) as materialized (
    select jsonb_populate_record(old, jsonb_build_object('schema', checked_fields.schema))
  ), tried (name) as (
    select c.name from change c where c.checks and c.name is not null
    union
    select unnest(data.expression_names(data.parse_expression(c.c->>'back'))) from change c where c.c ? 'back'
    union
    select unnest(s.names) from definition d, access.tried_together(d.entity) s
    where s.is_timed and exists (select from change c where c.checks)
      or s.said is not null and not exists (select from access.tried_together(old) o where o.said = s.said)
      or exists (select from change c where c.name = any (s.names)
        and (c.what in ('convert', 'restore') or c.what = 'require' and c.c ? 'default' or c.keyword = 'x-computed'))
    union
    select jsonb_object_keys(checked_fields.schema->'properties') from change c
    where c.checks and c.option is not null and c.option not in ('x-rules', 'x-unique')
    union
    select unnest(access.indexed_by_value(old.schema, checked_fields.schema))
    union
    select 'expires_at' where checked_fields.schema ? 'x-ttl'
      and (checked_fields.schema->'x-ttl' is distinct from old.schema->'x-ttl' or renames ? 'expires_at')
  ), read (name) as (
    select distinct n from tried t, definition d, unnest(access.bases(d.entity, t.name) || t.name) n
  )
  select r.name, w.name from read r, lateral (select coalesce(renames->>r.name, r.name)) w (name)
  where old.schema->'properties' ? w.name
    and (renames ? r.name or not exists (select from jsonb_each_text(renames) o where o.value = r.name))
  union
  -- Read as the record was, by the names of before.
  select n, n from change c, unnest(data.expression_names(data.parse_expression(c.c->>'expression'))) n
  where c.c ? 'expression' and old.schema->'properties' ? n
  union
  select c.name, null from change c where c.what = 'restore'
$$;
comment on function access.checked_fields(data.entities, jsonb, jsonb, jsonb) is
  'The fields of stored records that another definition of an entity is tried on, each with what it was called; null for what comes back.';

-- What is gone has no rules by which it is shown.
create or replace function access.restored_unseen(entity data.entities, change jsonb) returns boolean
language sql stable set search_path = '' as $$
  select access.default_mask(p.value) is not null
    or exists (select from access.rules r where r.entity_id = (entity).id and r.action = 'read' and r.fields is not null)
  from data.entity_versions v, lateral (select v.schema->'properties'->(change->>'from')) p (value)
  where v.entity_id = (entity).id and v.version = (change->>'version')::int - 1
$$;
comment on function access.restored_unseen(data.entities, jsonb) is
  'Whether some may not see the values that a change brings back ({change: restore, from, version}).';

create or replace function access.refuse_checking(entity data.entities, fields text[], why text) returns void
language sql set search_path = '' as $$
  select rowhouse.fail(403, format('This definition is tried on the records of %s, and you %s', access.entity_path(entity), why),
    'Ask an owner or admin of the site, or somebody with @entities:define who reads every record and sees these fields in full. '
      'What is tried on no record is yours: an optional property, another name, an index on numbers or dates, a limit that is loosened.',
    case when fields = '{}' then 'forbidden' else 'field_not_seen' end,
    coalesce((select jsonb_agg(jsonb_build_object('pointer', '/properties/' || data.pointer_part(f),
      'message', 'is masked or hidden for you') order by f) from unnest(fields) f), '[]'))
$$;
comment on function access.refuse_checking(data.entities, text[], text) is
  'Raises RH403 for a definition whose author does not see what it is tried on: field_not_seen, or forbidden where no field is named.';

-- What a field refers to may be found out by writing it, however few the records are.
create or replace function access.refuse_unseen_targets(old data.entities, schema jsonb, renames jsonb, changes jsonb) returns void
language plpgsql stable set search_path = '' as $$
declare
  _relation record;
begin
  if access.administers(old.site_id) then
    return;
  end if;
  for _relation in
    select t as target, p.key as field, coalesce(p.value #>> '{x-relation,field}', 'id') as target_field, exists (
        select from jsonb_array_elements(changes) c
        where c->>'field' = p.key and (c->>'change' in ('convert', 'restore') or c->>'change' = 'require' and c ? 'default'
          or c->>'keyword' = 'x-relation')) as is_checked,
      p.value->'x-relation' is distinct from old.schema #> array['properties', coalesce(renames->>p.key, p.key), 'x-relation'] as is_new
    from jsonb_each(refuse_unseen_targets.schema->'properties') p
    join data.entities t on t.app_id = old.app_id and t.name = p.value #>> '{x-relation,entity}'
    order by p.key
  loop
    if _relation.is_new and _relation.target_field = any (access.unseen((_relation.target).id)) then
      perform access.refuse_checking(_relation.target, array[_relation.field], format('do not see %s in full there, to which %s would refer',
        _relation.target_field, _relation.field));
    elsif (_relation.is_checked or _relation.is_new and _relation.target_field <> 'id') and not access.reads_all(_relation.target) then
      perform access.refuse_checking(_relation.target, '{}', format('do not read all of those to which %s refers', _relation.field));
    end if;
  end loop;
end
$$;
comment on function access.refuse_unseen_targets(data.entities, jsonb, jsonb, jsonb) is
  'Raises RH403 when a definition makes a relation to a field that its author does not see in full, or tries one on records of which '
  'they do not read all.';

create or replace function access.require_checkable(old data.entities, schema jsonb, renames jsonb, changes jsonb) returns void
language plpgsql stable set search_path = '' as $$
declare
  _names text;
  _fields text[];
begin
  if access.administers(old.site_id) then
    return;
  end if;
  renames := coalesce(renames, '{}');
  perform access.refuse_unseen_targets(old, require_checkable.schema, renames, changes);
  if not exists (select from access.checked_fields(old, require_checkable.schema, renames, changes)) or not data.has_records(old) then
    return;
  elsif not access.reads_all(old) then
    perform access.refuse_checking(old, '{}', 'do not read all of them');
  end if;
  select array_agg(c.field order by c.field), string_agg(c.field, ', ' order by c.field) into _fields, _names
  from access.checked_fields(old, require_checkable.schema, renames, changes) c
  where c.was = any (access.unseen(old.id)) or c.was is null and exists (
    select from jsonb_array_elements(changes) x
    where x->>'change' = 'restore' and x->>'field' = c.field and access.restored_unseen(old, x));
  if _fields is not null then
    perform access.refuse_checking(old, _fields, format('do not see %s in full', _names));
  end if;
end
$$;
comment on function access.require_checkable(data.entities, jsonb, jsonb, jsonb) is
  'Raises RH403 when another definition of an entity would be tried on records that the caller does not read, or on fields that they do '
  'not see in full: the same whatever the records hold. For everybody but owners and admins; an entity without records is anyone''s to define.';
