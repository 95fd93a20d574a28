-- The words of an aggregate query: what to group by, and what to compute of each group. Each in a short form
-- (company.city, created_at:month, revenue:sum(total)) and a long one (objects), for addresses and for programs.

create or replace function data.column_name(name text, default_name text) returns text
language plpgsql immutable set search_path = '' as $$
begin
  if name is not null and name !~ '^[a-zA-Z][a-zA-Z0-9_]{0,62}$' then
    perform rowhouse.fail(400, format('%L cannot name a column of the result', left(name, 80)),
      'Use up to 63 letters, digits and underscores, beginning with a letter: revenue.', 'invalid_name');
  elsif name is null and octet_length(default_name) > 63 then
    perform rowhouse.fail(400, format('%L is too long to name a column of the result', left(default_name, 120)),
      'Give it a name: {"field": "…", "as": "city"} in group, "name:sum(…)" in aggregate.', 'invalid_name');
  end if;
  return coalesce(name, default_name);
end
$$;
comment on function data.column_name(text, text) is 'The name of a column of an aggregate''s result: the one given, else the default. RH400.';

create or replace function data.group_terms("group" jsonb, timezone text)
returns table (n int, name text, path text, bucket text, zone text)
language plpgsql immutable set search_path = '' as $$
declare
  _hint text := 'group=status,company.city,created_at:month or ["status", {"field": "created_at", "bucket": "month", "timezone": "Europe/Oslo", "as": "month"}].';
  _buckets text[] := array['hour', 'day', 'week', 'month', 'quarter', 'year'];
  _term jsonb;
begin
  if "group" is null or "group" = 'null' then
    return;
  elsif jsonb_typeof("group") <> 'array' then
    perform rowhouse.fail(400, 'group is a list of fields', _hint, 'invalid_group');
  elsif jsonb_array_length("group") > 8 then
    perform rowhouse.fail(400, 'group has more than 8 fields', 'Group by at most 8.', 'invalid_group');
  end if;
  for n, _term in select o::int, t from jsonb_array_elements("group") with ordinality g (t, o) loop
    if jsonb_typeof(_term) = 'string' then
      path := split_part(_term #>> '{}', ':', 1);
      bucket := nullif(substr(_term #>> '{}', length(path) + 2), '');
      _term := '{}';
    elsif jsonb_typeof(_term) <> 'object' or _term - array['field', 'bucket', 'timezone', 'as'] <> '{}'
      or jsonb_path_exists(_term, '$.* ? (@.type() != "string")') or not _term ? 'field'
    then
      perform rowhouse.fail(400, 'A member of group is a field, or an object with field, bucket, timezone and as', _hint, 'invalid_group');
    else
      path := _term->>'field';
      bucket := _term->>'bucket';
    end if;
    if not coalesce(bucket, 'day') = any (_buckets) then
      perform rowhouse.fail(400, format('%L is not a bucket', left(bucket, 40)),
        'Buckets: ' || array_to_string(_buckets, ', ') || '. ' || _hint, 'invalid_group');
    elsif bucket is null and _term ? 'timezone' then
      perform rowhouse.fail(400, 'A time zone needs a bucket', _hint, 'invalid_group');
    end if;
    name := data.column_name(_term->>'as', path || coalesce('_' || bucket, ''));
    zone := coalesce(_term->>'timezone', case when bucket is not null then coalesce(timezone, 'UTC') end);
    return next;
  end loop;
end
$$;
comment on function data.group_terms(jsonb, text) is
  'What a query''s group asks for, term by term: the column''s name, the path, and a date bucket with its time zone. RH400.';

create or replace function data.aggregate_terms(aggregate jsonb) returns table (n int, name text, fn text, path text)
language plpgsql immutable set search_path = '' as $$
declare
  _hint text := 'aggregate=count,sum(total),revenue:sum(total) or {"revenue": {"$sum": "total"}}. Functions: count, sum, avg, min, max, count_distinct.';
  _functions text[] := array['count', 'sum', 'avg', 'min', 'max', 'count_distinct'];
  _key text;
  _term jsonb;
  _parts text[];
begin
  if aggregate is null or aggregate = 'null' then
    aggregate := '["count"]';
  elsif jsonb_typeof(aggregate) not in ('array', 'object') then
    perform rowhouse.fail(400, 'aggregate is a list of functions, or an object of names and functions', _hint, 'invalid_aggregate');
  end if;
  for n, _key, _term in
    select o::int, null, t
    from jsonb_array_elements(case jsonb_typeof(aggregate) when 'array' then aggregate else '[]' end) with ordinality a (t, o)
    union all
    select o::int, k, t from jsonb_each(case jsonb_typeof(aggregate) when 'object' then aggregate else '{}' end) with ordinality a (k, t, o)
  loop
    if n > 16 then
      perform rowhouse.fail(400, 'aggregate has more than 16 functions', 'Ask for at most 16 at once.', 'invalid_aggregate');
    elsif jsonb_typeof(_term) = 'string' and _key is null then
      _parts := regexp_match(_term #>> '{}', '^(?:([^:()]*):)?\s*([^:()]+?)\s*(?:\(\s*([^()]*?)\s*\))?$');
    elsif jsonb_typeof(_term) = 'object' and _key is not null then
      select array[_key, case when k like '$%' then substr(k, 2) else '' end,
        case jsonb_typeof(v) when 'string' then v #>> '{}' end] into _parts
      from jsonb_each(_term) m (k, v)
      where (select count(*) from jsonb_object_keys(_term)) = 1 and jsonb_typeof(v) = 'string';
      _parts := case when found then _parts end;
    else
      _parts := null;
    end if;
    if _parts is null then
      perform rowhouse.fail(400, format('%L is not an aggregate', left(coalesce(_key || ': ', '') || (_term #>> '{}'), 80)), _hint,
        'invalid_aggregate');
    elsif not _parts[2] = any (_functions) then
      perform rowhouse.fail(400, format('%L is not a function of aggregates', left(_parts[2], 40)), _hint, 'invalid_aggregate');
    end if;
    fn := _parts[2];
    path := nullif(nullif(_parts[3], '*'), '');
    if path is null and (fn <> 'count' or _parts[3] = '') then
      perform rowhouse.fail(400, format('%s needs a field', fn), _hint, 'invalid_aggregate');
    end if;
    name := data.column_name(_parts[1], fn || coalesce('_' || replace(path, '.', '_'), ''));
    return next;
  end loop;
end
$$;
comment on function data.aggregate_terms(jsonb) is
  'What a query''s aggregate asks for, term by term: the column''s name, the function, and the path it is of (null for all records). RH400.';

-- PostgreSQL also takes POSIX specifications, of which any word with a number is one (Oslo+2, with the sign the other way
-- round), so only names are let through; looking a name up in pg_timezone_names took 46 ms.
create or replace function data.timezone(name text) returns text
language plpgsql immutable parallel safe set search_path = '' as $$
begin
  if length(name) <= 64 and name ~* '^(UTC|GMT|Etc/GMT[+-]?(\d|1[0-4])|[a-z]+(/[a-z_]+(-[a-z_]+)*)+)$' then
    perform timestamptz 'epoch' at time zone name;
    return name;
  end if;
  raise invalid_parameter_value;
exception when invalid_parameter_value then
  perform rowhouse.fail(400, format('%L is not a time zone', left(name, 64)),
    'Use a name of the IANA database: Europe/Oslo, America/New_York, UTC.', 'invalid_timezone');
end
$$;
comment on function data.timezone(text) is 'The name of a time zone (Europe/Oslo, UTC). RH400 when it is none.';
