-- JSON Schema 2020-12 on its own: no entity needed.

create or replace function data.prepare_schema(schema jsonb, formats boolean default false) returns jsonb
language plpgsql immutable parallel safe set search_path = '' as $$
declare
  _read record := data.read_schema(prepare_schema.schema, formats);
begin
  if jsonb_typeof(prepare_schema.schema) is null or _read.problems <> '[]' then
    perform rowhouse.fail(400,
      format('The schema cannot be used: %s %s', _read.problems #>> '{0,pointer}', coalesce(_read.problems #>> '{0,message}', 'is null')),
      'errors lists every problem by JSON pointer into the schema; data.unsupported_keywords(schema) does too.', 'invalid_schema',
      _read.problems);
  end if;
  return _read.prepared;
end
$$;
comment on function data.prepare_schema(jsonb, boolean) is
  'A JSON Schema with references resolved and patterns translated, for data.apply_prepared. RH400 lists by JSON pointer what is wrong or not supported.';

create or replace function data.apply_prepared(prepared jsonb, value jsonb, at text default '') returns jsonb
language sql immutable parallel safe as $$
  select (data.apply_schema(prepared, prepared->'schema', coalesce(value, 'null'), at, '', coalesce(prepared #> '{dynamic,""}', '{}'), 1)).e
$$;
comment on function data.apply_prepared(jsonb, jsonb, text) is
  'What is wrong with a value by a schema from data.prepare_schema: a JSON array of {pointer, message}, pointers beginning with at. RH400 when it is nested too deeply.';

-- No "set", so that PostgreSQL inlines it, and prepares a schema that is a constant once per statement.
create or replace function data.validate(schema jsonb, value jsonb, formats boolean default false) returns jsonb
language sql immutable parallel safe as $$
  select data.apply_prepared(data.prepare_schema(validate.schema, validate.formats), validate.value)
$$;
comment on function data.validate(jsonb, jsonb, boolean) is
  'What is wrong with a value by a JSON Schema (2020-12): a JSON array of {pointer, message}, [] when it is valid. format is asserted when formats is true. RH400 when the schema is wrong or has something that is not supported, by JSON pointer, or the value is nested more than 100 levels deep.';

create or replace function data.unsupported_keywords(schema jsonb, formats boolean default false) returns jsonb
language sql immutable parallel safe set search_path = '' as $$
  select (data.read_schema(unsupported_keywords.schema, formats)).problems
$$;
comment on function data.unsupported_keywords(jsonb, boolean) is
  'What of a JSON Schema (2020-12) is wrong or cannot be honoured: a JSON array of {pointer, message}, [] for a schema that data.validate takes.';
