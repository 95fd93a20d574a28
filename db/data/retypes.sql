-- A property of flat storage whose values become others, in an entity with many records: the column of before is kept under another
-- name (price@7, as of what version 7 drops) beside a new one, and a worker fills it. A record that it has not come by yet says so by
-- its _schema_version, and is converted when it is read, as in jsonb storage. Whatever is written is stored as it will be. With 200,000
-- records the lock was held for 5.7 s by a conversion and for 31 s by one by an expression, on a loaded machine; 0.4 s so.

create or replace function data.retyped_fields(entity data.entities, old data.fields[], transforms jsonb) returns text[]
language sql stable set search_path = '' as $$
  with converted as (
    select c.old_field, c.field
    from data.field_changes(entity, retyped_fields.old,
      (select coalesce(jsonb_object_agg(t->>'to', t->'from'), '{}') from jsonb_array_elements(transforms) t where t->>'op' = 'rename')) c
    where (c.field).name in (select t->>'field' from jsonb_array_elements(transforms) t where t->>'op' = 'convert')
  )
  select case when entity.storage = 'flat' and retyped_fields.old <> '{}' and data.builds_online(entity)
      -- Former states and deleted records are shaped like the storage, and have no such columns.
      and not data.keeps_records(entity.schema) and data.link_names(entity.schema) = '{}'
      and not exists (select from unnest(retyped_fields.old) o where data.is_linked(o.schema))
      and not exists (select from unnest(retyped_fields.old) o join data.fields f on f.entity_id = entity.id and f.name = o.name
        where o.schema ? 'x-alias' and not f.schema ? 'x-alias')
        and not exists (select from data.fields f where f.entity_id = entity.id and (f.is_unique or f.schema ? 'x-relation')
        and not exists (select from unnest(retyped_fields.old) o where o.name = f.name and o.is_unique = f.is_unique
          and o.schema->'x-relation' is not distinct from f.schema->'x-relation' and not o.schema ? 'x-computed'))
      and not exists (select from data.unique_sets(entity.schema) s, unnest(s.fields) n (name)
        where n.name in (select (c.field).name from converted c)
          or not exists (select from unnest(retyped_fields.old) o where o.name = n.name and not o.schema ? 'x-computed'))
      and not exists (select from data.entity_versions v where v.entity_id = entity.id and v.version = entity.version - 1
        and v.schema->'x-unique' is distinct from entity.schema->'x-unique')
      and not exists (
        select from converted c
        where (c.old_field).is_promoted is not true or (c.field).is_unique or (c.old_field).is_unique
          or ((c.old_field).schema || (c.field).schema) ?| array['x-computed', 'x-alias', 'x-relation', 'x-search']
          or (c.field).name = 'expires_at' and entity.schema ? 'x-ttl')
    then array(select (c.field).name from converted c order by 1) else '{}' end
$$;
comment on function data.retyped_fields(data.entities, data.fields[], jsonb) is
  'The fields of flat storage that a worker converts after a definition; old are the fields from before. None where they are converted at once.';

create or replace function data.former_column(entity data.entities, field text) returns text
language sql stable set search_path = '' as $$
  select coalesce((
      select t->>'from' from data.entity_versions v, jsonb_array_elements(v.transforms) t
      where v.entity_id = entity.id and v.version = entity.version and t->>'op' = 'rename' and t->>'to' = former_column.field),
    former_column.field) || '@' || entity.version
$$;
comment on function data.former_column(data.entities, text) is
  'The column of flat storage that holds what a field was before the current definition, while a worker converts it.';

create or replace function data.retyping(entity data.entities) returns table (field data.fields, former text)
language sql stable set search_path = '' as $$
  select f, c.attname::text
  from data.fields f
  join tenancy.apps a on a.id = entity.app_id
  join pg_catalog.pg_attribute c on c.attrelid = to_regclass(data.storage_table(entity, a.schema_name))
    and c.attname = data.former_column(entity, f.name) and not c.attisdropped
  where entity.storage = 'flat' and f.entity_id = entity.id and f.is_building and not f.is_promoted and not f.schema ? 'x-computed'
$$;
comment on function data.retyping(data.entities) is
  'The fields of flat storage that a worker is converting, each with the column of before.';

create or replace function data.is_retyping(entity data.entities) returns boolean
language sql stable set search_path = '' as $$ select exists (select from data.retyping(entity)) $$;
comment on function data.is_retyping(data.entities) is 'Whether records of an entity in flat storage may still have values of the definition before.';

