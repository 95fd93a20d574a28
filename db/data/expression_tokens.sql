-- The words of the expression language. A token is a letter for its kind, then its text: #12.5 (number), 'text, @name,
-- "quoted name, =<= (sign), ? (anything else), $ (the end).

create or replace function data.refuse_expression(problem text, at int, hint text default null) returns void
language plpgsql immutable set search_path = '' as $$
begin
  perform rowhouse.fail(400, format('The expression is not valid at position %s: %s', refuse_expression.at, problem),
    coalesce(hint, 'Expressions look like: price * quantity, end_date >= start_date, if(active, ''yes'', ''no'').'), 'invalid_expression',
    jsonb_build_array(jsonb_build_object('pointer', '', 'message', problem, 'position', refuse_expression.at)));
end
$$;
comment on function data.refuse_expression(text, int, text) is 'Raises RH400 for an expression, with the position (from 1) of what is wrong.';

create or replace function data.expression_tokens(expression text, out tokens text[], out positions int[])
language sql immutable set search_path = '' as $$
  with words as (
    select w, n, coalesce(w[1], w[2], w[3], w[4], w[5], w[6], w[7]) as word
    from regexp_matches(expression_tokens.expression,
      '(\s+)|([0-9]+(?:\.[0-9]+)?)|([A-Za-z_][A-Za-z0-9_]*)|(''(?:[^'']|'''')*'')|("(?:[^"]|"")+")|(<>|!=|<=|>=|\|\||[-+*/%=<>(),.])|(.)',
      'g') with ordinality m (w, n)
  ),
  placed as (
    select n, w[1] is not null as is_space,
      (1 + coalesce(sum(length(word)) over (order by n rows between unbounded preceding and 1 preceding), 0))::int as at,
      case when w[2] is not null then '#' || w[2]
        when w[3] is not null then '@' || w[3]
        when w[4] is not null then '''' || replace(substr(w[4], 2, length(w[4]) - 2), '''''', '''')
        when w[5] is not null then '"' || replace(substr(w[5], 2, length(w[5]) - 2), '""', '"')
        when w[6] is not null then '=' || w[6]
        else '?' || w[7] end as token
    from words
  )
  select coalesce(array_agg(token order by n), '{}') || '$'::text,
    coalesce(array_agg(at order by n), '{}') || length(expression_tokens.expression) + 1
  from placed where not is_space
$$;
comment on function data.expression_tokens(text) is 'The tokens of an expression and the positions (from 1) at which they stand; the last is the end.';

create or replace function data.refuse_token(expected text, token text, at int) returns void
language sql immutable set search_path = '' as $$
  select data.refuse_expression(
    case when token in ('?''', '?"') then format('this quote (%s) is never closed', substr(token, 2))
      else format('expected %s, found %s', expected,
        case left(token, 1) when '$' then 'the end' when '''' then 'the text ' || quote_literal(left(substr(token, 2), 40))
        else '"' || left(substr(token, 2), 40) || '"' end) end,
    refuse_token.at)
$$;
comment on function data.refuse_token(text, text, int) is 'Raises RH400: what was expected and what was found.';
