-- Regular expressions of JSON Schema (ECMA-262, flag u) as PostgreSQL's. PostgreSQL's engine is an automaton, so that
-- (a+)+$ takes linear time; back references would take it to backtracking, and are refused with what else it cannot do.

create or replace function data.regex_tokens(pattern text) returns table (n bigint, token text)
language sql immutable parallel safe set search_path = '' as $$
  select m.n, m.match[1]
  from regexp_matches(pattern, '(\[\^?(?:\\.|[^\]\\])*\]|\\u\{[0-9a-fA-F]+\}|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}'
    || '|\\u[0-9a-fA-F]{4}|\\x[0-9a-fA-F]{2}|\\c[A-Za-z]|\\[pP]\{[^}]*\}|\\k<[^>]*>|\\.|\(\?(?:[:=!]|<[=!]|<[A-Za-z_]\w*>)|\(\?'
    || '|(?:[*+?]|\{[0-9]+(?:,[0-9]*)?\})\??|.)', 'g') with ordinality m (match, n)
$$;
comment on function data.regex_tokens(text) is 'A regular expression of ECMA-262 in pieces: classes, escapes, openings of groups, quantifiers, characters.';

create or replace function data.regex_character(token text) returns text
language sql immutable parallel safe set search_path = '' as $$
  select case
    when token ~ '^\\u[dD][89abAB]..\\u' then '\U' || lpad(to_hex(65536
      + ((('x' || substr(token, 3, 4))::bit(16)::int - 55296) << 10) + ('x' || substr(token, 9, 4))::bit(16)::int - 56320), 8, '0')
    when token ~ '^\\u\{0*[0-9a-fA-F]{1,6}\}$' then '\U' || lpad(ltrim(substr(token, 4, length(token) - 4), '0'), 8, '0')
    when token ~ '^\\u[dD][89a-fA-F]' then null
    when token ~ '^\\u[0-9a-fA-F]{4}$' then token
    when token ~ '^\\x[0-9a-fA-F]{2}$' then '\u00' || substr(token, 3)
    when token ~ '^\\c[A-Za-z]$' then '\u00' || lpad(to_hex(ascii(upper(substr(token, 3))) - 64), 2, '0')
    when token ~ '^\\[tnrfv]$' or token ~ '^\\[^[:alnum:]]$' then token
  end
$$;
comment on function data.regex_character(text) is 'An escape of ECMA-262 that stands for one character, as PostgreSQL writes it; null for any other.';

create or replace function data.regex_class(letter text) returns text
language sql immutable parallel safe set search_path = '' as $$
  select case letter
    when 'd' then '0-9'
    when 'D' then '\u0001-/:-\U0010ffff'
    when 'w' then 'A-Za-z0-9_'
    when 'W' then '\u0001-/:-@\[-\^`\{-\U0010ffff'
    when 's' then '\u0009-\u000d \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ufeff'
    when 'S'
      then '\u0001-\u0008\u000e-\u001f!-\u009f\u00a1-\u167f\u1681-\u1fff\u200b-\u2027\u202a-\u202e\u2030-\u205e\u2060-\u2fff\u3001-\ufefe\uff00-\U0010ffff'
  end
$$;
comment on function data.regex_class(text) is 'What \d, \D, \w, \W, \s and \S match by ECMA-262, whatever the locale, as the inside of a bracket expression.';

create or replace function data.regex_bracket(class text) returns text
language sql immutable parallel safe set search_path = '' as $$
  with tokens as (
    select t.n, t.token, lag(t.token) over (order by t.n) as before, lead(t.token) over (order by t.n) as after
    from regexp_matches(regexp_replace(substr(class, 1, length(class) - 1), '^\[\^?', ''),
      '(\\u\{[0-9a-fA-F]+\}|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\x[0-9a-fA-F]{2}|\\c[A-Za-z]|\\.|.)',
      'g')
      with ordinality m (match, n), lateral (select m.n, m.match[1]) t (n, token)
  ), written (n, part) as (
    select n, case
      when token = '-' and before is not null and after is not null and before !~ '^\\[dDwWsS]$' and after !~ '^\\[dDwWsS]$' then '-'
      when token in ('-', '[', '^') then '\' || token
      when token ~ '^\\[dDwWsS]$' then data.regex_class(substr(token, 2))
      when token = '\b' then '\u0008'
      when token ~ '^\\' then data.regex_character(token)
      else token end
    from tokens
  )
  select case when class = '[^]' then '.' else (
    select case when bool_and(part is not null) then substring(class from '^\[\^?') || string_agg(part, '' order by n) || ']' end
    from written) end
$$;
comment on function data.regex_bracket(text) is 'A class of ECMA-262 ([^\w-]) as a bracket expression of PostgreSQL; null when it has none.';

create or replace function data.regex_part(token text) returns text
language sql immutable parallel safe set search_path = '' as $$
  select case
    when token ~ '^\[.*\]$' then data.regex_bracket(token)
    when token = '.' then '[^\n\r\u2028\u2029]'
    when token = '\b' then '(?:(?<=[A-Za-z0-9_])(?![A-Za-z0-9_])|(?<![A-Za-z0-9_])(?=[A-Za-z0-9_]))'
    when token = '\B' then '(?:(?<=[A-Za-z0-9_])(?=[A-Za-z0-9_])|(?<![A-Za-z0-9_])(?![A-Za-z0-9_]))'
    when token ~ '^\\[dDwWsS]$' then '[' || data.regex_class(substr(token, 2)) || ']'
    when token ~ '^\\' then data.regex_character(token)
    when token in ('(?', '[') then null
    when token ~ '^\(\?<[A-Za-z_]' then '('
    when token ~ '^\{\d'
      then case when (select max(length(c)) <= 3 and max(right('000' || c, 3)) <= '255' from regexp_split_to_table(token, '\D+') c)
      then rtrim(token, '?') end
    when token ~ '^[*+?]\?$' then left(token, 1)
    when token in ('{', '}', ']') then '\' || token
    else token
  end
$$;
comment on function data.regex_part(text) is 'A piece of a regular expression of ECMA-262 as PostgreSQL writes it; null when it cannot.';

create or replace function data.regex_problem(pattern text) returns text
language sql immutable parallel safe set search_path = '' as $$
  select case
    when length(pattern) > 1000 then 'has more than 1000 characters, which is not supported'
    when pattern ~ '^\*' then 'is not a regular expression: nothing to repeat'
    else coalesce(
      (select case when t.token ~ '^\{' then format('has %s: counts beyond 255 are not supported; use minLength and maxLength', t.token)
          else format('has %s, which is not supported in regular expressions', left(t.token, 60)) end
        from data.regex_tokens(pattern) t where data.regex_part(t.token) is null order by t.n limit 1),
      (select format('is not a regular expression that PostgreSQL understands (%s): not supported', e)
        from data.regex_error(data.regex(pattern)) e where e is not null))
  end
$$;
comment on function data.regex_problem(text) is 'Why a regular expression of JSON Schema cannot be honoured; null when it can.';

create or replace function data.regex(pattern text) returns text
language sql immutable parallel safe set search_path = '' as $$
  select coalesce(string_agg(data.regex_part(t.token), '' order by t.n), '') from data.regex_tokens(pattern) t
$$;
comment on function data.regex(text) is
  'A regular expression of JSON Schema (ECMA-262) as PostgreSQL writes it; data.regex_problem says whether it can.';
