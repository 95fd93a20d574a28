-- Queries compare, sort and compute only by what the reader sees in full. That is asked in the statement, as compiled
-- statements are shared by all.

create or replace function access.path_field(entity_id uuid, path text, out target_id uuid, out field text)
language plpgsql stable set search_path = '' as $$
declare
  _r record := data.path_relation(entity_id, path);
  _f record;
begin
  if _r.id is null then
    target_id := entity_id;
    field := split_part(path, '.', 1);
  else
    _f := access.path_field(_r.id, _r.rest);
    target_id := _f.target_id;
    field := _f.field;
  end if;
end
$$;
comment on function access.path_field(uuid, text) is 'The field that a path (company.city) ends in, and the entity that has it. RH400 for a relation to many.';

create or replace function access.filter_fields(entity_id uuid, filter jsonb, depth int default 0)
  returns table (target_id uuid, field text)
language plpgsql stable set search_path = '' as $$
declare
  _key text;
  _value jsonb;
  _first text;
  _rest text;
  _r record;
begin
  if depth > 20 then
    return; -- data.compile_filter refuses it
  end if;
  for _key, _value in select k, v from jsonb_each(case jsonb_typeof(filter) when 'object' then filter else '{}' end) e (k, v) loop
    _first := split_part(_key, '.', 1);
    _rest := substr(_key, length(_first) + 2);
    if _key in ('$and', '$or') then
      return query select x.*
        from jsonb_array_elements(case jsonb_typeof(_value) when 'array' then _value else '[]' end) f,
        access.filter_fields(filter_fields.entity_id, f, depth + 1) x;
    elsif _key in ('$not', '$some', '$every', '$none') then
      return query select * from access.filter_fields(filter_fields.entity_id, _value, depth + 1);
    elsif _key like '$%' then
      continue;
    elsif data.is_field(filter_fields.entity_id, _first) and not data.is_link_filter(filter_fields.entity_id, _key, _value) then
      return query select filter_fields.entity_id, _first;
    else
      select * into _r from data.relation_of(filter_fields.entity_id, _first);
      if _r.id is not null then
        -- Who does not see what a relation stands on does not see where it leads.
        return query values (filter_fields.entity_id, _r.own), (filter_fields.entity_id, _first), (_r.id, _r.other);
        return query select l.entity_id, l.field from data.links l join data.entities s on s.id = l.entity_id
          where l.entity_id in (filter_fields.entity_id, _r.id) and data.link_view(s.name, l.field) = _r.link;
        return query select *
          from access.filter_fields(_r.id, case _rest when '' then _value else jsonb_build_object(_rest, _value) end, depth + 1);
      end if;
    end if;
  end loop;
end
$$;
comment on function access.filter_fields(uuid, jsonb, int) is 'The fields that a valid filter compares, with the entities that have them, relations followed.';

create or replace function access.query_fields(entity_id uuid, shape jsonb) returns table (target_id uuid, field text)
language sql stable set search_path = '' as $$
  select f.* from access.filter_fields(query_fields.entity_id, shape->'filter') f
  union
  select f.*
  from jsonb_array_elements(case when shape ?| array['group', 'aggregate'] then '[]' else data.normalize_sort(shape->'sort') end) s,
    access.path_field(query_fields.entity_id, s->>'field') f where s->>'field' not in ('_rank', 'entity')
  union
  select f.* from data.group_terms(shape->'group', null) g, access.path_field(query_fields.entity_id, g.path) f where g.path <> 'entity'
  union
  select f.* from (select a.path from data.aggregate_terms(shape->'aggregate') a
    where shape->'aggregate' is not null and a.path is not null and a.path <> 'entity') a,
    access.path_field(query_fields.entity_id, a.path) f
$$;
comment on function access.query_fields(uuid, jsonb) is 'The fields that a valid query filters, sorts, groups and computes by, with the entities that have them. RH400.';

