-- Several operations, all or nothing, in one call; later ones may use what earlier ones gave.

create or replace function data.check_operations(operations jsonb) returns void
language plpgsql immutable set search_path = '' as $$
declare
  _errors jsonb;
begin
  if jsonb_typeof(operations) is distinct from 'array' then
    perform rowhouse.fail(400, 'operations is a list',
      '{"operations": [{"operation": "insert", "entity": "orders", "data": {…}, "as": "order"}, …]}', 'invalid_operations',
      data.violation('/operations', 'must be a list'));
  elsif jsonb_array_length(operations) > 1000 then
    perform rowhouse.fail(413, 'Too many operations in one transaction',
      'Send at most 1,000 operations at once; for many records of one entity, send a list of them.', 'too_many_operations');
  end if;
  select jsonb_agg(jsonb_build_object('pointer', format('/operations/%s%s', n - 1, e.pointer), 'message', e.message)
    order by n) into _errors
  from jsonb_array_elements(operations) with ordinality o (value, n), lateral (
    select '' as pointer, 'must be an object' as message where jsonb_typeof(o.value) <> 'object'
    union all
    select '/operation', 'must be insert, update, replace, delete or upsert'
    where jsonb_typeof(o.value) = 'object'
      and coalesce(o.value->>'operation', '') not in ('insert', 'update', 'replace', 'delete', 'upsert')
    union all
    select '/entity', 'must be the name of an entity'
    where jsonb_typeof(o.value) = 'object' and jsonb_typeof(o.value->'entity') is distinct from 'string'
    union all
    select '/' || m.key, case
        when not m.key = any (array['operation', 'entity', 'as'] || w.needs || w.takes)
          then format('is not taken by %s; it takes %s', o.value->>'operation',
          array_to_string(array['operation', 'entity', 'as'] || w.needs || w.takes, ', '))
        when m.key = 'data' then 'must be an object'
        when m.key = 'version' then 'must be a whole number'
        when m.key = 'key' then 'must be a list of names of properties'
        else 'must be a name: up to 40 letters, digits and underscores, starting with a letter' end
    from data.operation_members(o.value->>'operation') w, jsonb_each(case jsonb_typeof(o.value) when 'object' then o.value else '{}' end) m
    where not m.key = any (array['operation', 'entity', 'as'] || w.needs || w.takes)
      or m.key = 'data' and jsonb_typeof(m.value) <> 'object'
      or m.key = 'version' and m.value::text !~ '^([0-9]{1,9}|null)$'
      or m.key = 'key' and (jsonb_typeof(m.value) <> 'array' or jsonb_path_exists(m.value, '$[*] ? (@.type() != "string")')
        or m.value = '[]')
      or m.key = 'as' and (jsonb_typeof(m.value) <> 'string' or m.value #>> '{}' !~ '^[A-Za-z][A-Za-z0-9_]{0,39}$')
    union all
    select '/' || k, 'is required' from data.operation_members(o.value->>'operation') w, unnest(w.needs) k
    where jsonb_typeof(o.value) = 'object' and not o.value ? k
    union all
    select '/as', 'is the name of an operation before, too' where jsonb_typeof(o.value->'as') = 'string' and exists (
      select from jsonb_array_elements(operations) with ordinality p (value, n) where p.value->'as' = o.value->'as' and p.n < o.n)
  ) e;
  if _errors is not null then
    perform rowhouse.fail(400, format('%s %s', _errors #>> '{0,pointer}', _errors #>> '{0,message}'),
      'Nothing was written. errors lists every problem by JSON pointer.',
      'invalid_operations', _errors);
  end if;
end
$$;
comment on function data.check_operations(jsonb) is 'Raises RH400 for operations of a transaction that are not well formed, with every problem by JSON pointer; RH413 for more than 1,000.';

create or replace function data.operation_members(operation text, out needs text[], out takes text[]) returns setof record
language sql immutable set search_path = '' as $$
  select m.needs::text[], m.takes::text[]
  from (values ('insert', '{data}', '{}'), ('update', '{id,data}', '{version}'), ('replace', '{id,data}', '{version}'),
    ('delete', '{id}', '{version}'),
    ('upsert', '{data,key}', '{}')) m (operation, needs, takes)
  where m.operation = operation_members.operation
$$;
comment on function data.operation_members(text) is 'What an operation of a transaction must have and may have beside operation, entity and as.';

create or replace function data.resolve_refs(value jsonb, results jsonb, names jsonb, pointer text, depth int default 0) returns jsonb
language plpgsql immutable set search_path = '' as $$
declare
  _name text;
  _path text[];
  _found jsonb;
  _problem text;
begin
  if depth > 64 then
    perform rowhouse.fail(400, 'An operation is nested too deeply', 'Nest at most 64 levels.', 'nested_too_deeply',
      data.violation(left(pointer, 200), 'is nested too deeply'));
  elsif jsonb_typeof(value) = 'array' then
    return (select coalesce(jsonb_agg(data.resolve_refs(e, results, names, format('%s/%s', resolve_refs.pointer, n - 1), depth + 1)
      order by n), '[]')
      from jsonb_array_elements(value) with ordinality x (e, n));
  elsif jsonb_typeof(value) <> 'object' then
    return value;
  elsif value ? '$literal' and value - '$literal' = '{}' then
    return value->'$literal';
  elsif not value ? '$ref' or value - '$ref' <> '{}' then
    return (select coalesce(jsonb_object_agg(key, data.resolve_refs(e, results, names,
        format('%s/%s', resolve_refs.pointer, replace(replace(key, '~', '~0'), '/', '~1')), depth + 1)), '{}')
      from jsonb_each(value) x (key, e));
  end if;
  _path := case when jsonb_typeof(value->'$ref') = 'string' then string_to_array(value->>'$ref', '.') end;
  _name := _path[1];
  _found := results->_name #> _path[2:];
  _problem := case
    when cardinality(_path) is null
      or cardinality(_path) not between 2 and 9 then 'is not a reference: name.property, as in {"$ref": "order.id"}'
    when not names ? _name then format('refers to %L, which no operation is called ("as")', left(_name, 60))
    when not results ? _name then format('refers to %L, which comes later', _name)
    when results->_name = 'null' then format('refers to %L, which was deleted', _name)
    when _found is null then format('refers to %L, which %L does not have', left(array_to_string(_path[2:], '.'), 80), _name)
    when jsonb_typeof(_found) in ('array', 'object') then 'refers to a list or an object; refer to a single value'
    when length(_found::text) > 8000 then 'refers to a value of more than 8,000 characters'
  end;
  if _problem is not null then
    perform rowhouse.fail(422, format('%s %s', left(pointer, 200), _problem),
      'Refer to a property of an operation before: {"$ref": "order.id"}. An object that only looks like a reference is written {"$literal": {"$ref": "…"}}.',
      'invalid_reference', data.violation(left(pointer, 200), _problem));
  end if;
  return _found;
end
$$;
comment on function data.resolve_refs(jsonb, jsonb, jsonb, text, int) is
  'value with every {"$ref": "name.property"} replaced by what that operation gave. RH422 names what cannot be found, by JSON pointer.';

drop function if exists data.refuse_operation(int, text, text, text, text, text, text, text);
create or replace function data.refuse_operation(n int, state text, message text, detail text, hint text, constraint_name text,
  schema_name text, table_name text, column_name text)
returns void
language plpgsql set search_path = '' as $$
declare
  _at text := format('/operations/%s', n);
  _detail jsonb := case when detail is json object then detail::jsonb else '{}' end;
begin
  if _detail ?| array['explanation', 'retry_after'] then
    raise exception using errcode = state, message = refuse_operation.message, hint = refuse_operation.hint,
      detail = (_detail || jsonb_build_object('errors', data.violation(_at, refuse_operation.message)))::text;
  elsif state ~ '^RH[45]\d\d$' then
    perform rowhouse.fail(substr(state, 3)::int, refuse_operation.message, refuse_operation.hint, _detail->>'code', coalesce((
      select jsonb_agg(case when e->>'pointer' ~ '^/operations(/|$)' then e
        when e ? 'pointer' then e || jsonb_build_object('pointer', _at || '/data' || (e->>'pointer')) else e end)
      from jsonb_array_elements(case jsonb_typeof(_detail->'errors') when 'array' then _detail->'errors' end) e),
      data.violation(_at, refuse_operation.message)));
  end if;
  raise exception using errcode = state, message = refuse_operation.message, hint = refuse_operation.hint,
    detail = jsonb_build_object('pointer', _at || '/data')::text, constraint = refuse_operation.constraint_name,
    schema = refuse_operation.schema_name, table = refuse_operation.table_name, column = refuse_operation.column_name;
end
$$;
comment on function data.refuse_operation(int, text, text, text, text, text, text, text, text) is
  'Raises again what went wrong in an operation of a transaction, with JSON pointers into the transaction.';

create or replace function data.run_write(app text, operation jsonb, statements jsonb, out result text, out known jsonb)
language plpgsql set search_path = '' set timezone = 'UTC' as $$
declare
  _name text := operation->>'operation';
  _shape jsonb := case _name when 'upsert' then jsonb_build_object('key', operation->'key', 'return', 'records') else '{}' end;
  _key text := concat_ws(' ', _name, operation->>'entity', _shape);
  _sql text := statements->>_key;
begin
  known := statements;
  if _sql is null then
    _sql := data.compile(run_write.app, operation->>'entity', _name, _shape)->>'sql';
    known := known || jsonb_build_object(_key, _sql);
  end if;
  case _name
    when 'insert' then execute _sql into result using operation->'data';
    when 'delete' then
      execute _sql using (operation->>'id')::uuid, (operation->>'version')::int;
      result := 'null';
    when 'upsert' then
      execute _sql into result using operation->'data';
      result := (result::jsonb #> '{data,0}')::text;
    else execute _sql into result using (operation->>'id')::uuid, operation->'data', (operation->>'version')::int;
  end case;
end
$$;
comment on function data.run_write(text, jsonb, jsonb) is
  'Runs one operation of a transaction and returns its record as JSON text, and the statements compiled so far.';

create or replace function data.run_transaction(app text, operations jsonb) returns text
language plpgsql set search_path = '' set timezone = 'UTC' as $$
declare
  _list jsonb := case jsonb_typeof(operations) when 'object' then operations->'operations' else operations end;
  _names jsonb;
  _results text[] := '{}';
  _known jsonb := '{}';
  _statements jsonb := '{}';
  _batch jsonb[] := '{}';
  _entity text;
  _operation jsonb;
  _refers boolean;
  _done text[];
  _result text;
  _n int := 0;
  _state text; _message text; _detail text; _hint text; _constraint text; _schema text; _table text; _column text;
begin
  if jsonb_typeof(operations) = 'object' and operations - 'operations' <> '{}' then
    perform rowhouse.fail(400, 'A transaction has operations and nothing else', '{"operations": […]}', 'invalid_operations');
  end if;
  perform data.check_operations(_list);
  select coalesce(jsonb_object_agg(o->>'as', true), '{}') into _names from jsonb_array_elements(_list) o where o ? 'as';
  begin
    -- One more than there are, to write what waits at the end.
    for _operation in select * from jsonb_array_elements(_list || '[{}]'::jsonb) loop
      _refers := strpos(_operation::text, '"$ref"') > 0 or strpos(_operation::text, '"$literal"') > 0;
      if _batch <> '{}' and (_refers or _operation->>'operation' is distinct from 'insert' or _operation->>'entity' <> _entity) then
        _n := _n - cardinality(_batch);
        -- 1,000 inserts one by one take three times as long. Where the batch fails, one by one tells which.
        _done := '{}';
        begin
          if cardinality(_batch) > 1 then
            for _result in execute data.compile(run_transaction.app, _entity,
              'insert')->>'sql' using (select jsonb_agg(b->'data' order by i) from unnest(_batch) with ordinality x (b, i)) loop
              _done := _done || _result;
            end loop;
          end if;
        exception when others then
          _done := '{}';
        end;
        for _i in 1 .. cardinality(_batch) loop
          if _done[_i] is null then
            select r.result, r.known into _result, _statements from data.run_write(run_transaction.app, _batch[_i], _statements) r;
          else
            _result := _done[_i];
          end if;
          _results := _results || _result;
          if _batch[_i] ? 'as' then
            _known := _known || jsonb_build_object(_batch[_i]->>'as', _result::jsonb);
          end if;
          _n := _n + 1;
        end loop;
        _batch := '{}';
      end if;
      exit when _operation = '{}';
      if _operation->>'operation' = 'insert' and not _refers then
        _batch := _batch || _operation;
        _entity := _operation->>'entity';
        _n := _n + 1;
        continue;
      end if;
      if _refers then
        select _operation || jsonb_object_agg(m.key,
          data.resolve_refs(m.value, _known, _names, format('/operations/%s/%s', _n, m.key))) into _operation
        from jsonb_each(_operation) m where m.key in ('id', 'data');
      end if;
      if _operation ? 'id' and not pg_input_is_valid(coalesce(_operation->>'id', ''), 'uuid') then
        perform rowhouse.fail(422, 'The id of a record is a UUID', 'Send the id of a record, or a reference to one: {"$ref": "order.id"}.',
          'invalid_id',
          data.violation(format('/operations/%s/id', _n), 'must be a UUID'));
      end if;
      select r.result, r.known into _result, _statements from data.run_write(run_transaction.app, _operation, _statements) r;
      _results := _results || _result;
      if _operation ? 'as' then
        _known := _known || jsonb_build_object(_operation->>'as', _result::jsonb);
      end if;
      _n := _n + 1;
    end loop;
  exception when others then
    get stacked diagnostics _state = returned_sqlstate, _message = message_text, _detail = pg_exception_detail, _hint = pg_exception_hint,
      _constraint = constraint_name, _schema = schema_name, _table = table_name, _column = column_name;
    if _state ~ '^(08|25|40|53|55|57|58|RH0|XX)' then
      raise; -- of no single operation
    end if;
    perform data.refuse_operation(_n, _state, _message, _detail, _hint, _constraint, _schema, _table, _column);
  end;
  return '{"data":[' || array_to_string(_results, ',') || ']}';
end
$$;
comment on function data.run_transaction(text, jsonb) is 'data.transaction as JSON text, for the gateway.';

create or replace function data.transaction(app text, operations jsonb) returns jsonb
language sql set search_path = '' as $$
  select data.run_transaction(transaction.app, operations)::jsonb
$$;
comment on function data.transaction(text, jsonb) is
  'Runs up to 1,000 operations [{"operation": insert|update|replace|delete|upsert, "entity", "id", "data", "version", "key", "as"}, …] on an app (acme/crm) in order, all or nothing; {"$ref": "order.id"} in id or data is the id of what the operation before with "as": "order" gave. Returns {"data": [record or null, …]} in order. Errors name the operation by JSON pointer: RH400, RH403, RH404, RH409, RH413, RH422. RH429 after 20 guesses of a unique field that the writer does not see.';
