-- What conditions compare with, as SQL. An account's attributes are JSON, and nothing in them may make a statement fail: a
-- value that is not of the type it is compared with is null.

-- 3 µs; as a function of SQL 20, and the rights of an entity under 50 policies call it ten times.
create or replace function access.value_as(value jsonb, sql_type text) returns text
language plpgsql immutable parallel safe set search_path = '' as $$
begin
  case sql_type
    when 'text' then return case when jsonb_typeof(value) = 'string' then value #>> '{}' end;
    when 'boolean' then return case when jsonb_typeof(value) = 'boolean' then value #>> '{}' end;
    when 'jsonb' then return case when value <> 'null' then value::text end;
    when 'array' then return case when jsonb_typeof(value) = 'array' then value::text end;
    when 'numeric' then return case when jsonb_typeof(value) = 'number' then value #>> '{}' end;
    when 'float8' then return case when jsonb_typeof(value) = 'number' then data.float8_or_null(value::numeric)::text end;
    when 'int8' then
      return case when jsonb_typeof(value) = 'number'
        then case when value::numeric = trunc(value::numeric) then data.int8_or_null(value::numeric)::text end end;
    else
      return case when jsonb_typeof(value) = 'string' and sql_type in ('timestamptz', 'date', 'uuid')
        then data.time_literal(value #>> '{}', case sql_type when 'timestamptz' then 'date-time' else sql_type end) end;
  end case;
end
$$;
comment on function access.value_as(jsonb, text) is
  'A JSON value as the text of an SQL type (text, int8, float8, numeric, boolean, uuid, date, timestamptz, jsonb, or array for a JSON array); null when it is of another: "5" is no number.';

-- Expressions, which become a part of what calls them: 0.3 µs.
create or replace function access.text_of(value jsonb) returns text
language sql immutable parallel safe return case when jsonb_typeof(value) = 'string' then value #>> '{}' end;
comment on function access.text_of(jsonb) is 'A JSON text as text, as access.value_as(value, text) gives it; null for what is none.';

create or replace function access.numeric_of(value jsonb) returns text
language sql immutable parallel safe return case when jsonb_typeof(value) = 'number' then value #>> '{}' end;
comment on function access.numeric_of(jsonb) is 'A JSON number as text, as access.value_as(value, numeric) gives it; null for what is none.';

create or replace function access.values_as(list jsonb, sql_type text, whole boolean default false) returns text[]
language sql immutable parallel safe set search_path = '' as $$
  select case when jsonb_typeof(list) = 'array'
    and not (whole and exists (select from jsonb_array_elements(list) v where access.value_as(v, sql_type) is null))
    then array(select access.value_as(v, sql_type) from jsonb_array_elements(list) v where access.value_as(v, sql_type) is not null) end
$$;
comment on function access.values_as(jsonb, text, boolean) is
  'The values of a JSON list that are of an SQL type, as texts; null for what is no list, and, where it is wanted whole, for one with other values in it.';

create or replace function access.ip_in(ip text, networks text[]) returns boolean
language sql immutable parallel safe set search_path = '' as $$
  select case when pg_input_is_valid(a, 'inet') is not true or networks is null then null
    when exists (select from unnest(networks) n where case when pg_input_is_valid(n, 'inet') then a::inet <<= n::inet end) then true
    when (select bool_and(pg_input_is_valid(n, 'inet')) from unnest(networks) n) is not false then false end
  from regexp_replace(ip, '^::ffff:(?=\d+\.\d+\.\d+\.\d+$)', '', 'i') x (a)
$$;
comment on function access.ip_in(text, text[]) is
  'Whether an IP address is in one of the networks (10.0.0.0/8, or an address); null when the address, or a network that might contain it, cannot be read.';

create or replace function access.is_pattern(operand jsonb) returns boolean
language sql immutable parallel safe set search_path = '' as $$
  select jsonb_typeof(v) = 'string' and length(substring(v #>> '{}' from '\\*$')) % 2 = 0
  from (select case when jsonb_typeof(operand) = 'object' then operand->'$literal' else operand end) x (v)
$$;
comment on function access.is_pattern(jsonb) is 'Whether an operand is a text that LIKE takes: one that ends within an escape makes a statement fail.';

-- kind is null for an attribute that no schema declares: then what it is compared with says its type.
create or replace function access.term(name text, attributes jsonb, out scope text, out path text[], out kind text, out item_kind text,
  out is_declared boolean)
language plpgsql immutable set search_path = '' as $$
declare
  _schema jsonb;
begin
  if name = '$action' then
    scope := 'action';
    kind := 'string';
    return;
  end if;
  path := (string_to_array(name, '.'))[2:];
  scope := substring(name from '^\$(account|env)\.');
  is_declared := true;
  if scope = 'env' then
    kind := case when cardinality(path) = 1
      then case path[1] when 'now' then 'date-time' when 'today' then 'date' when 'weekday' then 'integer' when 'time' then 'string'
      when 'ip' then 'string' when 'user_agent' then 'string'
      when 'origin' then 'string' end end;
  elsif scope = 'account' and path[1] = 'attributes' and cardinality(path) between 2 and 8 and not '' = any (path) then
    _schema := attributes;
    for i in 2 .. cardinality(path) loop
      _schema := _schema->'properties'->path[i];
    end loop;
    is_declared := _schema is not null;
    kind := data.kind(_schema);
    item_kind := data.kind(_schema->'items');
    return;
  elsif scope = 'account' and cardinality(path) = 1 then
    kind := case path[1] when 'id' then 'uuid' when 'email' then 'string' when 'roles' then 'array' when 'groups' then 'array' end;
    item_kind := 'string';
  end if;
  if kind is null then
    perform rowhouse.fail(400, format('%L is not known', left(name, 80)),
      'There are $account.id, .email, .roles, .groups and .attributes.x, $env.ip, .time, .today, .weekday, .now, .user_agent and .origin, $action, and $record.field.',
      'invalid_condition');
  end if;
end
$$;
comment on function access.term(text, jsonb) is
  'What $account.…, $env.… or $action is: where it is found, and its kind, of attributes by their schema. RH400 for what there is not.';

create or replace function access.term_source(scope text, path text[], account text, env text, action text) returns text
language sql immutable parallel safe set search_path = '' as $$
  select case when scope = 'action' then format('to_jsonb(%L::text)', action)
    when scope = 'account' and account = '(select access.account())' then format('access.account_value(%L)', path)
    else format('%s #> %L', case scope when 'account' then account else env end, path) end
$$;
comment on function access.term_source(text, text[], text, text, text) is 'The jsonb expression of $account.…, $env.… or $action.';

create or replace function access.operand_sql(operand jsonb, operator text, sql_type text, name text) returns text
language plpgsql immutable set search_path = '' as $$
declare
  _item text := regexp_replace(sql_type, '\[\]$', '');
  _value jsonb := case when jsonb_typeof(operand) = 'object' and operand ? '$literal' then operand->'$literal' else operand end;
  _list jsonb;
begin
  if operator <> '$in' then
    if access.value_as(_value, _item) is null or jsonb_typeof(_value) = 'object' and _item <> 'jsonb' then
      perform rowhouse.fail(400, format('%s cannot be compared with %s', name, left(_value::text, 80)),
        format('What stands there must be of the type %s.', _item), 'invalid_condition');
    end if;
    return format('%L::%s', access.value_as(_value, _item), _item);
  end if;
  select jsonb_agg(case when jsonb_typeof(v) = 'object' and v ? '$literal' then v->'$literal' else v end) into _list
  from jsonb_array_elements(case jsonb_typeof(_value) when 'array' then _value else '[]' end) v where not access.is_reference(v);
  if jsonb_typeof(_value) is distinct from 'array' or _value = '[]' or coalesce(jsonb_array_length(_list), 0) <> jsonb_array_length(_value)
    or access.values_as(_list, _item, true) is null then
    perform rowhouse.fail(400, format('%s can be $in a list of values of its type (%s), or in an attribute', name, _item),
      '{"status": {"$in": ["draft", "review"]}}, {"region": {"$in": "$account.attributes.regions"}}', 'invalid_condition');
  end if;
  return format('%L::%s[]', access.values_as(_list, _item, true), _item);
end
$$;
comment on function access.operand_sql(jsonb, text, text, text) is
  'The value, or for $in the list, that name is compared with, as a quoted literal of a type. RH400 when it is of another.';
