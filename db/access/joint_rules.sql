-- Joint rules: sets of fields whose values one constraint reads together. Whether a change of one of them is accepted tells of the
-- others, so that who does not see these may not make it (joint_checks.sql). Too large a set is safe, too small a leak.

create or replace function access.sources(entity data.entities, names text[]) returns text[]
language sql stable set search_path = '' as $$
  select array(
    select distinct s
    from unnest(names) n, unnest(n || access.bases(entity, n)) s, jsonb_each((entity).schema->'properties') p
    where p.key = s and not p.value ?| array['x-computed', 'x-alias', 'x-rollup'] order by s)
$$;
comment on function access.sources(data.entities, text[]) is
  'The fields of an entity that are written and stand behind these: computed fields and other names replaced by what they are made of.';

-- What a schema reads of an object that it is applied to: names, #name for a definition it refers to, * where that may be anything.
create or replace function access.schema_reads(schema jsonb, depth int default 1) returns text[]
language sql immutable set search_path = '' as $$
  select case when jsonb_typeof(schema) = 'boolean' then '{}' when jsonb_typeof(schema) <> 'object' or depth > 64 then '{*}'
    else array(
      select distinct r
      from jsonb_each(case jsonb_typeof(schema) when 'object' then schema else '{}' end) k,
        unnest(case
          when k.key = 'properties' then array(select jsonb_object_keys(k.value))
          when k.key = 'required' then array(select jsonb_array_elements_text(k.value))
          when k.key = 'dependentRequired' then array(select d.key from jsonb_each(k.value) d
            union select r from jsonb_each(k.value) d, jsonb_array_elements_text(d.value) r)
          when k.key = 'dependentSchemas' then array(select d.key from jsonb_each(k.value) d
            union select r from jsonb_each(k.value) d, unnest(access.schema_reads(d.value, depth + 1)) r)
          when k.key in ('allOf', 'anyOf', 'oneOf')
            then array(select r from jsonb_array_elements(k.value) p, unnest(access.schema_reads(p, depth + 1)) r)
          when k.key in ('not', 'if', 'then', 'else') then access.schema_reads(k.value, depth + 1)
          when k.key = '$ref' then array['#' || coalesce(substring(k.value #>> '{}' from '^#/\$defs/(.+)$'), '')]
          -- What is said of texts, numbers and lists says nothing of an object.
          when k.key in ('type', 'title', 'description', 'default', 'deprecated', 'readOnly', 'writeOnly', 'examples', '$comment', '$defs',
            'format', 'contentEncoding', 'contentMediaType', 'contentSchema', 'multipleOf', 'maximum', 'exclusiveMaximum', 'minimum',
            'exclusiveMinimum', 'maxLength', 'minLength', 'pattern', 'maxItems', 'minItems', 'uniqueItems', 'maxContains', 'minContains',
            'prefixItems', 'items', 'contains', 'unevaluatedItems') then '{}'
          else '{*}' end) r) end
$$;
comment on function access.schema_reads(jsonb, int) is
  'The names of properties that a JSON Schema reads of an object that it is applied to, #name for a definition that it refers to, and '
  '* where it may read any.';

create or replace function access.schema_fields(schema jsonb, defs jsonb) returns text[]
language sql immutable set search_path = '' as $$
  with recursive reads (name) as (
    select unnest(access.schema_reads(schema_fields.schema))
    union
    select unnest(access.schema_reads(coalesce(defs->substr(r.name, 2), 'null'))) from reads r where r.name like '#%'
  )
  select array(select r.name from reads r where r.name not like '#%' order by 1)
$$;
comment on function access.schema_fields(jsonb, jsonb) is
  'The properties that a JSON Schema reads of an object that it is applied to, definitions (defs) followed; * where it may read any.';

create or replace function access.schema_parts(schema jsonb) returns table (label text, fields text[])
language sql immutable set search_path = '' as $$
  with part (p) as (select data.interpreted_part(schema_parts.schema, 'object', schema_parts.schema->'$defs')),
  parts (label, value) as (
    select 'allOf', a from part, jsonb_array_elements(p->'allOf') a
    union all
    select k.key, jsonb_build_object(k.key, k.value) from part, jsonb_each(p) k
    where k.key not in ('allOf', 'if', 'then', 'else', 'dependentSchemas', '$defs', 'properties')
    union all
    select 'if', jsonb_strip_nulls(jsonb_build_object('if', p->'if', 'then', p->'then', 'else', p->'else')) from part where p ? 'if'
    union all
    select 'dependentSchemas', jsonb_build_object('dependentSchemas', jsonb_build_object(d.key, d.value))
    from part, jsonb_each(p->'dependentSchemas') d
    union all
    select 'dependentRequired', jsonb_build_object('required', jsonb_build_array(d.key, r))
    from jsonb_each(schema_parts.schema->'dependentRequired') d, jsonb_array_elements(d.value) r
  )
  -- What is unevaluated is so by all that stands beside it.
  select p.label, access.schema_fields(p.value, schema_parts.schema->'$defs') from parts p
$$;
comment on function access.schema_parts(jsonb) is
  'The keywords of an entity''s schema that read several of its properties, each that holds by itself with the properties that it '
  'reads; * for any.';

create or replace function access.joint_rules(entity data.entities)
  returns table (kind text, label text, fields text[], timed boolean, longer int)
language sql stable set search_path = '' as $$
  with meaning (fields) as materialized (
    select data.all_fields((entity).schema, data.data_columns((entity).schema, 'x'))
    where (entity).schema @? '$.properties.*."x-computed"' or coalesce((entity).schema->'x-rules', '[]') <> '[]'
  ), property as materialized (
    select p.key as name, p.value as schema, m.fields #> array[p.key, 'now'] = 'true' as timed
    from jsonb_each((entity).schema->'properties') p left join meaning m on true
  ), rule (kind, label, names, timed, longer) as (
    select 'rule', coalesce(r->>'message', 'must fulfil ' || (r->>'rule')), data.expression_names(t.tree),
      data.uses_now(t.tree, m.fields), 0
    from meaning m, jsonb_array_elements((entity).schema->'x-rules') r, lateral (select data.parse_expression(r->>'rule') offset 0) t (tree)
    union all
    select 'computed', p.name, array[p.name], p.timed, l.longer
    from property p, lateral (
      select access.computed_limit((entity).schema, p.schema) where p.schema ? 'x-computed' and not p.schema ? 'x-rollup'
    ) l (longer)
    where l.longer is not null
    union all
    select 'schema', s.label, case when '*' = any (s.fields) then array(select p.name from property p) else s.fields end, false, 0
    from access.schema_parts((entity).schema) s
    union all
    select 'unique', array_to_string(u.fields, ', '), u.fields, false, 0 from data.unique_sets((entity).schema) u
    union all
    select 'unique', p.name, array[p.name], false, 0 from property p where p.schema ? 'x-computed' and p.schema->'x-unique' = 'true'
    union all
    select 'computed', 'expires_at', '{expires_at}', true, 0 from property p
    where p.name = 'expires_at' and p.schema ? 'x-computed' and (entity).schema ? 'x-ttl'
    union all
    -- An entry of an index has at most 2,704 bytes.
    select 'index', array_to_string(x.names, ', '), x.names, false, 100
    from jsonb_array_elements((entity).schema->'x-indexes') i,
      lateral (select array(select ltrim(f, '-') from jsonb_array_elements_text(i->'fields') f)) x (names)
    where (select sum(coalesce(access.field_bound(p.schema, '{}'), 1000)) from property p
      where p.name = any (x.names) and data.kind(p.schema) in ('string', 'email')) > 600
    union all
    -- A tsvector has at most 1,048,575 bytes, of each weight at most 400,000.
    select 'search', 'x-search', array_agg((f.field).name), false, 50000
    from data.search_fields((entity).id) f having count(distinct f.weight) > 2
  )
  select r.kind, r.label, s.fields, coalesce(r.timed, false), r.longer
  from rule r, lateral (select access.sources(entity, r.names) offset 0) s (fields)
  where cardinality(s.fields) > case when r.timed then 0 else 1 end
$$;
comment on function access.joint_rules(data.entities) is
  'What an entity''s definition asks of several fields together: rules (x-rules), keywords of its schema, computed fields that some '
  'values make impossible, what is unique, indexed or searched together. kind is rule, schema, computed, unique, index or search; '
  'label its message, keyword, name or names; fields those that are written; timed whether the answer changes with time; longer: it '
  'matters only where the texts among them have more characters together than that.';
