-- Conditions as text: author_id = current_user.id and status in ('draft', 'review'). The words and the grammar are those of
-- computed fields and rules (data.parse_expression); what a filter cannot say is refused, with its position.

create or replace function access.condition_tokens(text text, out tokens text[], out positions int[])
language plpgsql immutable set search_path = '' as $$
declare
  _words record := data.expression_tokens(condition_tokens.text);
  _all text[] := _words.tokens;
  _at int[] := _words.positions;
  _token text;
  _before text := '';
  _next text;
  _put text[];
  _open int := 0; -- calls to be closed after the operand that begins here
begin
  if cardinality(_all) > 4000 then
    perform data.refuse_expression(format('a condition has at most 4,000 words and signs, this one has %s', cardinality(_all)), _at[4001]);
  end if;
  tokens := '{}';
  positions := '{}';
  for n in 1 .. cardinality(_all) loop
    _token := _all[n];
    _next := lower(coalesce(_all[n + 1], ''));
    _put := case
      when _token = '?$' and _next like '@%' then '{}'
      when _before = '?$' then array['@$' || substr(_token, 2)]
      when _before = '@in' and lower(_token) = '@cidr' and _next like '''%' then array['=(', '@cidr', '=(']
      when _before = '@in' and _token <> '=(' then array['=(', _token]
      when lower(_token) = '@contains' and _next <> '=(' and _before <> '=.' then array['@like', '@contains', '=(']
      when lower(_token) in ('"action', '"env', '"current_user') and _before <> '=.' then array['@$record', '=.', '@' || substr(_token, 2)]
      else array[_token] end;
    if _before = '@in' and _token <> '=(' then
      _open := case when lower(_token) = '@cidr' and _next like '''%' then 2 else 1 end;
      if _token = '?$' then
        _put := array['=('];
      end if;
    elsif _put[2] = '@contains' then
      _open := 1;
    end if;
    if _open > 0 and _put <> '{}' and _put[cardinality(_put)] <> '=(' and _next <> '=.' and _token <> '=.' then
      _put := _put || array_fill('=)'::text, array[_open]);
      _open := 0;
    end if;
    for i in 1 .. cardinality(_put) loop
      tokens := array_append(tokens, _put[i]);
      positions := array_append(positions, _at[n]);
    end loop;
    _before := lower(_token);
  end loop;
end
$$;
comment on function access.condition_tokens(text) is
  'The tokens of a condition, in the words of data.expression_tokens: $account is one, "in x" becomes in (x), and "a contains b" a like contains(b).';

create or replace function access.parse_condition(text text) returns jsonb
language plpgsql immutable set search_path = '' as $$
declare
  _words record;
  _out record;
begin
  if coalesce(btrim(parse_condition.text, E' \t\r\n'), '') = '' then
    perform data.refuse_expression('expected a condition, found nothing', 1);
  elsif length(parse_condition.text) > 20000 then
    perform data.refuse_expression(format('a condition has at most 20,000 characters, this one has %s', length(parse_condition.text)),
      20001);
  end if;
  _words := access.condition_tokens(parse_condition.text);
  _out := data.parse_operators(_words.tokens, _words.positions, 1, 1, 1);
  if _words.tokens[_out.next] <> '$' then
    perform data.refuse_token('an operator or the end', _words.tokens[_out.next], _words.positions[_out.next]);
  end if;
  return access.tree_condition(_out.tree);
end
$$;
comment on function access.parse_condition(text) is
  'A condition written as text, author_id = current_user.id and status in (''draft'', ''review''), as a filter. It knows = <> < <= > >=, like, ilike, in, between, is null, contains, in cidr ''10.0.0.0/8'', and, or, not; fields (address.city), current_user.id, .email, .roles, .groups, .attributes.x, env.ip, .time, .today, .weekday, .now, .user_agent, .origin, and action. RH400 names the position of what cannot be a condition.';

