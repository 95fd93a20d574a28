-- Which records a compiled statement shows beside those of its entity: of the entities of a union or of a search over an app, and
-- those that expand embeds or that a path in select or sort reaches. Noted once a statement, as lists of ids.

create or replace function audit.seen_of_sql(entities data.entities[], names text, ids text, what text) returns text
language sql immutable set search_path = '' as $$
  select coalesce(string_agg(format(
      ' || audit.note_seen(%L, array(select u.id from unnest(%s, %s) u (entity, id) where u.entity = %L), %L)',
      e.id, seen_of_sql.names, seen_of_sql.ids, e.name, what), '' order by e.name), '')
  from unnest(entities) e where audit.reads_are_on(e.schema)
$$;
comment on function audit.seen_of_sql(data.entities[], text, text, text) is
  'What a compiled statement over several entities appends to its text to record which records of each it shows: names and ids are '
  'arrays, as SQL, of one length.';

create or replace function audit.reached(entity_id uuid, paths text[]) returns table (path text, entity uuid)
language sql stable set search_path = '' as $$
  with recursive step (entity_id, done, rest) as (
    select reached.entity_id, null::text, p from unnest(paths) p
    union
    select r.id, concat_ws('.', s.done, split_part(s.rest, '.', 1)), r.rest
    from step s, data.path_relation(s.entity_id, s.rest) r where r.id is not null
  )
  select distinct s.done, e.id from step s join data.entities e on e.id = s.entity_id
  where s.done is not null and audit.reads_are_on(e.schema)
$$;
comment on function audit.reached(uuid, text[]) is
  'The relations through which paths (company.city) lead to entities whose reads are recorded, and those. RH400 for one to many.';

create or replace function audit.embedded(entity_id uuid, expand jsonb) returns table (path text[], entity uuid)
language sql stable set search_path = '' as $$
  with recursive step (entity_id, done, rest) as (
    select embedded.entity_id, '{}'::text[], string_to_array(p, '.')
    from jsonb_array_elements_text(case jsonb_typeof(expand) when 'array' then expand else '[]' end) p
    union
    select r.id, s.done || s.rest[1], s.rest[2:]
    from step s, data.relation_of(s.entity_id, s.rest[1]) r where r.id is not null and cardinality(s.done) < 5
  )
  select distinct s.done, e.id from step s join data.entities e on e.id = s.entity_id
  where s.done <> '{}' and audit.reads_are_on(e.schema)
$$;
comment on function audit.embedded(uuid, jsonb) is
  'The relations through which expand embeds records of entities whose reads are recorded, and those.';

create or replace function audit.note_reached(entity_id uuid, ids uuid[]) returns text
language sql set search_path = '' as $$
  select audit.note_seen(note_reached.entity_id, array(select distinct i from unnest(ids) i where i is not null), 'related')
$$;
comment on function audit.note_reached(uuid, uuid[]) is
  'Records which related records a statement showed fields of; returns an empty text. Called by compiled statements. RH403.';

create or replace function audit.note_embedded(entity_id uuid, records jsonb, path text[]) returns text
language sql set search_path = '' as $$
  select audit.note_reached(note_embedded.entity_id, array(
    select (i #>> '{}')::uuid
    from jsonb_path_query(records, ('$[*]' || (select string_agg(format('.%s', to_json(p)), '' order by n)
      from unnest(path || 'id'::text) with ordinality u (p, n)))::jsonpath) i))
$$;
comment on function audit.note_embedded(uuid, jsonb, text[]) is
  'Records which records stand under a path of embedded ones; returns an empty text. Called by compiled statements. RH403.';

create or replace function audit.related_seen_sql(entity_id uuid, shape jsonb, sort jsonb, of text) returns text
language sql stable set search_path = '' as $$
  select coalesce((
      select string_agg(format(' || audit.note_reached(%L, %s)', r.entity,
        format(related_seen_sql.of, v.expression)), '' order by r.path)
      from audit.reached(related_seen_sql.entity_id, array(
          select jsonb_array_elements_text(case jsonb_typeof(shape->'select') when 'array' then shape->'select' else '[]' end)
          union all select s->>'field' from jsonb_array_elements(related_seen_sql.sort) s)) r,
        data.path_value(related_seen_sql.entity_id, r.path || '.id', 't') v), '')
    || coalesce((
      select string_agg(format(' || audit.note_embedded(%L, to_jsonb(%s), %L)', x.entity,
        format(related_seen_sql.of, format('r.%I', x.path[1])), x.path[2:]), '' order by x.path)
      from audit.embedded(related_seen_sql.entity_id, shape->'expand') x), '')
$$;
comment on function audit.related_seen_sql(uuid, jsonb, jsonb, text) is
  'What a compiled statement over t and its columns r appends to record which related records it shows: by expand, by paths in select, '
  'and by those of sort, whose values cursors hold. of makes an array of what it is given, as SQL. RH400.';

create or replace function audit.union_seen_sql(ids uuid[], paths text[], names text, shown text) returns text
language sql stable set search_path = '' as $$
  select audit.seen_of_sql(array_agg(e), union_seen_sql.names, union_seen_sql.shown, 'union') || coalesce(string_agg(r.notes, ''), '')
  from data.entities e
  join tenancy.apps a on a.id = e.app_id
  left join lateral (
    select string_agg(format(
        ' || audit.note_reached(%L, array(select %s from %I.%I v where v.id in (
          select u.id from unnest(%s, %s) u (entity, id) where u.entity = %4$L)))',
        x.entity, p.expression, a.schema_name, e.name, union_seen_sql.names, union_seen_sql.shown), '' order by x.path) as notes
    from audit.reached(e.id, array(select p from unnest(union_seen_sql.paths) p
        where p not like '%.%' or (data.relation_of(e.id, split_part(p, '.', 1))).id is not null)) x,
      data.path_value(e.id, x.path || '.id', 'v') p) r on true
  where e.id = any (union_seen_sql.ids)
$$;
comment on function audit.union_seen_sql(uuid[], text[], text, text) is
  'What the statement of a union appends to record which records it shows, of each entity and of those that paths reach from it: the '
  'names and ids of its page are arrays, as SQL. RH400.';
