-- Search for an entity with many records is filled by a worker (build_index.sql), while clients go on: the column and the triggers come at
-- once, so that whatever is written meanwhile is there; the index comes on the empty column; then records are filled batch by batch.
-- 200,000 records of 32 words used to be locked for 46 s.

create or replace function data.search_state(entity data.entities, schema_name text) returns text
language sql stable set search_path = '' as $$
  select pg_catalog.col_description(a.attrelid, a.attnum) from pg_catalog.pg_attribute a
  where a.attrelid = to_regclass(data.storage_table(entity, search_state.schema_name)) and a.attname = '_search' and not a.attisdropped
$$;
comment on function data.search_state(data.entities, text) is
  'The fingerprint of the search that an entity''s storage has, ''building '' and it while a worker fills it, or null.';

create or replace function data.search_statements(entity data.entities, schema_name text) returns text[]
language sql stable set search_path = '' as $$
  select case when data.search_fingerprint(entity) <> coalesce(regexp_replace(data.search_state(entity, schema_name), '^building ', ''), '')
    and data.builds_online(entity)
    then array[format('create index if not exists %I on %s using gin (_search) where _search is not null',
      data.index_name(entity, '_search', 'idx'), data.storage_table(entity, schema_name))]
    else '{}' end
$$;
comment on function data.search_statements(data.entities, text) is 'The statement of the search index that a definition leaves to a worker, if it does.';

create or replace function data.fills_search(entity data.entities, schema_name text) returns boolean
language sql stable set search_path = '' as $$
  select coalesce(data.search_fingerprint(entity) <> coalesce(data.search_state(entity, fills_search.schema_name), '')
    and not data.builds_online(entity), false)
$$;
comment on function data.fills_search(data.entities, text) is 'Whether a definition fills the search of every record while it holds its lock, as it does for few records.';

create or replace function data.defer_search(entity data.entities, schema_name text) returns void
language plpgsql set search_path = '' as $$
begin
  perform data.drop_search(entity, defer_search.schema_name);
  perform data.build_search_rule(entity, defer_search.schema_name);
  perform data.create_search(entity, defer_search.schema_name, 'building ' || data.search_fingerprint(entity));
end
$$;
comment on function data.defer_search(data.entities, text) is 'Gives an entity''s storage what its search needs, empty: new records have it, and until the worker is done nothing can be searched.';

create or replace function data.search_assignment(entity data.entities, schema_name text) returns text
language sql stable set search_path = '' as $$
  select format('_search = coalesce(t._search, %s)', data.search_vector(entity, 't'))
  where data.search_state(entity, schema_name) like 'building %'
$$;
comment on function data.search_assignment(data.entities, text) is 'What fills the search of a storage row (t), where it is not filled; null when no worker is at it.';

create or replace function data.learning_words(entity data.entities, schema_name text, statement text) returns text
language sql stable set search_path = '' as $$
  select format('with filled as (%s returning %s as v) insert into %I.%I select w from (select distinct unnest(tsvector_to_array(f.v)) from filled f) x (w) where %s and not exists (select from %3$I.%4$I k where k.word = w)',
    statement, data.search_word_source(entity, 't'), schema_name, entity.name || '__words', data.search_word_condition())
$$;
comment on function data.learning_words(data.entities, text, text) is 'A statement that updates storage rows (t), and adds their words to the vocabulary, too.';

create or replace function data.finish_search(entity data.entities, schema_name text) returns void
language plpgsql set search_path = '' as $$
begin
  if data.search_state(entity, finish_search.schema_name) like 'building %' then
    execute format('comment on column %s._search is %L', data.storage_table(entity, finish_search.schema_name),
      data.search_fingerprint(entity));
  end if;
end
$$;
comment on function data.finish_search(data.entities, text) is 'Says that an entity''s search is filled, so that the next data.build_search lets it be used.';

create or replace function data.without_search(schema jsonb) returns jsonb
language sql immutable parallel safe set search_path = '' as $$
  select (without_search.schema - 'x-search'::text) || jsonb_build_object('properties', (
    select jsonb_object_agg(p.key, p.value - 'x-search'::text) from jsonb_each(without_search.schema->'properties') p))
$$;
comment on function data.without_search(jsonb) is 'A schema of which nothing is searched.';

-- The vocabulary is the entity's, whatever its storage; what is searched is copied with the records.
create or replace function data.begin_search(entity data.entities, target data.entities, schema_name text) returns void
language plpgsql set search_path = '' as $$
declare
  _table text := data.storage_table(target, begin_search.schema_name);
begin
  if data.search_state(entity, begin_search.schema_name) = data.search_fingerprint(entity) then
    execute format('alter table %s add column _search tsvector', _table);
    execute format('comment on column %s._search is %L', _table, 'converting ' || data.search_fingerprint(entity));
    execute format('create index %I on %s using gin (_search)', data.index_name(target, '_search', 'idx'), _table);
  end if;
end
$$;
comment on function data.begin_search(data.entities, data.entities, text) is
  'Gives the new storage of an entity a place for what is searched, which copying fills, so that nobody waits for it when storages are switched.';

create or replace function data.switch_search(entity data.entities, schema_name text) returns void
language plpgsql set search_path = '' as $$
begin
  if data.search_state(entity, switch_search.schema_name) = 'converting ' || data.search_fingerprint(entity) then
    execute format('comment on column %s._search is %L', data.storage_table(entity, switch_search.schema_name),
      data.search_fingerprint(entity));
    perform data.build_search_rule(entity, switch_search.schema_name);
    perform data.build_search_triggers(entity, switch_search.schema_name);
  end if;
end
$$;
comment on function data.switch_search(data.entities, text) is 'Lets the search that data.begin_search began serve the storage that is the entity''s now.';