create or replace function access.seen_condition(entity_id uuid, shape jsonb, but text default null) returns text
language plpgsql stable security definer set search_path = '' as $$
begin
  if shape ? '_share' then
    return format('(select access.require_share(%L)) and ', shape->>'_share');
  end if;
  perform data.require_known(seen_condition.entity_id);
  return coalesce((
    select string_agg(format('(select access.require_seen(%L, %L)) and ', x.target_id, x.fields), '' order by x.target_id)
    from (
      select q.target_id, array_agg(distinct r.field order by r.field) as fields
      from access.query_fields(seen_condition.entity_id, seen_condition.shape) q
      join data.entities e on e.id = q.target_id, access.restricted(e, access.field_shows(e)) r
      where r.field = q.field and (r.field, q.target_id) is distinct from (seen_condition.but, seen_condition.entity_id)
      group by q.target_id
    ) x), '');
end
$$;
comment on function access.seen_condition(uuid, jsonb, text) is
  'What a compiled query asks for before its filter: that the reader sees in full what it compares, sorts and computes by, but for the '
  'field but, of which its view asks that; as SQL that ends with and, empty where everybody does. RH404.';

-- Under a mask a column is an expression, which no index serves. So a field that has one has a view of its own, in which it is
-- the column itself, and which nobody can read who does not see that field in full.
create or replace function access.seen_view(entity data.entities, schema_name text, field text) returns text
language sql immutable parallel safe set search_path = '' as $$
  select case when seen_view.field is not null
    then format('%I.%I', seen_view.schema_name, data.object_name(entity.name || '__seen', seen_view.field)) end
$$;
comment on function access.seen_view(data.entities, text, text) is 'The view of an entity for those who see a field in full, as SQL; null for no field.';

