-- What search needs beside an entity's records: a weighted tsvector in the storage (_search), and a vocabulary
-- (<entity>__words) in which misspelt words are looked up. Names that no property and no entity can have.

create or replace function data.search_source(entity data.entities, row_name text, weight text default null) returns text
language sql stable set search_path = '' as $$
  select 'concat_ws(E''\n'', '
    || string_agg(case when (s.field).kind in ('array', 'object') then format('data.search_text(%s)', x.value) else x.value end, ', ')
    || ')'
  from data.search_fields(entity.id) s, lateral (
    select case when (s.field).is_promoted then format('%s.%I', row_name, (s.field).name)
      else data.column_value(s.field, data.field_source(entity, (s.field).name, row_name)) end) x (value)
  where s.weight = search_source.weight or search_source.weight is null
$$;
comment on function data.search_source(data.entities, text, text) is 'The SQL expression for the searched text of a storage row, of one weight or of all.';

create or replace function data.search_vector(entity data.entities, row_name text) returns text
language sql stable set search_path = '' as $$
  select string_agg(format(case w.weight when 'D' then 'to_tsvector(%s, data.search_words(%s))'
    else 'setweight(to_tsvector(%s, data.search_words(%s)), %L)' end,
    data.search_configuration(entity), data.search_source(entity, row_name, w.weight), w.weight), ' || ' order by w.weight)
  from (select distinct s.weight from data.search_fields(entity.id) s) w
$$;
comment on function data.search_vector(data.entities, text) is 'The SQL expression for the tsvector of a storage row.';

-- Not of the expressions: these name the definition's version, and most changes of a definition change nothing here.
create or replace function data.search_fingerprint(entity data.entities) returns text
language sql stable set search_path = '' as $$
  select md5(jsonb_build_array(entity.schema->'x-search', jsonb_agg(jsonb_build_array((s.field).name, (s.field).kind, s.weight)), (
    select jsonb_agg(distinct v.version) from data.entity_versions v, jsonb_array_elements(v.transforms) t
    join data.search_fields(entity.id) f on (f.field).name in (t->>'field', t->>'from', t->>'to') where v.entity_id = entity.id))::text)
  from data.search_fields(entity.id) s having count(*) > 0
$$;
comment on function data.search_fingerprint(data.entities) is
  'What the search of an entity is built from: its fields, weights and language, and the versions that changed those fields'' values; null where nothing is searched.';

create or replace function data.build_search(entity data.entities, schema_name text) returns void
language plpgsql set search_path = '' as $$
declare
  _fingerprint text := data.search_fingerprint(entity);
  _built text := data.search_state(entity, build_search.schema_name);
begin
  if _built = 'building ' || _fingerprint then
    perform data.build_search_rule(entity, build_search.schema_name);
    return;
  elsif _fingerprint is null or _built is distinct from _fingerprint then
    perform data.drop_search(entity, build_search.schema_name);
  end if;
  if _fingerprint is null then
    return;
  end if;
  perform data.build_search_rule(entity, build_search.schema_name);
  if _built is distinct from _fingerprint then
    perform data.fill_search(entity, build_search.schema_name, _fingerprint);
  end if;
  perform data.build_search_functions(entity, build_search.schema_name);
end
$$;
comment on function data.build_search(data.entities, text) is
  'Makes the storage of an entity what its x-search asks for; fills it for existing records where fields, weights, language or storage changed.';

create or replace function data.create_search(entity data.entities, schema_name text, state text) returns void
language plpgsql set search_path = '' as $$
declare
  _table text := data.storage_table(entity, create_search.schema_name);
  _words text := format('%I.%I', create_search.schema_name, entity.name || '__words');
