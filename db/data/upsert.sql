create or replace function data.upsert(entity text, records jsonb, key text[]) returns jsonb
language plpgsql set search_path = '' as $$
declare
  _r record := data.resolve_entity(regexp_replace(upsert.entity, '/[^/]*$', ''), split_part(upsert.entity, '/', 3));
  _entity data.entities := _r.entity_row;
  _view text := format('%I.%I', _r.schema_name, _entity.name);
  _match text;
  _ids jsonb;
  _updated int;
  _unchanged int;
  _inserted int;
begin
  if jsonb_typeof(records) is distinct from 'array' or jsonb_path_exists(records, '$[*] ? (@.type() != "object")') then
    perform data.write_error(400, _entity.name, null);
  elsif jsonb_array_length(records) > 10000 then
    perform data.write_error(413, _entity.name, null);
  elsif coalesce(cardinality(key), 0) = 0 then
    perform rowhouse.fail(400, 'An upsert needs a key', 'Name the properties that identify a record: array[''email''].', 'invalid_key');
  end if;
  select string_agg(format('v.%I = (r.value->>%L)::%s', k, k, (data.field_expression(_entity.id, k, 'v')).sql_type), ' and ') into _match
  from unnest(key) k;
  perform pg_advisory_xact_lock(hashtextextended('data.upsert/' || _entity.id, 0));
  execute format($sql$
    with matched as materialized (
      select v.id, r.value, r.n, data.without_nulls(data.record_data(to_jsonb(v.*))) as old
      from jsonb_array_elements($1) with ordinality r (value, n) join %1$s v on %2$s
    ), changed as materialized (
      select m.id, m.value from matched m, lateral (
        -- Through the view's types, so that 12:00Z and 12:00+00:00 are the same.
        select data.without_nulls(data.record_data(to_jsonb(jsonb_populate_record(null::%1$s, m.old || (m.value - 'id' - %5$L::text[]))))) as new
      ) x where x.new <> m.old
    ), updated as (
      select count(u.id) as n from changed c, lateral %3$I.%4$I(c.id, c.value - 'id' - 'version', null, false) u
    )
    select (select n from updated), (select count(*) from matched) - (select count(*) from changed),
      coalesce((select jsonb_agg(r.value order by r.n) from jsonb_array_elements($1) with ordinality r (value, n)
        where not exists (select from matched m where m.n = r.n)), '[]')
    $sql$, _view, _match, _r.schema_name, _entity.name || '_update', data.computed_names(_entity.schema))
  into _updated, _unchanged, _ids using records;
  execute format('select count(*) from %I.%I($1)', _r.schema_name, _entity.name || '_insert') into _inserted using _ids;
  return jsonb_build_object('inserted', _inserted, 'updated', _updated, 'unchanged', _unchanged);
end
$$;
comment on function data.upsert(text, jsonb, text[]) is
  'Inserts or updates a list of at most 10,000 records, matched by the properties in key, all or nothing; returns {"inserted", "updated", "unchanged"}. RH400, RH403, RH404, RH413, RH422.';