create or replace function access.refuse_tree(tree jsonb, expected text) returns void
language plpgsql immutable set search_path = '' as $$
begin
  perform data.refuse_expression(case
      when tree->>'operator' in ('+', '-', '*', '/', '%', '||', 'negate')
        then format('%s computes, and a condition compares', replace(tree->>'operator', 'negate', '-'))
      when tree ? 'function' then format('%s() cannot be used in a condition', left(tree->>'function', 40))
      else format('expected %s, found %s', expected,
        case when tree ? 'operator' then 'a comparison' when tree ? 'field' then 'a field' else 'a value' end) end,
    (tree->>'at')::int,
    'Conditions compare fields with values: status in (''draft'', ''review'') and author_id = current_user.id. What has to be computed can be a computed field.');
end
$$;
comment on function access.refuse_tree(jsonb, text) is 'Raises RH400 for a part of a syntax tree that cannot stand where it does, with its position.';

create or replace function access.tree_condition(tree jsonb) returns jsonb
language plpgsql immutable set search_path = '' as $$
declare
  _operator text := tree->>'operator';
  _arguments jsonb := tree->'arguments';
  _parts jsonb[];
begin
  if tree ? 'field' then
    return jsonb_build_object(access.tree_name(tree), true);
  elsif tree->>'type' = 'boolean' then
    return case when tree->'literal' = 'true' then '{}' else '{"$not": {}}' end::jsonb;
  elsif _operator in ('and', 'or') then
    _parts := array(select access.tree_condition(a) from jsonb_array_elements(_arguments) with ordinality x (a, n) order by n);
    -- {"a": 1, "b": 2} reads better than a list of two.
    if _operator = 'and' and (select count(*) = count(distinct k) from unnest(_parts) p, jsonb_object_keys(p) k) then
      return (select coalesce(jsonb_object_agg(e.key, e.value), '{}') from unnest(_parts) p, jsonb_each(p) e);
    end if;
    return jsonb_build_object('$' || _operator, to_jsonb(_parts));
  elsif _operator = 'not' then
    return jsonb_build_object('$not', access.tree_condition(_arguments->0));
  elsif _operator in ('is null', 'is not null') then
    return jsonb_build_object(access.tree_name(_arguments->0), jsonb_build_object('$exists', _operator = 'is not null'));
  elsif _operator in ('=', '!=', '<', '<=', '>', '>=', 'in', 'between', 'like', 'ilike') then
    return access.tree_comparison(_operator, _arguments);
  end if;
  perform access.refuse_tree(tree, 'a comparison');
end
$$;
comment on function access.tree_condition(jsonb) is 'A syntax tree of data.parse_operators as a filter. RH400 with the position of what a filter cannot say.';

create or replace function access.tree_comparison(operator text, arguments jsonb) returns jsonb
language plpgsql immutable set search_path = '' as $$
declare
  _left jsonb := arguments->0;
  _right jsonb := arguments->1;
  _operator text := case operator when '=' then '$eq' when '!=' then '$ne' when '<' then '$lt' when '<=' then '$lte' when '>' then '$gt'
    when '>=' then '$gte'
    else '$' || operator end;
  _name text;
