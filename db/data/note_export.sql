-- An export of an entity whose reads are recorded notes the ids of what it will show before it shows anything: a pass over the ids
-- alone, in lists of 1,000, so that memory does not grow with a million records. It is stable, and so sees what the statement
-- sees that calls it.

create or replace function data.exported_ids(entity data.entities, query jsonb) returns table (entity_id uuid, expression text, what text)
language sql stable set search_path = '' as $$
  select (exported_ids.entity).id, 'v.id', 'export' where audit.reads_are_on((exported_ids.entity).schema)
  union all
  select r.entity, p.expression, 'related'
  from audit.reached((exported_ids.entity).id, array(
      select jsonb_array_elements_text(case jsonb_typeof(query->'select') when 'array' then query->'select' else '[]' end))) r,
    data.path_value((exported_ids.entity).id, r.path || '.id', 'v') p
$$;
comment on function data.exported_ids(data.entities, jsonb) is
  'Of which entities whose reads are recorded an export shows fields, and the SQL of their ids over v. RH400.';

create or replace function data.note_export(entity text, query jsonb default '{}', parameters text[] default null) returns bigint
language plpgsql stable set search_path = '' as $$
declare
  _share text[] := regexp_match(note_export.entity, '^(.*)/received-shares/([^/]*)$');
  _r record;
  _entity data.entities;
  _schema text;
  _x record;
  _ids uuid[];
  _n bigint := 0;
begin
  perform data.export_statement(note_export.entity, 'ndjson', query, note_export.parameters, noted => true); -- refuses what cannot be asked
  if _share is null then
    _r := data.resolve_entity(regexp_replace(note_export.entity, '/[^/]*$', ''), regexp_replace(note_export.entity, '^.*/', ''));
    _entity := _r.entity_row;
    _schema := _r.schema_name;
  end if;
  for _x in
    select 'select audit.note_seen($1, $2, $3)' as note, i.entity_id as target, i.what,
      format('select %s%s as id from %I.%I v where %s', case i.what when 'related' then 'distinct ' else '' end, i.expression,
        _schema, _entity.name, data.export_source(_entity, query, note_export.parameters, false)) as source
    from data.exported_ids(_entity, query) i
    where _share is null
    union all
    select 'select audit.note_share($1, ''seen'', $2, $3)', q.share, 'export',
      format('select v.id from %s v where %s', q.relation, q.condition)
    from access.shared_query(_share[1], _share[2], query, note_export.parameters) q
    where _share is not null and q.is_noted
  loop
    for _ids in execute format($sql$
      select array_agg(i.id) from (
        select x.id, row_number() over () - 1 as n from (%s) x where x.id is not null
      ) i group by i.n / 1000 $sql$, _x.source)
    loop
      execute _x.note using _x.target, _ids, _x.what;
      _n := _n + cardinality(_ids);
    end loop;
  end loop;
  return _n;
end
$$;
comment on function data.note_export(text, jsonb, text[]) is
  'Records in the audit log which records an export of an entity (acme/crm/contacts) or a share (acme/crm/received-shares/name) by '
  '{"filter", "sort", "select"} shows, and returns how many; 0 where reads of it are not recorded. RH400, RH403 in a read-only '
  'transaction, RH404.';
