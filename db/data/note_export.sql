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
  _r record := data.resolve_entity(regexp_replace(note_export.entity, '/[^/]*$', ''), regexp_replace(note_export.entity, '^.*/', ''));
  _entity data.entities := _r.entity_row;
  _where text;
  _x record;
  _ids uuid[];
  _n bigint := 0;
begin
  perform data.export_statement(note_export.entity, 'ndjson', query, note_export.parameters, noted => true); -- refuses what cannot be asked
  for _x in select * from data.exported_ids(_entity, query) loop
    _where := coalesce(_where, data.export_source(_entity, query, note_export.parameters, false));
    for _ids in execute format($sql$
      select array_agg(i.id) from (
        select x.id, row_number() over () - 1 as n from (select %s%s as id from %I.%I v where %s) x where x.id is not null
      ) i group by i.n / 1000 $sql$,
      case _x.what when 'related' then 'distinct ' else '' end, _x.expression, _r.schema_name, _entity.name, _where)
    loop
      perform audit.note_seen(_x.entity_id, _ids, _x.what);
      _n := _n + cardinality(_ids);
    end loop;
  end loop;
  return _n;
end
$$;
comment on function data.note_export(text, jsonb, text[]) is
  'Records in the audit log which records an export of an entity (acme/crm/contacts) by {"filter", "sort", "select"} shows, and returns '
  'how many; 0 where reads are not recorded. RH400, RH403 in a read-only transaction, RH404.';
