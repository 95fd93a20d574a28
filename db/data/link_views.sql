-- How links are read. A link is there for those only who may see the records at both of its ends, and the list that it stands on in full:
-- the entity's view asks the storage of the other, and relations and filters go through a view of the links that asks both. Each end is a
-- scalar subquery, which the planner cannot turn into a join: before the first analyze it read 10,000 records for three (20 lists: 16 ms,
-- 0.6 so).

create or replace function data.link_columns(entity data.entities, source text, state text) returns table (name text, expression text)
language sql stable set search_path = '' as $$
  select l.field, case
    when link_columns.state = 'kept' then data.visible_list(format('%s.data->%L', source, l.field), data.storage_table(t, a.schema_name))
    when link_columns.state = 'written'
      then format('coalesce(case when %1$s._links #>> ''{%2$s,v}'' = %1$s.version::text then %1$s._links #> ''{%2$s,ids}'' end, %3$s)',
      source, l.field, x.list)
    else x.list end
  from data.links l join data.entities t on t.id = l.target_id join tenancy.apps a on a.id = entity.app_id,
    lateral (select format('(select coalesce(jsonb_agg(l.target_id order by l.position, l.target_id), ''[]'') from %s l where l.source_id = %s.id and (select true from %s r where r.id = l.target_id))',
      data.link_table(entity, a.schema_name, l.field), source, data.storage_table(t, a.schema_name))) x (list)
  where l.entity_id = entity.id
$$;
comment on function data.link_columns(data.entities, text, text) is
  'The SQL of an entity''s lists of links, for rows (alias source) of the storage (state linked), of a write''s RETURNING, which does not see the links it makes (written), or of kept records, which have none (kept).';

create or replace function data.visible_list(list text, target text) returns text
language sql immutable set search_path = '' as $$
  select format('(select coalesce(jsonb_agg(e.id order by e.n), ''[]'') from jsonb_array_elements_text(case jsonb_typeof(%1$s) when ''array'' then %1$s end) with ordinality e (id, n) where exists (select from %2$s r where r.id = e.id::uuid))',
    visible_list.list, visible_list.target)
$$;
comment on function data.visible_list(text, text) is 'The SQL of a jsonb list of ids without those that are in target for nobody or not for the reader.';

create or replace function data.with_visible_lists(entity data.entities, source text) returns text
language sql stable set search_path = '' as $$
  select with_visible_lists.source || coalesce(string_agg(format(' || jsonb_build_object(%L, %s)', l.field,
    data.visible_list(format('(%s)->%L', with_visible_lists.source, l.field), data.storage_table(t, a.schema_name))), '' order by l.field),
    '')
  from data.links l join data.entities t on t.id = l.target_id join tenancy.apps a on a.id = entity.app_id where l.entity_id = entity.id
$$;
comment on function data.with_visible_lists(data.entities, text) is 'The jsonb expression source with its lists of links as the reader may see them.';

create or replace function data.with_linked_lists(entity data.entities, source text, alias text) returns text
language sql stable set search_path = '' as $$
  select with_linked_lists.source
    || coalesce(string_agg(format(' || jsonb_build_object(%L, %s)', c.name, c.expression), '' order by c.name), '')
  from data.link_columns(entity, alias, 'linked') c
$$;
comment on function data.with_linked_lists(data.entities, text, text) is 'The jsonb expression source with the lists of links that a storage row (alias) has.';

create or replace function data.with_written_lists(record jsonb, links jsonb) returns jsonb
language sql immutable parallel safe set search_path = '' as $$
  select case when links is null then record
    else record || (select coalesce(jsonb_object_agg(key, value->'ids'), '{}') from jsonb_each(links)) end
$$;
comment on function data.with_written_lists(jsonb, jsonb) is 'A record''s data with its lists of links as they were last written.';

create or replace function data.build_link_views(entity data.entities, schema_name text) returns void
language plpgsql set search_path = '' as $$
declare
  _l record;
  _view text;
begin
  for _l in
    select l.field, s as source, t as target
    from data.links l
    join data.entities s on s.id = l.entity_id
    join data.entities t on t.id = l.target_id
    where entity.id in (l.entity_id, l.target_id) and to_regclass(data.link_table(s, build_link_views.schema_name, l.field)) is not null
    order by s.name, l.field
  loop
    _view := format('%I.%I', build_link_views.schema_name, data.link_view((_l.source).name, _l.field));
    execute format('create or replace view %s as select l.source_id, l.target_id, l.position from %s l
      where (select true from %s s where s.id = l.source_id%s) and (select true from %s t where t.id = l.target_id)', _view,
      data.link_table(_l.source, build_link_views.schema_name, _l.field), data.storage_table(_l.source, build_link_views.schema_name),
      coalesce(' and ' || access.seen_field_sql(_l.source, _l.field, 's'), ''),
      data.storage_table(_l.target, build_link_views.schema_name));
    execute format('alter view %s owner to rowhouse_data', _view);
    execute format('grant select on %s to %I, rowhouse_owner', _view,
      (select x.role_name from tenancy.sites x where x.id = entity.site_id));
    execute format('comment on view %s is %L', _view, E'@behavior -*\nLinks of ' || (_l.source).name || '.' || _l.field || '.');
  end loop;
end
$$;
comment on function data.build_link_views(data.entities, text) is 'Creates or replaces the views through which an entity''s links, in either direction, are followed.';

create or replace function data.drop_link_views(entity data.entities, schema_name text) returns void
language plpgsql set search_path = '' as $$
declare
  _view text;
begin
  for _view in
    select distinct v.oid::regclass::text
    from pg_catalog.pg_depend d
    join pg_catalog.pg_rewrite w on w.oid = d.objid
    join pg_catalog.pg_class v on v.oid = w.ev_class
    where d.classid = 'pg_catalog.pg_rewrite'::regclass
      and d.refobjid = to_regclass(data.storage_table(entity, drop_link_views.schema_name)) and v.relname ~ '__linked_'
      and v.relnamespace = to_regnamespace(quote_ident(drop_link_views.schema_name))
  loop
    execute format('drop view %s', _view);
  end loop;
end
$$;
comment on function data.drop_link_views(data.entities, text) is 'Drops the views through which an entity''s links are followed; data.build_link_views makes them anew.';
