-- The REST operations for psql: same compiler, same statements.

create or replace function data.parameterize(value jsonb, inout parameters text[], out shape jsonb)
language plpgsql immutable set search_path = '' as $$
declare
  _key text;
  _value jsonb;
  _p record;
begin
  case jsonb_typeof(value)
    when 'object' then
      shape := '{}';
      for _key, _value in select * from jsonb_each(value) loop
        if _key in ('$in', '$nin', '$contains') and _value <> 'null' then
          parameters := parameters || (_value #>> '{}');
          shape := shape || jsonb_build_object(_key, jsonb_build_object('$param', cardinality(parameters)));
        else
          _p := data.parameterize(_value, parameters);
          parameters := _p.parameters;
          shape := shape || jsonb_build_object(_key, _p.shape);
        end if;
      end loop;
    when 'array' then
      shape := '[]';
      for _value in select * from jsonb_array_elements(value) loop
        _p := data.parameterize(_value, parameters);
        parameters := _p.parameters;
        shape := shape || jsonb_build_array(_p.shape);
      end loop;
    when 'null' then
      shape := 'null';
    else
      parameters := parameters || (value #>> '{}');
      shape := jsonb_build_object('$param', cardinality(parameters));
  end case;
end
$$;
comment on function data.parameterize(jsonb, text[]) is 'A filter with its literals replaced by placeholders {"$param": n}, and the literals as text.';

create or replace function data.find(entity text, query jsonb default '{}') returns jsonb
language plpgsql stable set search_path = '' set timezone = 'UTC' as $$
declare
  _r record := data.resolve_entity(regexp_replace(find.entity, '/[^/]*$', ''), split_part(find.entity, '/', 3));
  _p record := data.parameterize(coalesce(query->'filter', '{}'), '{}');
  _sql text;
  _body text;
begin
  perform data.refuse_unknown_query(query, 'find');
  if query->'q' = 'true' then
    perform data.search_terms(null);
  end if;
  if query->'as_of' = 'true' then
    perform rowhouse.fail(400, 'as_of is a time', '{"as_of": "2026-01-31T09:30:00Z"}', 'invalid_as_of');
  end if;
  _sql := data.compile_find(_r.entity_row, _r.schema_name, query || jsonb_build_object('filter', _p.shape), _p.parameters)->>'sql';
  execute _sql into _body;
  return _body::jsonb;
end
$$;
comment on function data.find(text, jsonb) is
  'Records of an entity (acme/crm/contacts) by {"q", "filter", "sort", "select", "expand", "limit", "offset" or "page", "cursor", "count", "as_of"}, as {"data": […], "meta": {…}}; newest first, 20 unless told. q searches the fields with x-search: the best match first, with _rank and _snippets. With as_of (a time, x-history) the records as they were then; records they refer to are those of today. RH400, RH404.';

drop function if exists data.refuse_unknown_query(jsonb);
create or replace function data.refuse_unknown_query(query jsonb, operation text) returns void
language plpgsql immutable set search_path = '' as $$
declare
  _known text[] := array['filter', 'sort', 'limit', 'offset', 'page', 'cursor']
    || case when operation like '%aggregate%' then array['group', 'aggregate', 'having', 'timezone'] else array['select'] end
    || case when operation like '%union' then array['entities', 'nullable'] when operation <> 'aggregate' then array['expand', 'count'] end
    || case when operation = 'find' then '{q,deleted,as_of}'::text[] when operation = 'get' then '{as_of}'
      when operation in ('upsert', 'update_where', 'delete_where') then array['key', 'max', 'return']
      when operation = 'insert_list' then '{return}' end;
  _unknown text := (select string_agg(k, ', ') from jsonb_object_keys(refuse_unknown_query.query) k where k <> all (_known));
begin
  if _unknown is not null then
    perform rowhouse.fail(400, format('A query has no %s', left(_unknown, 80)), format('A query has %s.', array_to_string(_known, ', ')),
      'invalid_query');
  end if;
end
$$;
comment on function data.refuse_unknown_query(jsonb, text) is 'Raises RH400 for members that a query of an operation does not have.';

create or replace function data.parameterize_query(query jsonb, out parameters text[], out shape jsonb)
language plpgsql immutable set search_path = '' as $$
declare
  _p record;
  _name text;
begin
  parameters := '{}';
  shape := query;
  foreach _name in array array['filter', 'having'] loop
    if coalesce(query->_name, 'null') <> 'null' then
      _p := data.parameterize(query->_name, parameters);
      parameters := _p.parameters;
      shape := shape || jsonb_build_object(_name, _p.shape);
    end if;
  end loop;
end
$$;
comment on function data.parameterize_query(jsonb) is 'A query with the literals of its filter and having replaced by placeholders, and the literals as text.';

create or replace function data.get(entity text, id uuid, query jsonb default '{}') returns jsonb
language plpgsql stable set search_path = '' set timezone = 'UTC' as $$
declare
  _body jsonb;
begin
  execute data.compile(regexp_replace(get.entity, '/[^/]*$', ''), split_part(get.entity, '/', 3), 'get', query)->>'sql' into _body
    using get.id, query->>'as_of';
  if _body is null then
    perform data.write_error(404, split_part(get.entity, '/', 3), get.id);
  end if;
  return _body;
end
$$;
comment on function data.get(text, uuid, jsonb) is 'One record by id, with {"select", "expand"}; with {"as_of": a time}, as it was then (x-history). RH400, RH404.';

-- Whoever waited while the entity was given another storage or definition comes back with names that are gone: once more.
create or replace function data.write(entity text, operation text, id uuid, body jsonb, version int) returns jsonb
language plpgsql set search_path = '' set timezone = 'UTC' as $$
declare
  _sql text;
  _out jsonb;
begin
  for _attempt in 1 .. 3 loop
    begin
      _sql := data.compile(regexp_replace(write.entity, '/[^/]*$', ''), split_part(write.entity, '/', 3), write.operation)->>'sql';
      case write.operation
        when 'update', 'replace' then execute _sql into _out using write.id, write.body, write.version;
        when 'delete' then execute _sql using write.id, write.version;
        when 'restore' then execute _sql into _out using write.id;
        when 'purge' then execute _sql using write.id;
        else execute _sql into _out using write.body;
      end case;
      return _out;
    exception when undefined_table or undefined_function or undefined_column then
      if _attempt = 3 then
        raise;
      end if;
    end;
  end loop;
end
$$;
comment on function data.write(text, text, uuid, jsonb, int) is
  'Runs insert, insert_list, insert_ids, update, replace, delete, restore or purge on an entity, and again when its definition changed meanwhile. Use data.insert, data.update and data.delete.';

drop function if exists data.insert(text, jsonb);
create or replace function data.insert(entity text, records jsonb, with_records boolean default true) returns jsonb
language sql set search_path = '' as $$
  select data.write(insert.entity, case when not with_records then 'insert_ids'
    when jsonb_typeof(insert.records) = 'array' then 'insert_list' else 'insert' end, null, insert.records, null)
$$;
comment on function data.insert(text, jsonb, boolean) is
  'Inserts a record or a list of at most 10,000, all or nothing, and returns them; without records, which takes half the time, {"meta": {"inserted"}, "ids"} in order. RH403, RH404, RH422 lists every problem. RH429 after 20 guesses of a unique field that the writer does not see.';

create or replace function data.update(entity text, id uuid, changes jsonb, version int default null) returns jsonb
language sql set search_path = '' as $$
  select data.write(update.entity, 'update', update.id, update.changes, update.version)
$$;
comment on function data.update(text, uuid, jsonb, int) is
  'Changes the given properties of a record (null unsets one) and returns it. With version, only if that is still its version. RH403, RH404, RH409, RH422. RH429 after 20 guesses of a unique field that the writer does not see.';

create or replace function data.replace(entity text, id uuid, record jsonb, version int default null) returns jsonb
language sql set search_path = '' as $$
  select data.write(replace.entity, 'replace', replace.id, replace.record, replace.version)
$$;
comment on function data.replace(text, uuid, jsonb, int) is
  'Makes a record what is given, and unsets what is not; returns it. With version, only if that is still its version. RH403, RH404, RH409, RH422. RH429 after 20 guesses of a unique field that the writer does not see.';

create or replace function data.delete(entity text, id uuid, version int default null) returns void
language sql set search_path = '' as $$
  select data.write(delete.entity, 'delete', delete.id, null, delete.version)
$$;
comment on function data.delete(text, uuid, int) is 'Deletes a record. With version, only if that is still its version. RH403, RH404, RH409.';
