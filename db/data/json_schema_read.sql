-- Reads a JSON Schema before it is applied: what is wrong with it or cannot be honoured, and where its references lead.

create or replace function data.keyword_problem(keyword text, value jsonb, formats boolean) returns text
language sql immutable parallel safe set search_path = '' as $$
  select case
    when keyword in ('minLength', 'maxLength', 'minItems', 'maxItems', 'minContains', 'maxContains', 'minProperties', 'maxProperties') then
      case when t <> 'number' or value::numeric < 0 or value::numeric <> trunc(value::numeric) then 'must be a whole number from 0' end
    when keyword in ('minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum') then case when t <> 'number' then 'must be a number' end
    when keyword = 'multipleOf' then case when t <> 'number' or value::numeric <= 0 then 'must be a number above 0' end
    when keyword = 'type' then
      case when not (t in ('string', 'array') and value <> '[]'
        and '["null", "boolean", "object", "array", "number", "string", "integer"]' @> value)
        or jsonb_path_exists(value, 'strict $[*] ? (@.type() != "string")', silent => true) and t = 'array'
        then 'must be null, boolean, object, array, number, string, integer, or a list of them' end
    when keyword = 'enum' then case when t <> 'array' then 'must be a list' end
    when keyword = 'required'
      then case when t <> 'array' or jsonb_path_exists(value, '$[*] ? (@.type() != "string")') then 'must be a list of names' end
    when keyword = 'dependentRequired' then
      case when t <> 'object' or jsonb_path_exists(value, 'strict $.* ? (@.type() != "array")', silent => true)
        or jsonb_path_exists(value, '$.*[*] ? (@.type() != "string")')
        then 'must be an object of lists of names' end
    when keyword = 'uniqueItems' then case when t <> 'boolean' then 'must be true or false' end
    when keyword in ('allOf', 'anyOf', 'oneOf', 'prefixItems')
      then case when t <> 'array' or value = '[]' then 'must be a list of schemas, and not empty' end
    when keyword in ('properties', '$defs', 'definitions', 'dependentSchemas')
      then case when t <> 'object' then 'must be an object of schemas' end
    when keyword = 'patternProperties' then case when t <> 'object' then 'must be an object of schemas'
      else (select format('%s %s', to_jsonb(left(k, 60)), data.regex_problem(k)) from jsonb_object_keys(value) k
        where data.regex_problem(k) is not null limit 1) end
    when keyword = 'pattern' then case when t <> 'string' then 'must be a regular expression' else data.regex_problem(value #>> '{}') end
    when keyword in ('additionalProperties', 'propertyNames', 'unevaluatedProperties', 'items', 'contains', 'unevaluatedItems', 'not', 'if',
      'then', 'else',
      'contentSchema') then case when t not in ('object', 'boolean') then 'must be a schema' end
    when keyword in ('$ref', '$dynamicRef', '$id') then case when t <> 'string' then 'must be a URI reference'
      when keyword = '$id' and value #>> '{}' ~ '#.' then 'has a fragment, which is not supported; use $anchor' end
    when keyword in ('$anchor', '$dynamicAnchor')
      then case when t <> 'string' or value #>> '{}' !~ '^[A-Za-z_][-A-Za-z0-9._]*$' then 'must be a name' end
    when keyword = '$schema' then case when rtrim(value #>> '{}', '#') is distinct from 'https://json-schema.org/draft/2020-12/schema'
      then 'is not supported: https://json-schema.org/draft/2020-12/schema alone is' end
    when keyword in ('$recursiveRef', '$recursiveAnchor', 'dependencies', 'additionalItems') then
      'is of an earlier draft of JSON Schema and not supported; use '
        || case keyword when 'dependencies' then 'dependentRequired or dependentSchemas'
        when 'additionalItems' then 'prefixItems with items' when '$recursiveRef' then '$dynamicRef' else '$dynamicAnchor' end
    when keyword = 'format' then case when t <> 'string' then 'must be a name'
      when formats and value #>> '{}' <> all (data.known_formats()) then
        format('%s is not supported; supported: %s', to_jsonb(left(value #>> '{}', 60)), array_to_string(data.known_formats(), ', ')) end
  end
  from (select jsonb_typeof(value)) x (t)
$$;
comment on function data.keyword_problem(text, jsonb, boolean) is
  'What is wrong with a keyword''s value, or why it is not supported; null for none, and for what JSON Schema does not know.';

create or replace function data.subschemas(schema jsonb) returns table (path text[], subschema jsonb)
language sql immutable parallel safe set search_path = '' as $$
  select array[k.key], k.value from jsonb_each(schema) k
  where k.key in ('additionalProperties', 'propertyNames', 'unevaluatedProperties', 'items', 'contains', 'unevaluatedItems', 'not', 'if',
    'then', 'else',
    'contentSchema') and jsonb_typeof(k.value) in ('object', 'boolean')
  union all
  select array[k.key, (i.n - 1)::text], i.value from jsonb_each(schema) k,
    jsonb_array_elements(case jsonb_typeof(k.value) when 'array' then k.value else '[]' end) with ordinality i (value, n)
  where k.key in ('allOf', 'anyOf', 'oneOf', 'prefixItems')
  union all
  select array[k.key, p.key], p.value from jsonb_each(schema) k,
    jsonb_each(case jsonb_typeof(k.value) when 'object' then k.value else '{}' end) p
  where k.key in ('properties', 'patternProperties', '$defs', 'definitions', 'dependentSchemas')
$$;
comment on function data.subschemas(jsonb) is 'The schemas directly inside a schema object, with their paths.';

create or replace function data.schema_nodes(documents jsonb, levels int)
returns table (path text[], node jsonb, parent text[], keyword text, outer_base text, base text, resource text[], level int)
language sql immutable parallel safe set search_path = '' as $$
  with recursive nodes as (
    select array[d.key] as path, d.value as node, null::text[] as parent, null as keyword, '' as outer_base,
      data.resolve_uri('', coalesce(i.id, '')) as base, array[d.key] as resource, 0 as level
    from jsonb_each(documents) d, lateral data.schema_id(d.value) i (id)
    union all
    select n.path || s.path, s.subschema, n.path, s.path[1], n.base,
      case when i.id is null then n.base else data.resolve_uri(n.base, i.id) end,
      case when i.id is null then n.resource else n.path || s.path end, n.level + 1
    from nodes n, data.subschemas(case jsonb_typeof(n.node) when 'object' then n.node else '{}' end) s,
      lateral data.schema_id(s.subschema) i (id)
    where n.level <= levels
  )
  select * from nodes
$$;
comment on function data.schema_nodes(jsonb, int) is
  'Every schema in documents ({name: schema}) down to so many levels: where it is, in what keyword of which parent, the base URI around it and its own, the path of its resource.';

create or replace function data.schema_id(schema jsonb) returns text
language sql immutable parallel safe as $$
  select case when jsonb_typeof(schema->'$id') = 'string' then regexp_replace(schema->>'$id', '#.*$', '') end
$$;
comment on function data.schema_id(jsonb) is 'The $id of a schema, without an empty fragment; null when it has none.';

create or replace function data.read_schema(schema jsonb, formats boolean default false, out prepared jsonb, out problems jsonb)
language sql immutable parallel safe set search_path = '' as $$
  with recursive documents (all_of_them) as (
    select jsonb_build_object('schema', schema)
      || case when schema::text ~ '"\$(ref|dynamicRef)": "https://json-schema.org/draft/2020-12/' then data.meta_schemas() else '{}' end
  ), nodes as materialized (
    select n.* from documents d, data.schema_nodes(d.all_of_them, 64) n
  ), resources as materialized ( -- else each reference reads every node: 56 s for 10,000 of them instead of 2
    select n.path, n.base from nodes n where n.path = n.resource
  ), keywords as materialized (
    select n.path, n.base, n.resource, k.key, k.value from nodes n, jsonb_each(case jsonb_typeof(n.node) when 'object' then n.node end) k
  ), anchors as (
    select k.base, k.value #>> '{}' as name, k.path, k.key = '$dynamicAnchor' as is_dynamic
    from keywords k where k.key in ('$anchor', '$dynamicAnchor')
  ), wanted as (
    select k.path, k.base, k.key, k.value #>> '{}' as ref, split_part(u.uri, '#', 1) as target_base,
      substring(u.uri from '#(.*)$') as fragment
    from keywords k, data.resolve_uri(k.base, k.value #>> '{}') u (uri)
    where k.key in ('$ref', '$dynamicRef') and jsonb_typeof(k.value) = 'string'
  ), refs as materialized (
    select w.path, w.base, w.key, w.ref, r.path is not null as is_inside, n.path as target, n.outer_base,
      case when w.key = '$dynamicRef' and a.is_dynamic then a.name end as dynamic_name
    from wanted w
    left join resources r on r.base = w.target_base
    left join anchors a on a.base = w.target_base and a.name = data.percent_decoded(w.fragment)
    left join nodes n on n.path = case when coalesce(w.fragment, '') = '' then r.path
      when w.fragment ~ '^/' then r.path || data.fragment_path(w.fragment) else a.path end
  ), steps as (
    select n.parent as path, n.path as target from nodes n
    where n.keyword in ('allOf', 'anyOf', 'oneOf', 'not', 'if', 'then', 'else', 'dependentSchemas')
    union all
    select r.path, r.target from refs r where r.target is not null
    union all
    select r.path, a.path from refs r join anchors a on a.name = r.dynamic_name and a.is_dynamic
  ), walk (n, start) as (
    select 0, r.target from refs r where r.target is not null
    union
    select w.n + 1, s.target from (select * from walk) w join steps s on s.path = w.start where w.n < 32
  ), faults (path, message) as (
    select k.path || k.key, data.keyword_problem(k.key, k.value, formats) from keywords k
    union all
    select n.path, 'is nested too deeply: 64 levels at most' from nodes n where n.level > 64
    union all
    select n.path, 'must be a schema: an object, true or false' from nodes n where jsonb_typeof(n.node) not in ('object', 'boolean')
    union all
    select r.path || r.key, case when r.is_inside then format('refers to %s, where this document has no schema', to_jsonb(left(r.ref, 120)))
      else format('refers to %s outside of this document, which is not supported', to_jsonb(left(r.ref, 120))) end
    from refs r where r.target is null
    union all
    select max(n.path) || '$id'::text, 'is the $id of another schema too'
    from nodes n
    where n.path = n.resource and n.level > 0
    group by n.base
    having count(*) > 1
    union all
    select max(a.path), format('has the anchor %s of another schema', a.name) from anchors a group by a.base, a.name having count(*) > 1
    union all
    select min(w.start), 'refers to itself without going deeper into the value: a circular $ref, or a chain of more than 32'
    from walk w
    where w.n = 32
  )
  select
    d.all_of_them
      || case when formats then '{"formats": true}' else '{}' end::jsonb
      || case when exists (select from keywords k where k.key in ('unevaluatedItems', 'unevaluatedProperties')) then '{"track": true}'
        else '{}' end::jsonb
      || coalesce((select jsonb_build_object('patterns', jsonb_object_agg(p.pattern, data.regex(p.pattern))) from (
          select distinct p.pattern from keywords k,
            lateral (select k.value #>> '{}' where k.key = 'pattern'
              union all select jsonb_object_keys(case jsonb_typeof(k.value) when 'object' then k.value else '{}' end)
                where k.key = 'patternProperties') p (pattern)) p
        having count(*) > 0), '{}')
      || coalesce((select jsonb_build_object('ids', jsonb_object_agg(i.outer_base, i.ids)) from (
          select n.outer_base, jsonb_object_agg(n.node->>'$id', n.base) as ids
          from nodes n
          where n.path = n.resource and n.node ? '$id'
          group by n.outer_base) i
        having count(*) > 0), '{}')
      || coalesce((select jsonb_build_object('refs', jsonb_object_agg(r.base, r.refs)) from (
          select r.base, jsonb_object_agg(r.key || ' ' || r.ref,
            jsonb_strip_nulls(jsonb_build_object('path', r.target, 'base', r.outer_base, 'anchor', r.dynamic_name))) as refs
          from refs r where r.target is not null group by r.base) r having count(*) > 0), '{}')
      || coalesce((select jsonb_build_object('dynamic', jsonb_object_agg(a.base, a.anchors)) from (
          select a.base, jsonb_object_agg(a.name, jsonb_build_object('path', a.path, 'base', n.outer_base)) as anchors
          from anchors a join nodes n on n.path = a.path where a.is_dynamic group by a.base) a having count(*) > 0), '{}'),
    (select coalesce(jsonb_agg(jsonb_build_object('pointer', data.pointer(f.path[2:]), 'message', f.message) order by f.path), '[]')
      from faults f where f.message is not null and f.path[1] = 'schema')
  from documents d
$$;
comment on function data.read_schema(jsonb, boolean) is
  'A JSON Schema with its references resolved and its patterns translated, ready to be applied, and what is wrong with it or not supported: [{pointer, message}].';
