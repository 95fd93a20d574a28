-- Options of an entity that bring properties or tables of their own: x-ttl, x-soft-delete, x-history, x-metadata, x-tags.

create or replace function data.option_keywords() returns text[]
language sql immutable parallel safe as $$
  select array['x-ttl', 'x-soft-delete', 'x-history', 'x-metadata', 'x-tags']
$$;
comment on function data.option_keywords() is 'The top-level keywords that switch options of an entity on.';

create or replace function data.option_properties(schema jsonb) returns jsonb
language sql immutable parallel safe set search_path = '' as $$
  select case when option_properties.schema ? 'x-ttl' then '{"expires_at": {"type": "string", "format": "date-time", "x-index": true,
      "description": "When the record ceases to exist. Null: as x-ttl of the entity says, or never."}}' else '{}'::jsonb end
    || case when option_properties.schema->'x-metadata' = 'true'
      then '{"metadata": {"type": "object", "description": "Whatever the client wants to keep."}}' else '{}'::jsonb end
    || case when option_properties.schema->'x-tags' = 'true' then '{"tags": {"type": "array", "maxItems": 100, "items": {"type": "string", "minLength": 1, "maxLength": 100},
      "description": "Labels."}}' else '{}'::jsonb end
$$;
comment on function data.option_properties(jsonb) is 'The properties that an entity has because of its options.';

-- What clients cannot write is known as computed everywhere; what of, the view says.
create or replace function data.rollup_properties(schema jsonb) returns jsonb
language sql immutable parallel safe set search_path = '' as $$
  select coalesce(jsonb_object_agg(p.key, '{"x-computed": "null"}'::jsonb), '{}')
  from jsonb_each(case jsonb_typeof(rollup_properties.schema->'properties') when 'object' then rollup_properties.schema->'properties'
    else '{}' end) p
  where p.value ? 'x-rollup' and jsonb_typeof(p.value) = 'object'
$$;
comment on function data.rollup_properties(jsonb) is 'What a schema''s rollups have besides what was said of them.';

-- Kept in the stored schema, so that everything that reads it meets properties like any other.
create or replace function data.with_options(schema jsonb) returns jsonb
language sql immutable parallel safe set search_path = '' as $$
  select (case when jsonb_typeof(with_options.schema->'properties') = 'object' and o <> '{}' then
      jsonb_set(with_options.schema, '{properties}', (with_options.schema->'properties') || (
        select jsonb_object_agg(p.key, case jsonb_typeof(with_options.schema->'properties'->p.key)
          when 'object' then p.value || (with_options.schema->'properties'->p.key)
            || case p.key when 'expires_at' then '{"x-index": true}' else '{}'::jsonb end
          else coalesce(with_options.schema->'properties'->p.key, p.value) end) from jsonb_each(o) p))
    else with_options.schema end
    || case when jsonb_typeof(with_options.schema->'policies') = 'array' and not with_options.schema ? 'x-policies'
      then jsonb_build_object('x-policies', with_options.schema->'policies') else '{}' end) - 'policies'
  from (select data.option_properties(with_options.schema) || data.rollup_properties(with_options.schema)
    || data.link_properties(with_options.schema)) x (o)
$$;
comment on function data.with_options(jsonb) is
  'A schema with the properties that its options bring; one that names them itself may add to them, a description for instance. policies is another name of x-policies.';

create or replace function data.ttl_seconds(schema jsonb) returns bigint
language sql immutable parallel safe set search_path = '' as $$
  select extract(epoch from t::interval)::bigint
  from (select coalesce(ttl_seconds.schema #>> '{x-ttl,after}',
    case jsonb_typeof(ttl_seconds.schema->'x-ttl') when 'string' then ttl_seconds.schema->>'x-ttl' end)) x (t)
$$;
comment on function data.ttl_seconds(jsonb) is
  'After how many seconds records of an entity expire by its x-ttl, a month being 30 days and a year 365.25; null when only single records do.';

create or replace function data.ttl_from(schema jsonb) returns text
language sql immutable parallel safe set search_path = '' as $$ select coalesce(ttl_from.schema #>> '{x-ttl,from}', 'created_at') $$;
comment on function data.ttl_from(jsonb) is 'From which time x-ttl counts: created_at or updated_at.';

create or replace function data.is_ttl(value text) returns boolean
language sql immutable parallel safe set search_path = '' as $$
  select value is not null and length(value) <= 60 and pg_input_is_valid(value, 'interval')
    and case when pg_input_is_valid(value, 'interval') then isfinite(value::interval)
      and extract(epoch from value::interval) between 1 and 3155760000 end
$$;
comment on function data.is_ttl(text) is 'Whether a text is a time to live: ISO 8601 (P30D) or 30 days, from a second to a hundred years.';

create or replace function data.option_violations(schema jsonb) returns jsonb
language sql immutable set search_path = '' as $$
  with faults (pointer, message) as (
    select '/x-ttl',
      'must be true, a time like "30 days" or "P30D" (a second to a hundred years), or {"after": a time, "from": "created_at" or "updated_at"}'
    from (select option_violations.schema->'x-ttl') x (t)
    where t is not null and not coalesce(case jsonb_typeof(t) when 'boolean' then t = 'true' when 'string' then data.is_ttl(t #>> '{}')
      when 'object' then t - 'after' - 'from' = '{}' and jsonb_typeof(t->'after') = 'string' and data.is_ttl(t->>'after')
        and coalesce(t->'from', '"created_at"') in ('"created_at"', '"updated_at"') end, false)
    union all
    select '/' || k.key, 'must be true or false'
    from jsonb_each(option_violations.schema) k
    where k.key = any (data.option_keywords()) and k.key <> 'x-ttl' and jsonb_typeof(k.value) <> 'boolean'
    union all
    select '/properties/' || p.key, 'must be as the option of the entity brings it: ' || (p.value - 'description' - 'x-index')::text
    from jsonb_each(data.option_properties(option_violations.schema)) p,
      lateral (select option_violations.schema->'properties'->p.key) own (s)
    where s is not null and (jsonb_typeof(s) <> 'object' or data.kind(s) is distinct from data.kind(p.value)
      or p.key = 'tags' and coalesce(data.kind(s->'items'), 'string') <> 'string'
      or p.key = 'expires_at' and (s ? 'default' or coalesce(option_violations.schema->'required' ? p.key, false)))
  )
  select coalesce(jsonb_agg(jsonb_build_object('pointer', f.pointer, 'message', f.message) order by f.pointer), '[]')
    || data.rollup_violations(option_violations.schema)
  from faults f
$$;
comment on function data.option_violations(jsonb) is 'What is wrong with the options in an entity''s schema: a JSON array of {pointer, message}.';
