-- The typed view of an entity: what GraphQL, REST, psql and BI tools see.

drop function if exists data.column_list(uuid, text), data.column_list(data.entities, text), data.view_columns(data.entities, text);
create or replace function data.view_columns(entity data.entities, source text, links text default 'linked')
  returns table ("position" int, name text, expression text)
language sql stable set search_path = '' as $$
  with stored (position, name, expression) as materialized (
    select 0, 'id', source || '.id'
    union all
    select f.position, f.name, case when f.is_promoted then data.promoted_source(f, source)
      else data.column_value(f, data.field_source(entity, f.name, source)) end
    from data.fields f where f.entity_id = entity.id and not data.is_virtual(f.schema) and not (f.is_filling and f.schema ? 'x-computed')
    union all
    select 10000 + o, c, format('%s.%I', source, c)
    from unnest(array['created_at', 'updated_at', 'version', 'created_by']) with ordinality s (c, o)
  ),
  base as (
    select jsonb_object_agg(s.name, case s.name when 'version' then s.expression || '::int8' else s.expression end) as columns from stored s
  ),
  virtual as (
    select v.* from base b, data.virtual_columns(data.shown_schema(entity), b.columns) v
    where not entity.schema->'properties'->v.name ? 'x-rollup'
    union all
    select r.* from base b, data.rollup_columns(entity, b.columns) r
    union all
    select l.* from data.link_columns(entity, source, view_columns.links) l
  )
  select * from stored
  union all
  select f.position, v.name, v.expression from virtual v join data.fields f on f.entity_id = entity.id and f.name = v.name
  union all
  select f.position, f.name, s.expression from data.fields f join stored s on s.name = f.schema->>'x-alias' where f.entity_id = entity.id
$$;
comment on function data.view_columns(data.entities, text, text) is
  'The columns of an entity''s view, each with the SQL that reads it out of a storage row (alias source); links says how lists of links are read (data.link_columns).';

-- A view that is there keeps its columns where they are, so that new ones can be appended to it.
create or replace function data.placed_columns(entity data.entities, source text, links text)
  returns table (name text, expression text, place int)
language sql stable set search_path = '' as $$
  select x.name, x.expression, coalesce(v.attnum, 20000 + x.position)::int
  from access.shown_columns(entity, source, placed_columns.links) x
  left join pg_catalog.pg_attribute v on v.attname = x.name and v.attrelid = (
    select to_regclass(format('%I.%I', a.schema_name, entity.name)) from tenancy.apps a where a.id = entity.app_id)
$$;
comment on function data.placed_columns(data.entities, text, text) is 'The columns of an entity''s view with their places in it.';

create or replace function data.column_names(entity data.entities, alias text) returns text
language sql stable set search_path = '' as $$
  select string_agg(format('%s.%I', column_names.alias, x.name), ', ' order by x.place) from data.placed_columns(entity, 't', 'linked') x
$$;
comment on function data.column_names(data.entities, text) is 'The columns of an entity''s view in their order, of rows called alias, as SQL.';

create or replace function data.column_list(entity data.entities, source text, links text default 'linked') returns text
language sql stable set search_path = '' as $$
  select string_agg(x.expression || ' as ' || quote_ident(x.name), ', ' order by x.place)
  from data.placed_columns(entity, source, column_list.links) x
$$;
comment on function data.column_list(data.entities, text, text) is
  'The select list that shows storage rows (alias source) as the entity''s view does; links says how lists of links are read (data.link_columns).';

-- A view that is dropped and made anew has another identity: a statement that has begun does not find it.
create or replace function data.keeps_view(entity data.entities, schema_name text, old data.fields[], statements text[]) returns boolean
language sql stable set search_path = '' as $$
  select to_regclass(format('%I.%I', schema_name, entity.name)) is not null
    and not exists (
      select from unnest(keeps_view.old) o left join data.fields f on f.entity_id = entity.id and f.name = o.name
      where f.name is null or f.sql_type <> o.sql_type or (o.schema ? 'x-rollup' or f.schema ? 'x-rollup')
        and o.schema is distinct from f.schema)
    and not exists (
      select from unnest(statements) d, unnest(statements) s
      where substring(d from ' drop column if exists (\S+)$') in (substring(s from ' add column if not exists (\S+) '),
        substring(s from ' rename column \S+ to (\S+)$')))
$$;
comment on function data.keeps_view(data.entities, text, data.fields[], text[]) is
  'Whether an entity''s view can be replaced where it stands: no column it has goes or gets another type. Columns may be added.';

create or replace function data.build_view(entity data.entities, schema_name text) returns void
language plpgsql set search_path = '' as $$
declare
  _view text := format('%I.%I', build_view.schema_name, entity.name);
  _role name;
begin
  select s.role_name into _role from tenancy.sites s where s.id = entity.site_id;
  execute format('create or replace view %s as select %s from %s t', _view, data.column_list(entity, 't'),
    data.storage_table(entity, build_view.schema_name))
    || case when audit.reads_are_on(entity.schema) then format(' where (select audit.note_read(%L))', entity.id) else '' end;
  execute format('alter view %s owner to rowhouse_data', _view);
  execute format('grant select, insert, update, delete on %s to %I, rowhouse_owner', _view, _role);
  perform data.comment_view(entity, build_view.schema_name);
  perform access.build_seen_views(entity, build_view.schema_name);
end
$$;
comment on function data.build_view(data.entities, text) is 'Creates an entity''s view, owned by a role under the storage''s row-level security.';
