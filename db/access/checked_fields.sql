-- What of stored records a definition is tried on (checked_definition.sql asks who sees it), by what schema_changes says is checked and
-- by what decides besides whether it can be done.

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
      lateral (
        select unnest(data.index_fields(i)), false union all select unnest(data.filter_fields(i->'where')), true) f (name, is_compared)
    where not exists (select from jsonb_array_elements(old->'x-indexes') o where o = i)
  )
  select array(select distinct i.name from indexed i
    where i.is_compared
      or data.kind(indexed_by_value.schema->'properties'->i.name) not in ('integer', 'number', 'boolean', 'date', 'date-time', 'uuid'))
$$;
comment on function access.indexed_by_value(jsonb, jsonb) is
  'The fields whose values decide whether the new indexes of a schema can be built, or how large they are.';

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
  -- What is new has no values, or those of before it was dropped; who fits it not is told by id.
  select c.name, null from change c where c.checks and c.name is not null and not checked_fields.schema->'properties'->c.name ? 'x-rollup'
$$;
comment on function access.checked_fields(data.entities, jsonb, jsonb, jsonb) is
  'The fields of stored records that another definition of an entity is tried on, each with what it was called; null for what is new or '
  'comes back.';

-- What is gone has no rules by which it is shown.
create or replace function access.restored_unseen(entity data.entities, change jsonb) returns boolean
language sql stable set search_path = '' as $$
  select access.default_mask(p.value) is not null and not access.unmasks(entity, change->>'from')
    or exists (select from access.rules r where r.entity_id = (entity).id and r.action = 'read'
      and (r.fields ?| array['readable', 'masked'] or r.effect = 'deny' and r.fields is not null))
  from data.entity_versions v, lateral (select v.schema->'properties'->(change->>'from')) p (value)
  where v.entity_id = (entity).id and v.version = (change->>'version')::int - 1
$$;
comment on function access.restored_unseen(data.entities, jsonb) is
  'Whether some may not see the values that a change brings back ({change: restore, from, version}).';
