-- What a new schema changes about an entity, in words that people read and as transforms that records go through.

create or replace function data.schema_renames(old jsonb, new jsonb) returns jsonb
language sql immutable set search_path = '' as $$
  select coalesce(jsonb_object_agg(p.key, p.value->'x-renamed-from'), '{}')
  from jsonb_each(schema_renames.new->'properties') p
  where p.value ? 'x-renamed-from' and schema_renames.old->'properties' ? (p.value->>'x-renamed-from')
    and not schema_renames.old->'properties' ? p.key
    -- The former name may live on as an alias.
    and coalesce(schema_renames.new->'properties'->(p.value->>'x-renamed-from') ? 'x-alias', true)
$$;
comment on function data.schema_renames(jsonb, jsonb) is
  'Which properties of a new schema continue one of the old under another name (x-renamed-from), as {new: old}. A definition that was applied may keep its x-renamed-from.';

create or replace function data.tightens(keyword text, old jsonb, new jsonb) returns boolean
language sql immutable set search_path = '' as $$
  select case
    when tightens.old is not distinct from tightens.new or keyword = any (data.option_keywords())
      or keyword in ('title', 'description', 'examples', '$comment', 'deprecated', 'default', 'x-index', 'x-indexes', 'x-search',
      'x-renamed-from', 'x-convert', 'x-convert-back', 'x-pii', 'x-mask', 'x-audit', 'x-policies', 'x-cache-ttl', 'x-storage', '$id',
      '$schema') then false
    when tightens.new is null
      then keyword not in ('minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum', 'minLength', 'maxLength', 'minItems', 'maxItems',
      'pattern', 'enum', 'required', 'format', 'precision', 'x-unique', 'x-relation')
    when tightens.old is null then true
    when keyword in ('maximum', 'exclusiveMaximum', 'maxLength', 'maxItems')
      then (tightens.new #>> '{}')::numeric < (tightens.old #>> '{}')::numeric
    when keyword in ('minimum', 'exclusiveMinimum', 'minLength', 'minItems')
      then (tightens.new #>> '{}')::numeric > (tightens.old #>> '{}')::numeric
    when keyword = 'enum' then not tightens.new @> tightens.old
    when keyword = 'required' then not tightens.old @> tightens.new
    else true
  end
$$;
comment on function data.tightens(text, jsonb, jsonb) is
  'Whether existing records may no longer fit when a keyword''s value changes from old to new (null: absent). True where that is not certain.';

drop function if exists data.schema_changes(data.entities, jsonb, jsonb, jsonb);
create or replace function data.schema_changes(old data.entities, schema jsonb, renames jsonb, restores jsonb default '{}',
  backs jsonb default '{}') returns jsonb
language sql stable set search_path = '' as $$
  with was as (
    select p.key as name, p.value as s, data.kind(p.value) as kind, coalesce(old.schema->'required', '[]') ? p.key as required
    from jsonb_each(old.schema->'properties') p
  ), will as (
    select p.key as name, p.value as s, data.kind(p.value) as kind, coalesce(schema_changes.schema->'required', '[]') ? p.key as required,
      case when renames ? p.key and not p.value ? 'x-alias' then renames->>p.key
        when (p.value ? 'x-alias') = coalesce(old.schema->'properties'->p.key ? 'x-alias', p.value ? 'x-alias')
        then coalesce(renames->>p.key, p.key) end as old_name
    from jsonb_each(schema_changes.schema->'properties') p
  ), pairs as (
    select w.name as old_name, n.name, w.s as old_schema, n.s as schema, w.kind as old_kind, n.kind, w.required as was_required, n.required
    from was w full join will n on n.old_name = w.name
  ), changes (rank, name, change) as (
    select 1, p.old_name,
      jsonb_build_object('change', 'drop', 'field', p.old_name, 'loses_data', not p.old_schema ?| array['x-computed', 'x-alias'],
      'message', format('%s is dropped, and its values with it; data.rollback brings back those not compacted yet', p.old_name))
    from pairs p where p.name is null
    union all
    select 2, p.name, jsonb_build_object('change', 'rename', 'field', p.name, 'from', p.old_name,
      'message', format('%s is called %s', p.old_name, p.name))
    from pairs p where p.name <> p.old_name
    union all
    select 3, p.name, jsonb_build_object('change', 'restore', 'field', p.name, 'from', restores #> array[p.name, 'from'],
      'version', restores #> array[p.name, 'version'],
      'message', format('%s comes back with the values that version %s dropped', p.name, restores #>> array[p.name, 'version']), 'checks',
      true)
    from pairs p where p.old_name is null and restores ? p.name
    union all
    select 4, p.name, jsonb_build_object('change', 'add', 'field', p.name, 'to', p.kind, 'checks', p.schema ? 'x-computed',
      'message', format('%s is added', p.name))
    from pairs p where p.old_name is null and not restores ? p.name
    union all
    select 5, p.name, jsonb_build_object('change', 'convert', 'field', p.name, 'from', k, 'to', p.kind, 'checks', true,
      'expression', x, 'back', case when x is not null then coalesce(p.schema->'x-convert-back', p.old_schema->'x-convert') end,
      'old_field', case when x is not null then p.old_name end,
      'message', format('%s was %s and becomes %s', p.name, k, p.kind) || coalesce(' by ' || x, ''))
    from pairs p, coalesce(p.old_kind, restores #>> array[p.name, 'kind']) k,
      lateral (select case
        when p.old_name is not null then coalesce(backs->>p.name, data.conversion_expression(p.old_schema, p.schema)) end) e (x)
    where p.kind <> k or x is not null
    union all
    select 6, p.name, jsonb_build_object('change', case when p.required then 'require' else 'unrequire' end, 'field', p.name,
      'checks', p.required,
      'default', case when p.required then p.schema->'default' end,
      'message', format(case when not p.required then '%s is required no longer'
        when p.schema ? 'default' then '%s is required; records without it get %s' else '%s is required' end,
        p.name, p.schema->'default'))
    from pairs p where p.required is distinct from coalesce(p.was_required, false) and p.name is not null
    union all
    select 7, p.name, jsonb_build_object('change', 'keyword', 'field', p.name, 'keyword', k, 'from', p.old_schema->k, 'to', p.schema->k,
      'checks', p.schema ? 'x-computed' or data.tightens(k, p.old_schema->k, p.schema->k), 'loses_data', k = 'x-computed'
        and not p.old_schema ? k,
      'message', format('%s of %s is %s', k, p.name, coalesce(left((p.schema->k)::text, 200), 'taken away')))
    from pairs p, lateral (select jsonb_object_keys(p.old_schema || p.schema) k) k
    where p.schema->k is distinct from p.old_schema->k and k not in ('x-renamed-from', 'x-convert', 'x-convert-back')
      and (k not in ('type', 'format') or p.kind = p.old_kind)
    union all
    select 8, k, jsonb_build_object('change', 'option', 'option', k, 'from', old.schema->k, 'to', schema_changes.schema->k,
      'loses_data', k = 'x-history' and old.schema->k = 'true',
      'checks', data.tightens(k, old.schema->k, schema_changes.schema->k), 'message',
      format('%s is %s', k, coalesce(left((schema_changes.schema->k)::text, 200), 'taken away')))
    from (select jsonb_object_keys((old.schema || schema_changes.schema) - array['properties', 'required'])) k (k)
    where schema_changes.schema->k is distinct from old.schema->k
  )
  select coalesce(jsonb_agg(jsonb_strip_nulls(jsonb_build_object('loses_data', false, 'checks', false) || c.change)
    order by c.rank, c.name), '[]')
  from changes c
$$;
comment on function data.schema_changes(data.entities, jsonb, jsonb, jsonb, jsonb) is
  'What a new schema changes: a JSON array of {change, field, from, to, message, loses_data, checks}. checks: existing records may not fit and have to be read. renames is {new: old}, restores {field: {from, version, kind}} and backs {field: expression} what data.trace_field found.';

-- JSON writes some kinds alike.
create or replace function data.schema_transforms(changes jsonb) returns jsonb
language sql immutable set search_path = '' as $$
  select coalesce(jsonb_agg(x.transform order by x.n), '[]')
  from (
    select n, case c->>'change'
      when 'drop' then jsonb_build_object('op', 'drop', 'field', c->'field')
      when 'rename' then jsonb_build_object('op', 'rename', 'from', c->'from', 'to', c->'field')
      when 'restore' then jsonb_build_object('op', 'restore', 'field', c->'field', 'from', c->'from', 'version', c->'version')
      when 'convert' then case
        when c ? 'expression'
          then jsonb_build_object('op', 'convert', 'field', c->'field', 'from', c->'from', 'to', c->'to', 'expression', c->'expression')
        when (c->>'from', c->>'to') not in (('string', 'email'), ('email', 'string'), ('integer', 'number'), ('integer', 'decimal'),
          ('number', 'decimal'))
        then jsonb_build_object('op', 'convert', 'field', c->'field', 'from', c->'from', 'to', c->'to') end
      when 'require' then case when c ? 'default' then jsonb_build_object('op', 'default', 'field', c->'field', 'value', c->'default') end
    end as transform
    from jsonb_array_elements(changes) with ordinality o (c, n)
  ) x where x.transform is not null
$$;
comment on function data.schema_transforms(jsonb) is 'The transforms that take a record through these changes (see <entity>_upgraded).';