-- Expressions that convert read the record by the names of before, and what goes at the same time, too.
create or replace function data.former_record(entity data.entities, alias text) returns text
language sql stable set search_path = '' as $$
  with held as (
    select p.key as name, case
        when p.key || '@' || entity.version in (select r.former from data.retyping(entity) r)
          or exists (select from jsonb_array_elements(v.transforms) t where t->>'op' = 'drop' and t->>'field' = p.key)
          then p.key || '@' || entity.version
        else coalesce((select t->>'to' from jsonb_array_elements(v.transforms) t where t->>'op' = 'rename' and t->>'from' = p.key), p.key)
      end as column_name, row_number() over (order by p.key) / 50 as page
    from data.entity_versions v
    join data.entity_versions o on o.entity_id = v.entity_id and o.version = v.version - 1
    cross join lateral jsonb_each(o.schema->'properties') p
    where v.entity_id = entity.id and v.version = entity.version and not data.is_linked(p.value)
      and not p.value ?| array['x-computed', 'x-alias', 'x-rollup']
  ), parts as (
    -- A function takes 100 arguments.
    select format('jsonb_build_object(%s)', string_agg(format('%L, %s.%I', h.name, alias, h.column_name), ', ' order by h.name)) as part
    from held h group by h.page
  )
  select 'data.without_nulls(' || string_agg(p.part, ' || ') || ')' from parts p
$$;
comment on function data.former_record(data.entities, text) is
  'The SQL of what the data of a storage row (alias) was under the definition before, where a worker has not converted it yet.';

create or replace function data.flat_source(entity data.entities, alias text) returns text
language sql stable set search_path = '' as $$
  select case when not data.is_retyping(entity) then plain
    else format('case when %1$s._schema_version = %2$s then %3$s else (%4$I.%5$I(%6$s, %1$s._dropped, %7$s)).data%8$s end', alias,
      entity.version, plain, a.schema_name, entity.name || '_upgraded', data.former_record(entity, alias), entity.version - 1, back) end
  from tenancy.apps a,
    lateral (select format('data.without_nulls(to_jsonb(%s.*) - %L::text[])', alias, data.storage_columns(entity))) x (plain),
    -- What came back has its column again, and is no part of the definition before.
    lateral (
      select coalesce(string_agg(format(' || data.without_nulls(jsonb_build_object(%L, %s.%I))', f.name, alias, f.name), ''), '')
      from data.fields f join data.entity_versions v on v.entity_id = f.entity_id and v.version = entity.version
      where f.entity_id = entity.id and f.is_promoted and not f.schema ? 'x-computed' and data.is_restored(v.transforms, f.name)
    ) r (back)
  where a.id = entity.app_id
$$;
comment on function data.flat_source(data.entities, text) is 'The SQL of the data of a row of flat storage (alias), as of the current definition.';

create or replace function data.retype_statements(entity data.entities, schema_name text, old data.fields) returns text[]
language sql stable set search_path = '' as $$
  select array(
      select format('drop index if exists %I.%I', retype_statements.schema_name, c.relname)
      from pg_catalog.pg_index i
      join pg_catalog.pg_class c on c.oid = i.indexrelid
      join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attname = old.name
      where i.indrelid = to_regclass(t) and a.attnum = any (i.indkey) order by c.relname)
    || format('alter table %s rename column %I to %I', t, old.name, old.name || '@' || entity.version)
  from data.storage_table(entity, retype_statements.schema_name) t
$$;
comment on function data.retype_statements(data.entities, text, data.fields) is
  'The statements that put the column of a field aside, which a worker converts from it.';

create or replace function data.finish_retyping(entity data.entities, schema_name text, former text[]) returns void
language plpgsql set search_path = '' as $$
declare
  _table text := data.storage_table(entity, schema_name);
  _column text;
begin
  foreach _column in array former loop
    -- What still reads it reads right: it says of each record whether it was converted. data.compact takes it away then.
    if not exists (select from pg_catalog.pg_depend d join pg_catalog.pg_attribute a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
      where d.refobjid = to_regclass(_table) and a.attname = _column and d.deptype = 'n') then
      execute format('alter table %s drop column %I', _table, _column);
    end if;
  end loop;
end
$$;
comment on function data.finish_retyping(data.entities, text, text[]) is 'Drops the columns of before when all records are converted.';

create or replace function data.refuse_untyping(entity data.entities) returns void
language plpgsql set search_path = '' as $$
begin
  if data.is_retyping(entity) then
    perform rowhouse.fail(409, format('Values of %s are being converted, which is not taken back half way', entity.name),
      format('Wait until it is done (data.operations); data.rollback(entity, %s) takes it back then, online, too.', entity.version - 1),
      'operation_running');
  end if;
end
$$;
comment on function data.refuse_untyping(data.entities) is 'Raises RH409 while a worker converts values of flat storage.';
