-- What the gateway needs to keep the results of reads (x-cache-ttl): how long, and a text that changes with the reader's
-- rights and with the records. It is asked for at every request, in place of the list.

create or replace function data.count_change() returns trigger
language plpgsql security definer set search_path = '' as $$
declare
  _id uuid := tg_argv[0];
begin
  -- A slot that nobody holds, never one to wait for: neither do two writers take turns here, nor can they deadlock.
  if current_setting('transaction_isolation') = 'read committed' then
    update data.changes c set count = c.count + 1
    where c.entity_id = _id and c.slot = (select s.slot from data.changes s where s.entity_id = _id limit 1 for update skip locked);
  end if;
  if not found or current_setting('transaction_isolation') <> 'read committed' then
    insert into data.changes (entity_id, site_id) values (_id, tg_argv[1]::uuid);
  end if;
  return null;
end
$$;
comment on function data.count_change() is 'Counts a change of a cached entity''s records; the count is seen when, and only when, the change is.';

create or replace function data.build_change_counter(entity data.entities, schema_name text) returns void
language plpgsql set search_path = '' as $$
begin
  execute format('drop trigger if exists %I on %s', entity.name || '_count_change', data.storage_table(entity, schema_name));
  if entity.schema ? 'x-cache-ttl' then
    execute format('
      create trigger %I after insert or update or delete or truncate on %s
      for each statement execute function data.count_change(%L, %L)',
      entity.name || '_count_change', data.storage_table(entity, schema_name), entity.id, entity.site_id);
  end if;
end
$$;
comment on function data.build_change_counter(data.entities, text) is 'Counts the changes of an entity''s records where its definition has x-cache-ttl.';

create or replace function data.change_count(entity_ids uuid[]) returns text
language sql stable security definer set search_path = '' as $$
  select string_agg(x.n::text, '.' order by e.place)
  from unnest(entity_ids) with ordinality e (id, place), lateral (
    select coalesce(sum(c.count), 0) as n from data.changes c where c.entity_id = e.id and c.site_id = tenancy.site_id()) x
$$;
comment on function data.change_count(uuid[]) is 'How often the records of cached entities of the site of the claims have changed, as this statement sees it.';

create or replace function data.entities_read(entity data.entities, schema_name text, sql text) returns setof data.entities
language sql stable set search_path = '' as $$
  with recursive found (id, relation) as (
    select e.id, to_regclass(format('%I.%I', schema_name, e.name)) from data.entities e
    where e.app_id = entity.app_id
      and entities_read.sql ~ ('(^|[^a-z0-9_])' || replace(format('%I.%I', schema_name, e.name), '.', '\.') || '([^a-z0-9_]|$)')
    union
    -- What a view itself looks at.
    select e.id, to_regclass(format('%I.%I', schema_name, e.name)) from found f
    join pg_catalog.pg_rewrite r on r.ev_class = f.relation
    join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_rewrite'::regclass and d.objid = r.oid
      and d.refclassid = 'pg_catalog.pg_class'::regclass
    join data.entities e on e.app_id = entity.app_id
      and d.refobjid in (to_regclass(format('%I.%I', schema_name, e.name)), to_regclass(data.storage_table(e, schema_name)))
  )
  select e.* from data.entities e where e.id in (select f.id from found f) order by e.name
$$;
comment on function data.entities_read(data.entities, text, text) is 'The entities of an app whose records a compiled statement reads, by the views it names and what those look at.';

create or replace function data.with_cache(entity data.entities, schema_name text, compiled jsonb) returns jsonb
language plpgsql stable set search_path = '' as $$
declare
  -- Who asks and when is not in the key; what a search finds depends on a vocabulary, and a rollup on records of others.
  _depends constant text := '(\mauth\.|\mtenancy\.|\maccess\.|\maudit\.|\mnow\(|timestamp\(|timeofday\(|current_setting\(|\mrandom\(|_search\(|__rollup_|CURRENT_|LOCALTIME)';
  _entities data.entities[];
  _app text := (select a.name from tenancy.apps a where a.id = entity.app_id);
  _key text;
begin
  if not entity.schema ? 'x-cache-ttl' then
    return compiled;
  end if;
  _entities := array(select e from data.entities_read(entity, schema_name, compiled->>'sql') e);
  if compiled->>'sql' ~ _depends or exists (
    select from unnest(_entities) e where not e.schema ? 'x-cache-ttl' or e.schema ? 'x-ttl'
      or pg_catalog.pg_get_viewdef(to_regclass(format('%I.%I', schema_name, e.name))) ~ _depends)
  then
    return compiled;
  end if;
  _key := format('access.rights_key(%L::uuid, %L::text[], ''read'') || ''/'' || data.change_count(%L::uuid[])', entity.site_id,
    array(select _app || '/' || e.name from unnest(_entities) e order by e.name),
    array(select e.id from unnest(_entities) e order by e.name));
  return compiled || jsonb_build_object('sql', format('select q.*, (select %s) as cache_key from (%s) q', _key, compiled->>'sql'),
    'cache', jsonb_build_object('ttl', (select min((e.schema->>'x-cache-ttl')::int) from unnest(_entities) e), 'sql', 'select ' || _key));
end
$$;
comment on function data.with_cache(data.entities, text, jsonb) is
  'A compiled read whose result may be kept, when every entity it reads has x-cache-ttl: with "cache": {"ttl" in seconds, "sql"}, and the text that sql returns as the last column, from the same snapshot as the result. Others come back as they are.';
