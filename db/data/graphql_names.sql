-- How GraphQL names an entity. PostGraphile reads the result from smart comments (@singular, @plural), so that what is
-- refused here and what is built there can never differ.

create or replace function data.singular(name text) returns text
language sql immutable parallel safe set search_path = '' as $$
  select coalesce(
    -- Its last word, compared: 17 expressions did not fit into the 32 that PostgreSQL keeps compiled, and took 0.3 ms.
    (select left(singular.name, -length(i.plural)) || i.singular
      from (values ('people', 'person'), ('children', 'child'), ('women', 'woman'), ('men', 'man'), ('mice', 'mouse'), ('feet', 'foot'),
        ('teeth', 'tooth'), ('geese', 'goose'), ('movies', 'movie'), ('cookies', 'cookie'), ('quizzes', 'quiz'), ('indices', 'index'),
        ('matrices', 'matrix'), ('vertices', 'vertex'), ('criteria', 'criterion'), ('analyses', 'analysis'),
        ('crises', 'crisis')) i (plural, singular)
      where i.plural = split_part(singular.name, '_', -1)),
    case
      when singular.name ~ '(^|_)(news|series|species|means|data|media|sms|gps|bus|gas|lens|alias|atlas|canvas|bonus|virus)$'
        or singular.name ~ '(ss|us|is)$' then singular.name
      when singular.name ~ '[a-z]{2}ies$' then regexp_replace(singular.name, 'ies$', 'y')
      when singular.name ~ '(ss|sh|ch|x|zz|us|alias|lens)es$' then regexp_replace(singular.name, 'es$', '')
      when singular.name ~ '[a-z]s$' then regexp_replace(singular.name, 's$', '')
      else singular.name
    end)
$$;
comment on function data.singular(text) is 'The singular of a snake_case English noun: companies becomes company. Unknown words stay as they are.';

create or replace function data.plural(name text) returns text
language sql immutable parallel safe set search_path = '' as $$
  select case
    when s <> plural.name then plural.name
    when s ~ '(^|_)person$' then regexp_replace(s, 'person$', 'people')
    when s ~ '(^|_)child$' then s || 'ren'
    when s ~ '(^|_)(man|woman)$' then regexp_replace(s, 'an$', 'en')
    when s ~ '(^|_)(data|media|news|series|species|means|feet|teeth)$' then s || '_list'
    when s ~ '[^aeiou0-9_]y$' then regexp_replace(s, 'y$', 'ies')
    when s ~ '(analys|cris|bas)is$' then regexp_replace(s, 'is$', 'es')
    when s ~ '(s|sh|ch|x|z)$' then s || 'es'
    else s || 's'
  end
  from (select data.singular(plural.name)) x (s)
$$;
comment on function data.plural(text) is 'The plural of a snake_case English noun, always different from its singular: invoice_line becomes invoice_lines.';

create or replace function rowhouse.upper_camel(name text) returns text
language sql immutable parallel safe set search_path = '' as $$
  select upper(left(c, 1)) || substr(c, 2) from (select rowhouse.camel(upper_camel.name)) x (c)
$$;
comment on function rowhouse.upper_camel(text) is 'A snake_case name as GraphQL spells a type: invoice_line becomes InvoiceLine.';

