-- What an entity's storage and its parts are called. jsonb came first, and its indexes have the entity's own name.

create or replace function data.storage_name(entity data.entities) returns text
language sql immutable parallel safe set search_path = '' as $$ select entity.name || '_' || entity.storage $$;
comment on function data.storage_name(data.entities) is 'The name of an entity''s storage table: contacts_jsonb or contacts_flat.';

create or replace function data.storage_table(entity data.entities, schema_name text) returns text
language sql immutable parallel safe set search_path = '' as $$ select format('%I.%I', schema_name, data.storage_name(entity)) $$;
comment on function data.storage_table(data.entities, text) is 'An entity''s storage table as SQL, with its schema.';

create or replace function data.index_name(entity data.entities, variadic parts text[]) returns text
language sql immutable parallel safe set search_path = '' as $$
  select data.object_name(variadic case entity.storage when 'jsonb' then entity.name else data.storage_name(entity) end || index_name.parts)
$$;
comment on function data.index_name(data.entities, text[]) is
  'The name of an index or a constraint of an entity''s storage. Both storages have names of their own, so that one can be built beside the other.';

-- In flat storage data is written and never kept: the write rule takes it apart into the columns.
create or replace function data.record_source(entity data.entities, alias text) returns text
language sql stable set search_path = '' as $$
  select case
    when entity.storage = 'flat' then coalesce('(' || d || ' || ' || data.flat_source(entity, alias) || ')', data.flat_source(entity, alias))
    when exists (select from data.entity_versions v
      where v.entity_id = entity.id and v.version > entity.oldest_version and v.transforms <> '[]')
      then format('(case when %1$s._schema_version = %2$s then %1$s.data else (%3$I.%4$I(%1$s.data, %1$s._dropped, %1$s._schema_version)).data end)',
        alias, entity.version, a.schema_name, entity.name || '_upgraded')
    else alias || '.data'
  end
  from tenancy.apps a,
    lateral (select quote_literal(nullif(data.pending_defaults(entity), '{}')) || '::jsonb') x (d)
  where a.id = entity.app_id
$$;
comment on function data.record_source(data.entities, text) is
  'The SQL expression for the data of a storage row (alias), as of the entity''s current definition.';

create or replace function data.upgraded_source(entity data.entities, alias text) returns text
language sql stable set search_path = '' as $$
  select case when entity.storage = 'jsonb' or data.is_retyping(entity) then data.record_source(entity, alias)
    else format('(%I.%I(%s, (select jsonb_object_agg(key, value) from jsonb_each(to_jsonb(%s.*)) where key ~ ''@'' and value <> ''null''), %s)).data',
      a.schema_name, entity.name || '_upgraded', data.record_source(entity, alias), alias, entity.version - 1) end
  from tenancy.apps a where a.id = entity.app_id
$$;
comment on function data.upgraded_source(data.entities, text) is
  'What the data of a storage row (alias) will be under a definition that the storage does not follow yet.';

create or replace function data.storage_columns(entity data.entities) returns text[]
language sql stable set search_path = '' as $$
  select data.system_columns() || '{data,_schema_version,_dropped,_search,_links}'
    || array(select a.attname::text from tenancy.apps p, pg_catalog.pg_attribute a
      where p.id = entity.app_id and a.attrelid = to_regclass(data.storage_table(entity, p.schema_name)) and a.attnum > 0
        and not a.attisdropped
        and a.attname ~ '@')
$$;
comment on function data.storage_columns(data.entities) is
  'The columns of an entity''s storage that hold no field: stamps, data, what search needs, and in flat storage the columns of dropped fields (name@version).';