begin
  if _left ? 'literal' and _right ? 'field' and operator not in ('in', 'between', 'like', 'ilike') then
    return access.tree_comparison(case when operator ~ '^<' then replace(operator, '<', '>') else replace(operator, '>', '<') end,
      jsonb_build_array(_right, _left));
  elsif '{"type": "null"}' <@ any (array(select jsonb_array_elements(arguments))) then
    perform data.refuse_expression('a comparison with null is never true: write is null or is not null', (_left->>'at')::int);
  end if;
  _name := access.tree_name(_left);
  if operator = 'between' then
    return jsonb_build_object(_name, jsonb_build_object('$gte', access.tree_value(_right), '$lte', access.tree_value(arguments->2)));
  elsif operator in ('like', 'ilike') and _right->>'function' = 'contains' then
    return jsonb_build_object(_name, jsonb_build_object('$contains', access.tree_value(_right #> '{arguments,0}')));
  elsif operator <> 'in' then
    return jsonb_build_object(_name, case _operator when '$eq' then access.tree_value(_right)
      else jsonb_build_object(_operator, access.tree_value(_right)) end);
  elsif _right->>'function' = 'cidr' then
    return jsonb_build_object(_name, jsonb_build_object('$cidr', access.tree_value(_right #> '{arguments,0}')));
  elsif _right ? 'field' and jsonb_array_length(arguments) = 2 then
    return jsonb_build_object(_name, jsonb_build_object('$in', access.tree_value(_right)));
  end if;
  return jsonb_build_object(_name, jsonb_build_object('$in', (
    select jsonb_agg(access.tree_literal(a) order by n) from jsonb_array_elements(arguments - 0) with ordinality x (a, n))));
end
$$;
comment on function access.tree_comparison(text, jsonb) is 'A comparison of a syntax tree as a filter. RH400.';

create or replace function access.tree_name(tree jsonb) returns text
language plpgsql immutable set search_path = '' as $$
declare
  _path text[] := array(select jsonb_array_elements_text(tree->'field'));
  _first text := lower(_path[1]);
  _rest text := array_to_string(_path[2:], '.');
begin
  if _path = '{}' then
    perform access.refuse_tree(tree, 'a field');
  elsif exists (select from unnest(_path) p where p ~ '[.$]' and p <> _path[1] or p ~ '\.' or p = '') then
    perform data.refuse_expression('a name has no dot or dollar in it', (tree->>'at')::int);
  elsif _first in ('current_user', '$account') and _rest <> '' then
    return '$account.' || _rest;
  elsif _first in ('env', '$env') and _rest <> '' then
    return '$env.' || _rest;
  elsif _first in ('action', '$action') and _rest = '' then
    return '$action';
  elsif _first = '$record' and _rest <> '' then
    return _rest;
  elsif _first in ('current_user', 'env') or _first ~ '\$' then
    perform data.refuse_expression(format('%s is not known here', left(_first, 40)), (tree->>'at')::int,
      'There are current_user.id, .email, .roles, .groups and .attributes.x, env.ip, .time, .today, .weekday, .now, .user_agent and .origin, and action. A field of such a name is written "env".');
  end if;
  return array_to_string(_path, '.');
end
$$;
comment on function access.tree_name(jsonb) is 'What a path of a syntax tree is called in a filter: a field, $account.…, $env.… or $action. RH400.';

create or replace function access.tree_literal(tree jsonb) returns jsonb
language plpgsql immutable set search_path = '' as $$
begin
  if not tree ? 'literal' or tree->>'type' = 'null' then
    perform access.refuse_tree(tree, 'a value in quotes, a number, true or false');
  end if;
  return access.literal_operand(tree->'literal');
end
$$;
comment on function access.tree_literal(jsonb) is 'A literal of a syntax tree as an operand of a filter. RH400.';

create or replace function access.literal_operand(value jsonb) returns jsonb
language sql immutable parallel safe
return case when value #>> '{}' ~ '^\$[A-Za-z]'
  and jsonb_typeof(value) = 'string' then jsonb_build_object('$literal', value) else value end;
comment on function access.literal_operand(jsonb) is 'A value as an operand: a text that looks like a reference, $account.id, becomes {"$literal": "$account.id"}.';

create or replace function access.tree_value(tree jsonb) returns jsonb
language plpgsql immutable set search_path = '' as $$
declare
  _name text;
begin
  if not tree ? 'field' then
    return access.tree_literal(tree);
  end if;
  _name := access.tree_name(tree);
  return to_jsonb(case when _name like '$%' then _name else '$record.' || _name end);
end
$$;
comment on function access.tree_value(jsonb) is 'The right side of a comparison as an operand: a value, or a reference like $account.id or $record.owner_id. RH400.';
