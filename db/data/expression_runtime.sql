-- What compiled expressions call. They run in the views, as whoever reads: no value may make them fail, but for texts
-- beyond a million characters (ten of 1 MB in a chain of replace would be 10^60). A write meets that first.

create or replace function data.refuse_long_text(size bigint) returns void
language plpgsql immutable parallel safe set search_path = '' as $$
begin
  if refuse_long_text.size > 1000000 then
    perform rowhouse.fail(422, 'a computed text has more than 1,000,000 characters', 'Make the texts it is made of shorter.', 'too_large');
  end if;
end
$$;
comment on function data.refuse_long_text(bigint) is 'Raises RH422 when a computed text would have more than 1,000,000 characters.';

create or replace function data.text_joined(texts text[], skip_nulls boolean) returns text
language plpgsql immutable parallel safe set search_path = '' as $$
declare
  _out text := array_to_string(text_joined.texts, '');
begin
  if length(_out) > 1000000 then
    perform data.refuse_long_text(length(_out));
  end if;
  return case when text_joined.skip_nulls or array_position(text_joined.texts, null) is null then _out end;
end
$$;
comment on function data.text_joined(text[], boolean) is 'The texts as one; null when one is null, unless nulls are skipped. For expressions (||, concat). RH422.';

create or replace function data.text_replaced(value text, find text, put text) returns text
language plpgsql immutable strict parallel safe set search_path = '' as $$
declare
  _growth bigint := length(text_replaced.put) - length(text_replaced.find);
begin
  if _growth > 0 and length(text_replaced.find) > 0 and length(text_replaced.value)::bigint * (_growth + 1) > 1000000 then
    perform data.refuse_long_text(length(text_replaced.value)
      + (length(text_replaced.value) - length(replace(text_replaced.value, text_replaced.find,
        ''))) / length(text_replaced.find) * _growth);
  end if;
  return replace(text_replaced.value, text_replaced.find, text_replaced.put);
end
$$;
comment on function data.text_replaced(text, text, text) is 'replace() for expressions. RH422 when the result would be longer than 1,000,000 characters.';

create or replace function data.text_number(value text) returns numeric
language sql immutable parallel safe
return case when length(value) <= 1000 and value ~ '^\s*[+-]?[0-9]+(\.[0-9]+)?\s*$' then btrim(value, E' \t\r\n\f\v')::numeric end;
comment on function data.text_number(text) is 'The decimal number that a text writes, null when it writes none. For expressions (to_number).';

create or replace function data.clamped_int(value numeric) returns int
language sql immutable parallel safe
return least(greatest(value, -2147483648), 2147483647)::int;
comment on function data.clamped_int(numeric) is 'A whole number, cut to what 32 bits hold. For expressions.';

create or replace function data.int8_or_null(value numeric) returns int8
language sql immutable parallel safe
return case when value between -9223372036854775808 and 9223372036854775807 then value::int8 end;
comment on function data.int8_or_null(numeric) is 'A whole number of 64 bits, null beyond. For computed fields that are read: a write that goes beyond is refused.';

create or replace function data.float8_or_null(value numeric) returns float8
language sql immutable parallel safe
return case when abs(value) <= 1.7e308 then case when abs(value) < 1e-307 then 0 else value::float8 end end;
comment on function data.float8_or_null(numeric) is 'A floating-point number, null beyond its range. For computed fields that are read: a write that goes beyond is refused.';

create or replace function data.time_added(value timestamp, amount numeric, unit text) returns timestamp
language plpgsql immutable strict parallel safe set search_path = '' as $$
declare
  _days numeric := case unit when 'years' then 365 when 'months' then 30 when 'weeks' then 7 when 'days' then 1
    when 'hours' then 1 / 24.0 when 'minutes' then 1 / 1440.0 else 1 / 86400.0 end;
  _out timestamp;
begin
  if abs(amount * _days) > 3660000 or value not between '0001-01-01' and '9999-12-31 23:59:59.999999' then
    return null;
  end if;
  _out := value + case unit when 'years' then make_interval(years => amount::int) when 'months' then make_interval(months => amount::int)
    when 'weeks' then make_interval(days => amount::int * 7) when 'days' then make_interval(days => amount::int)
    when 'hours' then make_interval(hours => amount::int)
      else make_interval(secs => amount::float8 * case unit when 'minutes' then 60 else 1 end) end;
  return case when _out between '0001-01-01' and '9999-12-31 23:59:59.999999' then _out end;
end
$$;
comment on function data.time_added(timestamp, numeric, text) is
  'A time plus an amount of years, months, weeks, days, hours, minutes or seconds; null outside the years 1 to 9999. For expressions (date_add).';

create or replace function data.time_between(later timestamp, earlier timestamp, unit text) returns int8
language sql immutable parallel safe
return case unit
  when 'years' then extract(year from age(later, earlier))::int8
  when 'months' then (extract(year from age(later, earlier)) * 12 + extract(month from age(later, earlier)))::int8
  else trunc(extract(epoch from later - earlier) / case unit when 'weeks' then 604800 when 'days' then 86400 when 'hours' then 3600
    when 'minutes' then 60 else 1 end)::int8
end;
comment on function data.time_between(timestamp, timestamp, text) is
  'Whole years, months, weeks, days, hours, minutes or seconds from the second time to the first, cut towards zero. For expressions (date_diff).';

create or replace function data.utc_text(value timestamptz) returns text
language sql immutable parallel safe
return (to_jsonb(value at time zone 'UTC') #>> '{}') || '+00:00';
comment on function data.utc_text(timestamptz) is 'A time in RFC 3339, in UTC. For expressions (to_text) and stored computed fields.';
