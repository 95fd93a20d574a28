-- Lists of records as of a time (x-history): what has not changed since is in the entity, the rest in its history. The former
-- states are a view, and the list is a function that the planner unfolds, so that a filter and a sort reach the indexes of both.

create or replace function data.build_as_of(entity data.entities, schema_name text) returns void
language plpgsql set search_path = '' as $$
declare
  _view text := format('%I.%I', build_as_of.schema_name, entity.name);
  _storage text := data.storage_table(entity, build_as_of.schema_name);
  _history text := data.kept_name(entity, build_as_of.schema_name, 'history');
  _former text := data.kept_name(entity, build_as_of.schema_name, 'former');
  _gone text := data.kept_name(entity, build_as_of.schema_name, 'gone');
  _role name := (select s.role_name from tenancy.sites s where s.id = entity.site_id);
begin
  -- As of a time after which each of 200,000 records changed, a page of 20 takes 84 ms, and 640 without the first; after which
  -- 1 in 100 did, 1.7 ms (now: 1.5). An update takes 7 µs longer for both.
  execute format('create index if not exists %I on %s (created_at, id)', data.object_name(entity.name, '_history_created_at', 'idx'),
    _history);
  execute format('create index if not exists %I on %s (changed_at)', data.object_name(entity.name, '_history_changed_at', 'idx'), _history);
  if entity.schema ? 'x-ttl' then
    execute format($sql$create view %1$s as
      select t.id from %2$s t where (%3$s) is not true
      union all
      select h.id from %4$s h
      where h.operation = 'delete' and h.expires_at <= now() and not exists (select from %2$s t where t.id = h.id)$sql$,
      _gone, _storage, data.alive_condition(entity, 't'), _history);
    execute format('grant select on %s to rowhouse_data', _gone);
  end if;
  execute format('create view %s as select %s, t._until from (%s) t%s', _former, data.column_list(entity, 't', 'kept'),
    data.former_rows(entity, build_as_of.schema_name),
    coalesce(' where ' || nullif(concat_ws(' and ',
      case when entity.schema ? 'x-ttl' then format('t.id not in (select g.id from %s g)', _gone) end,
      case when access.is_special(entity) then format('(%s)', access.row_predicate(entity, 'read', 't')) end,
      nullif(audit.kept_sql(entity, 'as_of', ''), '')), ''), ''));
  execute format('alter view %s owner to rowhouse_data', _former);
  execute format('grant select on %s to %I, rowhouse_owner', _former, _role);
  -- Conditions stand around the union and not in its parts, or PostgreSQL would not merge the parts by their indexes.
  -- Who begins first may write last: then a state begins before the one it follows, and the younger holds.
  perform rowhouse.create_function($sql$
    create function %1$s(_at timestamptz) returns setof %2$s language sql stable $sql$, $sql$
      select %3$s from (
        select v.*, 'infinity'::timestamptz as _until from %2$s v
        union all
        select f.* from %4$s f
      ) s
      where s.updated_at <= _at and s._until > least(_at, '294276-01-01') and (s._until = 'infinity'
        or not exists (select from %2$s n where n.id = s.id and n.version > s.version and n.updated_at <= _at)
        and not exists (select from %4$s n where n.id = s.id and n.version > s.version and n.updated_at <= _at and n._until > _at)) $sql$,
    format('%I.%I', build_as_of.schema_name, entity.name || '_as_of'), _view, data.column_names(entity, 's'), _former);
  perform data.publish_kept_function(entity, build_as_of.schema_name, format('%I(timestamptz)', entity.name || '_as_of'));
end
$$;
comment on function data.build_as_of(data.entities, text) is
  'Generates <entity>_as_of(time), the records of an entity with x-history as they were, and the view of former states that it reads.';

-- As data.kept_rows, but over the table alone.
create or replace function data.former_rows(entity data.entities, schema_name text) returns text
language sql stable set search_path = '' as $$
  select format('
    select k.id, k.created_at, k.updated_at, k.version, k.created_by, %s as _schema_version, null::jsonb as _dropped,
      %s as data%s, k.changed_at as _until
    from %s k',
    entity.version, r,
    (select string_agg(format(', %s as %I', data.column_value(f, r), f.name), '' order by f.position)
      from data.fields f where f.entity_id = entity.id and f.is_promoted),
    data.kept_name(entity, former_rows.schema_name, 'history'))
  from (
    select format('(case when k._schema_version = %1$s then k.data
        else data.readable((%2$I.%3$I(k.data, k._dropped, k._schema_version)).data, %4$L) end)',
      entity.version, former_rows.schema_name, entity.name || '_upgraded',
      coalesce(jsonb_object_agg(f.name, f.sql_type) filter (where f.sql_type not in ('text', 'jsonb')), '{}'))
    from data.fields f where f.entity_id = entity.id
  ) x (r)
$$;
comment on function data.former_rows(data.entities, text) is 'The SQL that reads former states as rows shaped like the entity''s storage, each until _until.';

create or replace function data.drop_as_of(entity data.entities, schema_name text) returns void
language plpgsql set search_path = '' as $$
begin
  execute format('drop function if exists %I.%I(timestamptz)', drop_as_of.schema_name, entity.name || '_as_of');
  execute format('drop view if exists %s, %s', data.kept_name(entity, drop_as_of.schema_name, 'former'),
    data.kept_name(entity, drop_as_of.schema_name, 'gone'));
end
$$;
comment on function data.drop_as_of(data.entities, text) is 'Drops what data.build_as_of made.';

create or replace function data.as_of_relation(entity data.entities, schema_name text, shape jsonb, parameter int) returns text
language plpgsql stable set search_path = '' as $$
begin
  if coalesce(shape->'q', 'null') <> 'null' then
    perform rowhouse.fail(400, 'Former states cannot be searched', 'Use filter instead of q.', 'invalid_query');
  elsif shape ? 'deleted' then
    perform rowhouse.fail(400, 'Deleted records are listed as they are',
      'Leave deleted out, or as_of: what was deleted since is in the list as of a time before.', 'invalid_query');
  elsif coalesce(shape->'expand', 'null') <> 'null' then
    perform rowhouse.fail(400, 'A former state has no relations to expand', 'Leave expand out, or as_of.', 'invalid_expand');
  elsif shape->'as_of' <> 'true' and jsonb_typeof(shape->'as_of') <> 'string' then
    perform rowhouse.fail(400, 'as_of is a time', 'as_of=2026-01-31T09:30:00Z', 'invalid_as_of');
  end if;
  perform data.require_option(entity, array['x-history'], 'has no history');
  return format('%I.%I(%s::timestamptz)', as_of_relation.schema_name, entity.name || '_as_of',
    case when shape->'as_of' = 'true' then format('$%s', parameter) else quote_literal(shape->>'as_of') end);
end
$$;
comment on function data.as_of_relation(data.entities, text, jsonb, int) is 'What a query with as_of reads, which is the parameter of this number or given in the query. RH400.';