create or replace function data.graphql_names(app_id uuid) returns table (scope text, name text, used_by text)
language sql stable set search_path = '' as $$
  with entities as (
    select e.id, e.name, rowhouse.camel(data.singular(e.name)) as one, rowhouse.camel(data.plural(e.name)) as many,
      rowhouse.upper_camel(data.singular(e.name)) as type
    from data.entities e where e.app_id = graphql_names.app_id
  ),
  relations as (
    select r.*, s.name as source, s.type as source_type, t.name as target, t.type as target_type
    from data.relations r join entities s on s.id = r.entity_id join entities t on t.id = r.target_id
  ),
  links as (
    select l.*, s.name as source, s.type as source_type, t.name as target, t.type as target_type
    from data.links l join entities s on s.id = l.entity_id join entities t on t.id = l.target_id
  ),
  members (type, name, used_by) as (
    select e.type, rowhouse.camel(f.name), format('property %s of %s', f.name, e.name)
    from entities e join data.fields f on f.entity_id = e.id
    union all
    select e.type, rowhouse.camel(c), format('system column %s of %s', c, e.name)
    from entities e, unnest(data.system_columns()) c
    union all
    select r.source_type, rowhouse.camel(r.name), format('relation %s of %s (x-relation name)', r.name, r.source) from relations r
    union all
    select r.target_type, rowhouse.camel(r.inverse_name),
      format('relation %s of %s (x-relation inverse of %s.%s)', r.inverse_name, r.target, r.source, r.field)
    from (select inverse_name, target, target_type, source, field from relations
      union all select inverse_name, target, target_type, source, field from links) r
    union all
    select l.source_type, rowhouse.camel(l.name), format('relation %s of %s (x-relation name)', l.name, l.source)
    from links l where l.name <> l.field
  )
  select 'Query', n, format('entity %s', e.name) from entities e, unnest(array[e.one, e.many]) n
  union all
  select 'Query', e.one || 'By' || rowhouse.upper_camel(f.name), format('unique property %s of %s', f.name, e.name)
  from entities e join data.fields f on f.entity_id = e.id where f.is_unique
  union all
  select 'Query',
    e.one || 'By' || (select string_agg(rowhouse.upper_camel(f), 'And' order by n) from unnest(s.fields) with ordinality x (f, n)),
    format('unique properties %s of %s', array_to_string(s.fields, ', '), e.name)
  from entities e join data.entities d on d.id = e.id, data.unique_sets(d.schema) s
  union all
  select 'Query', n, 'GraphQL itself' from unnest(array['query', 'node', 'nodeId', 'search', 'findUnion', 'aggregateUnion']) n
  union all
  select 'Query', e.many || 'Estimate', format('entity %s', e.name) from entities e
  union all
  select k.scope, k.name, format('%s of %s', k.option, e.name)
  from entities e join data.entities d on d.id = e.id, lateral (values
    ('x-soft-delete', 'Query', 'deleted' || rowhouse.upper_camel(data.plural(e.name))),
    ('x-soft-delete', e.type, 'deletedAt'),
    ('x-soft-delete', e.type, 'deletedBy'),
    ('x-soft-delete', 'the schema', 'Restore' || e.type || 'Input'),
    ('x-soft-delete', 'the schema', 'Restore' || e.type || 'Payload'),
    ('x-history', 'Query', e.one || 'History'),
    ('x-history', 'Query', e.one || 'AsOf'),
    ('x-history', 'Query', e.many || 'AsOf'))
    k (option, scope, name)
  where d.schema->k.option = 'true'
  union all
  select 'the schema', 'Purge' || e.type || s, format('kept records of %s', e.name)
  from entities e join data.entities d on d.id = e.id, unnest(array['Input', 'Payload']) s where data.keeps_records(d.schema)
  union all
  select 'the schema', e.type || s, format('entity %s', e.name)
  from entities e, unnest(array['', 'Connection', 'Edge', 'OrderBy', 'Sort', 'Filter', 'Input', 'Patch', 'Aggregates', 'GroupBy',
    'HavingInput']) s
  union all
  select 'the schema', e.type || s, format('aggregates of entity %s', e.name)
  from entities e, unnest(array['Sum', 'Avg', 'Min', 'Max', 'DistinctCount']) f,
    unnest(array[f || 'Aggregates', 'Having' || f || 'Input']) s
  union all
  select 'the schema', v || e.type || s, format('entity %s', e.name)
  from entities e, unnest(array['Create', 'Update', 'Delete']) v, unnest(array['Input', 'Payload']) s
  union all
  select 'the schema', v || rowhouse.upper_camel(e.many) || s, format('batches of entity %s', e.name)
  from entities e, unnest(array['Create', 'Update', 'Delete', 'Upsert']) v, unnest(array['Input', 'Payload']) s
  union all
  select distinct 'the schema', format('%sToMany%sFilter', r.target_type, r.source_type),
    format('relations from %s to %s', r.source, r.target)
  from (select target_type, source_type, source, target from relations
    union all select target_type, source_type, source, target from links
    union all select source_type, target_type, target, source from links) r
  union all
  select 'the schema', t || s, 'GraphQL itself'
  from unnest(array['String', 'Int', 'Float', 'Boolean', 'ID', 'BigInt', 'BigFloat', 'Datetime', 'Date', 'UUID', 'JSON',
    'Cursor']) t, unnest(array['', 'Filter', 'ListFilter', 'Input', 'Connection', 'Edge']) s
  union all
  select 'the schema', t, 'GraphQL itself'
  from unnest(array['Query', 'Mutation', 'Subscription', 'Node', 'PageInfo', 'SearchHit', 'RecordChange', 'UnionRecord', 'UnionPage',
    'UnionGroups', 'UnionSort', 'SortDirection', 'CountEstimate']) t
  union all
  select 'the schema', format('Having%sFilter', t), 'GraphQL itself'
  from unnest(array['Int', 'Bigint', 'Float', 'Bigfloat', 'Datetime', 'String']) t
  union all
  select m.type, m.name, m.used_by from members m
  union all
  select distinct e.type, n, 'GraphQL itself' from entities e, unnest(array['nodeId', 'and', 'or', 'not', 'clientMutationId']) n
  union all
  select r.source_type, rowhouse.camel(r.name) || 'Exists', format('the filter on relation %s of %s', r.name, r.source) from relations r
  union all
  select r.target_type, rowhouse.camel(r.inverse_name) || s, format('the filter on relation %s of %s', r.inverse_name, r.target)
  from relations r, unnest(array['Exist', 'Exists']) s
  union all
  select l.target_type, rowhouse.camel(l.inverse_name) || 'Exist', format('the filter on relation %s of %s', l.inverse_name, l.target)
  from links l
  union all
  select l.source_type, rowhouse.camel(l.name) || 'Exist', format('the filter on relation %s of %s', l.name, l.source) from links l
$$;
comment on function data.graphql_names(uuid) is
  'Every name the GraphQL schema of an app has: the type it belongs to, the name and what asks for it. A name twice in one scope is a collision.';

create or replace function data.refuse_collisions(app_id uuid) returns void
language plpgsql stable set search_path = '' as $$
declare
  _clash record;
begin
  select n.scope, n.name, array_agg(n.used_by order by n.used_by = 'GraphQL itself', n.used_by) as users into _clash
  from data.graphql_names(refuse_collisions.app_id) n
  group by n.scope, n.name having count(*) > 1
  order by n.scope <> 'the schema', n.scope, n.name limit 1;
  if _clash.name is not null then
    perform rowhouse.fail(400, format('The name %s would be used twice in GraphQL (%s): by %s', _clash.name, _clash.scope,
      array_to_string(_clash.users, ' and by ')),
      'Rename one of them; a relation is renamed with "name" and "inverse" in its x-relation.', 'name_collision');
  end if;
end
$$;
comment on function data.refuse_collisions(uuid) is 'Raises RH400 when two things of an app would have the same GraphQL name.';