create or replace function access.seen_view_fields(entity data.entities) returns text[]
language sql stable set search_path = '' as $$
  select array(
    select r.field
    from access.restricted(entity, access.field_shows(entity)) r
    join data.fields f on f.entity_id = (entity).id and f.name = r.field
    where not data.is_virtual(f.schema) and (f.is_unique or f.schema->'x-index' = 'true' or f.schema ? 'x-relation'
      or r.field in (select ltrim(n #>> '{}', '-') from jsonb_path_query((entity).schema, '$."x-unique"[*][*]') n)
      or r.field in (select ltrim(n #>> '{}', '-') from jsonb_path_query((entity).schema, '$."x-indexes"[*]."fields"[*]') n)) order by 1)
$$;
comment on function access.seen_view_fields(data.entities) is 'The fields of an entity that some do not see and that an index holds.';

create or replace function access.drop_seen_views(entity data.entities, schema_name text, but text[] default '{}') returns void
language plpgsql set search_path = '' as $$
declare
  _view text;
begin
  for _view in select c.oid::regclass::text from pg_catalog.pg_class c
    where c.relnamespace = to_regnamespace(quote_ident(drop_seen_views.schema_name)) and c.relkind = 'v'
      and starts_with(c.relname, entity.name || '__seen_')
      and format('%I.%I', drop_seen_views.schema_name, c.relname) <> all (drop_seen_views.but)
  loop
    execute format('drop view %s', _view);
  end loop;
end
$$;
comment on function access.drop_seen_views(data.entities, text, text[]) is 'Drops the views of an entity for those who see a field in full, but those that are named.';

-- Immutable, so that it is asked when a plan is made, and not again: a plan may serve another reader, whom the view asks itself.
create or replace function access.plan_seen(entity_id uuid, fields text[]) returns boolean
language plpgsql immutable set search_path = '' as $$
begin
  return access.require_seen(plan_seen.entity_id, plan_seen.fields);
end
$$;
comment on function access.plan_seen(uuid, text[]) is
  'access.require_seen while a statement is planned: with constants it is no part of the plan. Beside access.require_seen only, never in '
  'its place. Internal. RH403.';

create or replace function access.build_seen_views(entity data.entities, schema_name text) returns void
language plpgsql set search_path = '' as $$
declare
  _fields text[] := access.seen_view_fields(entity);
  _role name := (select s.role_name from tenancy.sites s where s.id = entity.site_id);
  _field text;
  _view text;
begin
  perform access.drop_seen_views(entity, build_seen_views.schema_name,
    array(select access.seen_view(entity, build_seen_views.schema_name, f) from unnest(_fields) f));
  foreach _field in array _fields loop
    _view := access.seen_view(entity, build_seen_views.schema_name, _field);
    -- Asked while it is planned, too: what EXPLAIN estimates tells of the values.
    execute format('create or replace view %s as select %s from %s t
      where (select access.require_seen(%4$L, %5$L)) and access.plan_seen(%4$L, %5$L)', _view, (
      select string_agg(case x.name when _field then v.expression else x.expression end || ' as ' || quote_ident(x.name), ', '
        order by x.place)
      from data.placed_columns(entity, 't', 'linked') x join data.view_columns(entity, 't') v using (name)),
      data.storage_table(entity, build_seen_views.schema_name), entity.id, array[_field]);
    execute format('alter view %s owner to rowhouse_data', _view);
    execute format('grant select on %s to %I, rowhouse_owner', _view, _role);
    execute format('comment on view %s is %L', _view, E'@behavior -*\nRecords for those who see ' || _field || ' in full.');
  end loop;
end
$$;
comment on function access.build_seen_views(data.entities, text) is 'Builds the views of an entity through which those who see a field in full find records by its index.';

create or replace function access.source_field(entity data.entities, shape jsonb) returns text
language sql stable security definer set search_path = '' as $$
  select f
  from unnest(case when shape ? '_share' then '{}' else access.seen_view_fields(data.require_known((entity).id)) end) f
  join lateral (
    select 1
    from data.filter_conditions(source_field.shape->'filter') c
    where c.field = f and not c.is_alternative and c.operator in ('$eq', '$in')
    union all select 2 from data.filter_conditions(source_field.shape->'filter') c where c.field = f and not c.is_alternative
    union all select 3 from jsonb_array_elements(data.normalize_sort(source_field.shape->'sort')) s where s->>'field' = f
    order by 1 limit 1) p (place) on true
  order by p.place, f limit 1
$$;
comment on function access.source_field(data.entities, jsonb) is
  'The masked field that a query filters or sorts by and that an index holds: it reads access.seen_view; null for none. RH404.';

create or replace function access.sees_all(entity_id uuid) returns boolean
language plpgsql stable security definer set search_path = '' as $$
declare
  _entity data.entities := data.require_known(sees_all.entity_id);
  _sees boolean;
begin
  if not access.is_special(_entity) then
    return true;
  end if;
  execute format('select (%s) and not (%s)', access.bits_sql(_entity, 'read', 'allow', array(
      select 1
      union select r.number
      from access.rules r
      where r.entity_id = _entity.id and r.action = 'read' and r.effect = 'allow' and r.row_condition is null), 't', true),
    coalesce((select string_agg(format('%s(''read'', %s) <> 0', access.rights_function(_entity), -w), ' or ')
      from unnest(access.words(_entity, 'read', 'deny')) w), 'false'))
  into _sees;
  return _sees;
end
$$;
comment on function access.sees_all(uuid) is
  'Whether the caller may read every record of an entity, whatever it holds: then statistics and plans tell no more than counting would. RH404.';

create or replace function access.sees_view(view text) returns boolean
language sql stable security definer set search_path = '' as $$
  select coalesce(bool_and(access.sees_all(e.id)), true)
  from data.entities e join tenancy.apps a on a.id = e.app_id
  where format('%I.%I', a.schema_name, e.name) = sees_view.view and tenancy.knows_site(a.site_id)
$$;
comment on function access.sees_view(text) is 'access.sees_all of the entity with this view.';