begin
  execute format('create table %s (word text not null)', _words);
  execute format('grant select, insert on %s to rowhouse_data', _words);
  execute format('alter table %s enable row level security, force row level security', _words);
  -- Only our functions are rowhouse_data; what they find here they never show.
  execute format('create policy words_all on %s to rowhouse_owner, rowhouse_data using (true) with check (true)', _words);
  execute format('comment on table %s is %L', _words, E'@behavior -*\nWords of an entity''s records; use search.');
  execute format('create index %I on %s (word)', data.object_name(entity.name, '_words', 'idx'), _words);
  execute format('create index %I on %s using gin (word extensions.gin_trgm_ops) with (fastupdate = off)',
    data.object_name(entity.name, '_words', 'trgm'), _words);
  execute format('alter table %s add column _search tsvector', _table);
  execute format('comment on column %s._search is %L', _table, create_search.state);
  perform data.build_search_triggers(entity, create_search.schema_name);
end
$$;
comment on function data.create_search(data.entities, text, text) is
  'Adds the tsvector, empty, and the vocabulary to an entity''s storage, with the triggers that keep them; state is what data.search_state says from now on.';

create or replace function data.fill_search(entity data.entities, schema_name text, fingerprint text) returns void
language plpgsql set search_path = '' as $$
declare
  _table text := data.storage_table(entity, fill_search.schema_name);
begin
  perform data.create_search(entity, fill_search.schema_name, fill_search.fingerprint);
  set local rowhouse.maintenance = 'on';
  execute format('update %s t set _search = %s', _table, data.search_vector(entity, 't'));
  set local rowhouse.maintenance = '';
  set constraints all immediate;
  execute format('insert into %I.%I select distinct w from %s t, unnest(tsvector_to_array(%s)) w where %s', fill_search.schema_name,
    entity.name || '__words', _table,
    data.search_word_source(entity, 't'), data.search_word_condition());
  execute format('create index %I on %s using gin (_search)', data.index_name(entity, '_search', 'idx'), _table);
end
$$;
comment on function data.fill_search(data.entities, text, text) is
  'Adds the tsvector and the vocabulary to an entity''s storage, filled from its records, with indexes and triggers.';

-- Words as they are written, not stems: a misspelt word is compared with them. Where the language has no stems they are
-- in the tsvector already.
create or replace function data.search_word_source(entity data.entities, row_name text) returns text
language sql stable set search_path = '' as $$
  select case when coalesce(entity.schema->'x-search'->>'language', 'simple') = 'simple' then row_name || '._search'
    else format('to_tsvector(''data.simple''::pg_catalog.regconfig, data.search_words(%s))', data.search_source(entity, row_name)) end
$$;
comment on function data.search_word_source(data.entities, text) is 'The SQL expression for a tsvector with the words of a storage row.';

create or replace function data.search_word_condition() returns text
language sql immutable set search_path = '' as $$ select 'length(w) between 3 and 40 and w !~ ''[0-9]''' $$;
comment on function data.search_word_condition() is 'Which words (w) can be misspelt, as SQL: numbers and codes cannot.';

-- The condition comes last: before the known words are taken away it made the planner expect few, and look each up by itself
-- (15.5 µs a record of 30 words; 7.5 so). Where the tsvector holds stems, the distinct words of a whole statement are read as search
-- reads them, and not each record once more (16 µs).
create or replace function data.search_new_words(entity data.entities, schema_name text, written text) returns text
language sql stable set search_path = '' as $$
  select format(case when data.search_word_source(entity, 't') = 't._search' then $sql$select x.w from (
            select d.w from (select distinct unnest(tsvector_to_array(t._search)) from %3$s) d (w)
            where not exists (select from %1$s v where v.word = d.w) offset 0) x
          where %2$s$sql$
    else $sql$select x.w from (
            select distinct l.w from (
              select d.w from (select distinct unnest(string_to_array(data.search_words(%4$s), ' ')) from %3$s) d (w)
              where d.w <> '' and not exists (select from %1$s v where v.word = d.w) offset 0) s,
              unnest(tsvector_to_array(to_tsvector('data.simple'::pg_catalog.regconfig, s.w))) l (w)
            where not exists (select from %1$s v where v.word = l.w)) x
          where %2$s$sql$ end,
    format('%I.%I', search_new_words.schema_name, entity.name || '__words'), data.search_word_condition(), written,
    data.search_source(entity, 't'))
