create or replace function data.object_name(variadic parts text[]) returns text
language sql immutable set search_path = '' as $$
  select case
    when length(n) <= 63 then n
    else left(n, 54) || '_' || left(md5(n), 8)
  end
  from array_to_string(object_name.parts, '_') n
$$;
comment on function data.object_name(text[]) is
  'The name of an index or constraint made of parts, cut with a hash where PostgreSQL''s 63 bytes are not enough.';

create or replace function data.system_columns() returns text[]
language sql immutable parallel safe as $$
  select array['id', 'created_at', 'updated_at', 'version', 'created_by']
$$;
comment on function data.system_columns() is 'The columns that every entity has and no schema may define.';

create or replace function data.check_entity_name(name text) returns void
language plpgsql immutable set search_path = '' as $$
declare
  _reserved text[] := array['auth', 'sites', 'graphql', 'mcp', 'realtime', 'functions', 'variables', 'analytics', 'files', 'search',
    'schema',
    'events', 'workflows', 'kv', 'openapi', 'export', 'transaction', 'docs', 'query', 'mutation', 'subscription', 'node', 'nodes',
    'page_info', 'cursor', 'json',
    'jsonb', 'string', 'int', 'float', 'boolean', 'uuid', 'date', 'datetime', 'interval', 'big_int', 'big_float'];
begin
  if check_entity_name.name is null or check_entity_name.name !~ '^[a-z][a-z0-9]*(_[a-z0-9]+)*$'
    or length(check_entity_name.name) > 45
  then
    perform rowhouse.fail(400, format('%L is not a valid entity name', left(check_entity_name.name, 80)),
      'Use up to 45 lower-case letters, digits and single underscores, starting with a letter: invoice_line.', 'invalid_name');
  end if;
  if check_entity_name.name = any (_reserved) or check_entity_name.name ~ '_(jsonb|flat)$' then
    perform rowhouse.fail(400, format('%L is reserved and cannot name an entity', check_entity_name.name),
      'Choose another name. Reserved: ' || array_to_string(_reserved, ', ') || ', and names that end in _jsonb or _flat.',
      'reserved_name');
  end if;
end
$$;
comment on function data.check_entity_name(text) is
  'Raises RH400 unless name may name an entity: up to 45 lower-case letters, digits, single underscores, no reserved word.';
