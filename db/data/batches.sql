-- Writes of many records for psql: same compiler, same statements as REST.

create or replace function data.write_where(entity text, operation text, filter jsonb, max int, with_records boolean,
  changes jsonb default null)
returns jsonb
language plpgsql set search_path = '' set timezone = 'UTC' as $$
declare
  _r record := data.resolve_entity(regexp_replace(write_where.entity, '/[^/]*$', ''), split_part(write_where.entity, '/', 3));
  _p record := data.parameterize(write_where.filter, '{}');
  _body text;
begin
  execute data.compile_batch(_r.entity_row, _r.schema_name, write_where.operation,
    jsonb_build_object('filter', _p.shape, 'max', write_where.max, 'return', case when with_records then 'records' end),
    _p.parameters)->>'sql'
  into _body using write_where.changes;
  return _body::jsonb;
end
$$;
comment on function data.write_where(text, text, jsonb, int, boolean, jsonb) is 'Runs update_where or delete_where; see data.update_where and data.delete_where.';

create or replace function data.update_where(entity text, filter jsonb, changes jsonb, max int, with_records boolean default false)
  returns jsonb
language sql set search_path = '' as $$
  select data.write_where(update_where.entity, 'update_where', update_where.filter, update_where.max, with_records, changes)
$$;
comment on function data.update_where(text, jsonb, jsonb, int, boolean) is
  'Changes the given properties (null unsets one) of every record of an entity (acme/crm/contacts) that matches a filter ({} for all), if they are max (1 to 10,000) or fewer; returns {"meta": {"updated"}}, and "data" with the records where asked. RH400, RH403, RH404, RH409 when more match: nothing is written; RH422. RH429 after 20 guesses of a unique field that the writer does not see.';

create or replace function data.delete_where(entity text, filter jsonb, max int, with_records boolean default false) returns jsonb
language sql set search_path = '' as $$
  select data.write_where(delete_where.entity, 'delete_where', delete_where.filter, delete_where.max, with_records)
$$;
comment on function data.delete_where(text, jsonb, int, boolean) is
  'Deletes every record of an entity (acme/crm/contacts) that matches a filter ({} for all), if they are max (1 to 10,000) or fewer; returns {"meta": {"deleted"}}, and "data" with what they were where asked. RH400, RH403, RH404, RH409 when more match, or others refer to them: nothing is deleted.';

create or replace function data.update_list(entity text, records jsonb) returns jsonb
language plpgsql set search_path = '' set timezone = 'UTC' as $$
declare
  _body jsonb;
begin
  execute data.compile(regexp_replace(update_list.entity, '/[^/]*$', ''), split_part(update_list.entity, '/', 3), 'update_list')->>'sql'
    into _body using update_list.records;
  return _body;
end
$$;
comment on function data.update_list(text, jsonb) is
  'Changes a list of at most 10,000 records [{"id", "version"?, …}], all or nothing, and returns them in order. RH400, RH403, RH404, RH409 version, RH413, RH422 lists every problem. RH429 after 20 guesses of a unique field that the writer does not see.';

drop function if exists data.upsert(text, jsonb, text[]);
create or replace function data.upsert(entity text, records jsonb, key text[], with_records boolean default false) returns jsonb
language plpgsql set search_path = '' set timezone = 'UTC' as $$
declare
  _body jsonb;
begin
  execute data.compile(regexp_replace(upsert.entity, '/[^/]*$', ''), split_part(upsert.entity, '/', 3), 'upsert',
    jsonb_build_object('key', upsert.key, 'return', case when with_records then 'records' end))->>'sql' into _body using upsert.records;
  return _body;
end
$$;
comment on function data.upsert(text, jsonb, text[], boolean) is
  'Inserts or updates a record, or a list of at most 10,000, matched by key: id, a unique property, or the properties of a unique compound; all or nothing. Returns {"meta": {"inserted", "updated", "unchanged"}}, and "data" with the records in order where asked. RH400, RH403, RH404, RH409 version, RH413, RH422 lists every problem. RH429 after 20 guesses of a unique field that the writer does not see.';