$$;
comment on function data.search_new_words(data.entities, text, text) is
  'The query for the words of written storage rows (t) that an entity''s vocabulary lacks; written is what stands behind from.';

create or replace function data.build_search_rule(entity data.entities, schema_name text) returns void
language plpgsql set search_path = '' as $$
declare
  _keep text := format('%I.%I', build_search_rule.schema_name, entity.name || '_keep_search');
  _learn text := format('%I.%I', build_search_rule.schema_name, entity.name || '_learn_words');
begin
  perform rowhouse.create_function($sql$
    create or replace function %1$s() returns trigger language plpgsql set search_path = '' $sql$, $sql$
    begin
      if tg_op = 'INSERT' or %2$s is distinct from %3$s then
        new._search := %4$s;
      end if;
      return new;
    end $sql$, _keep, data.search_source(entity, 'new'), data.search_source(entity, 'old'), data.search_vector(entity, 'new'));
  -- Not unique, and no "on conflict": two transactions with the same new words would wait for each other, or deadlock. A
  -- word that two add at once is there twice, which harms nobody.
  perform rowhouse.create_function($sql$
    create or replace function %1$s() returns trigger language plpgsql set search_path = '' $sql$, $sql$
    begin
      if tg_op = 'INSERT' then
        insert into %2$s %3$s;
      else
        insert into %2$s %4$s;
      end if;
      return null;
    end $sql$, _learn, format('%I.%I', build_search_rule.schema_name, entity.name || '__words'),
    data.search_new_words(entity, build_search_rule.schema_name, 'written t'),
    data.search_new_words(entity, build_search_rule.schema_name,
      'written t join replaced o on o.id = t.id and o._search is distinct from t._search'));
  execute format('revoke all on function %s(), %s() from public', _keep, _learn);
end
$$;
comment on function data.build_search_rule(data.entities, text) is
  'Generates the trigger functions that keep an entity''s tsvector and vocabulary.';

create or replace function data.build_search_triggers(entity data.entities, schema_name text) returns void
language plpgsql set search_path = '' as $$
declare
  _table text := data.storage_table(entity, build_search_triggers.schema_name);
begin
  -- Triggers of a kind run in the order of their names: after <entity>_before_write, which settles the data.
  execute format('create trigger %I before insert or update on %s for each row when (not data.is_maintenance()) execute function %I.%I()',
    entity.name || '_keep_search', _table, build_search_triggers.schema_name, entity.name || '_keep_search');
  execute format('create trigger %I after insert on %s referencing new table as written for each statement when (not data.is_maintenance()) execute function %I.%I()',
    entity.name || '_learn_inserted', _table, build_search_triggers.schema_name, entity.name || '_learn_words');
  execute format('create trigger %I after update on %s referencing old table as replaced new table as written for each statement when (not data.is_maintenance()) execute function %I.%I()',
    entity.name || '_learn_updated', _table, build_search_triggers.schema_name, entity.name || '_learn_words');
end
$$;
comment on function data.build_search_triggers(data.entities, text) is 'Sets the triggers that keep an entity''s tsvector and vocabulary.';

create or replace function data.drop_search(entity data.entities, schema_name text) returns void
language plpgsql set search_path = '' as $$
declare
  _table text := data.storage_table(entity, drop_search.schema_name);
  _trigger text;
begin
  if to_regclass(_table) is not null then
    foreach _trigger in array array['_keep_search', '_learn_inserted', '_learn_updated'] loop
      execute format('drop trigger if exists %I on %s', entity.name || _trigger, _table);
    end loop;
    execute format('alter table %s drop column if exists _search', _table);
  end if;
  execute format('drop table if exists %I.%I', drop_search.schema_name, entity.name || '__words');
  execute format('drop function if exists %1$I.%2$I(), %1$I.%3$I(), %1$I.%4$I(text, bigint), %1$I.%5$I(tsquery)', drop_search.schema_name,
    entity.name || '_keep_search', entity.name || '_learn_words', entity.name || '_search', entity.name || '_candidates');
end
$$;
comment on function data.drop_search(data.entities, text) is 'Drops what data.build_search made.';
