-- The parser of the expression language: precedence climbing over the tokens, into a syntax tree of
--   {"literal", "type"}                  a text, number, boolean, date or null
--   {"field": ["address", "city"]}       a field, by its path
--   {"operator": "+", "arguments": […]}  also =, and, not, negate, is null, in, between, like …; chains of one operator are one node
--   {"function": "lower", "arguments": […]}
-- each with "at", its position in the text (from 1). It knows no fields: data.compile_expression does.

create or replace function data.parse_expression(expression text) returns jsonb
language plpgsql immutable set search_path = '' as $$
declare
  _words record;
  _out record;
begin
  if coalesce(btrim(parse_expression.expression, E' \t\r\n'), '') = '' then
    perform data.refuse_expression('expected a value, found nothing', 1);
  elsif length(parse_expression.expression) > 4000 then
    perform data.refuse_expression(format('an expression has at most 4,000 characters, this one has %s',
      length(parse_expression.expression)), 4001);
  end if;
  _words := data.expression_tokens(parse_expression.expression);
  _out := data.parse_operators(_words.tokens, _words.positions, 1, 1, 1);
  if _words.tokens[_out.next] <> '$' then
    perform data.refuse_token('an operator or the end', _words.tokens[_out.next], _words.positions[_out.next]);
  end if;
  return _out.tree;
end
$$;
comment on function data.parse_expression(text) is
  'The syntax tree of an expression (price * quantity, end_date >= start_date) as JSON: literals, fields, operators and functions, each with its position "at". RH400 names the position and what was expected.';

create or replace function data.check_levels(levels int, at int) returns int
language plpgsql immutable set search_path = '' as $$
begin
  if check_levels.levels > 50 then
    perform data.refuse_expression('this is nested too deeply: 50 levels at most', check_levels.at);
  end if;
  return check_levels.levels;
end
$$;
comment on function data.check_levels(int, int) is 'The number of levels, or RH400 when they are more than 50.';

create or replace function data.parse_operators(tokens text[], positions int[], start int, lowest int, depth int,
  out tree jsonb, out next int, out levels int)
language plpgsql immutable set search_path = '' as $$
declare
  _left record := data.parse_operand(tokens, positions, start, depth);
  _right record;
  _sign text;
  _at int;
  _negated boolean;
  _strength int;
  _arguments jsonb[]; -- what stands after the operator
  _argument jsonb;
  _deepest int;
  _chain text := ''; -- the operator whose operands are being collected
  _chain_at int;
  _operands jsonb[];
begin
  tree := _left.tree;
  next := _left.next;
  levels := _left.levels;
  loop
    _at := positions[next];
    _sign := lower(tokens[next]);
    _negated := _sign = '@not' and lower(tokens[next + 1]) in ('@in', '@like', '@ilike', '@between');
    if _negated then
      _sign := lower(tokens[next + 1]);
    end if;
    _strength := case when _sign = '@or' then 1 when _sign = '@and' then 2
      when _sign in ('==', '=!=', '=<>', '=<', '=<=', '=>', '=>=', '@is', '@in', '@like', '@ilike', '@between') then 4
      when _sign = '=||' then 5 when _sign in ('=+', '=-') then 6 when _sign in ('=*', '=/', '=%') then 7 end;
    exit when _strength is null or _strength < lowest;
    next := next + case when _negated then 2 else 1 end;
    _sign := replace(substr(_sign, 2), '<>', '!=');
    if _strength = 4 and _chain in ('=', '!=', '<', '<=', '>', '>=', 'is null', 'is not null', 'in', 'like', 'ilike', 'between', 'not') then
      perform data.refuse_expression('comparisons do not follow one another: join them by and, or put one into parentheses', _at);
    end if;
    case _sign
      when 'is' then
        if lower(tokens[next]) = '@not' then
          _negated := true;
          next := next + 1;
        end if;
        if lower(tokens[next]) <> '@null' then
          perform data.refuse_token('null or not null', tokens[next], positions[next]);
        end if;
        _arguments := '{}';
        _deepest := 0;
        next := next + 1;
        _sign := case when _negated then 'is not null' else 'is null' end;
        _negated := false;
      when 'in' then
        _right := data.parse_list(tokens, positions, next, depth);
        if _right.tree = '[]' then
          perform data.refuse_token('a value', tokens[_right.next - 1], positions[_right.next - 1]);
        end if;
        _arguments := array(select jsonb_array_elements(_right.tree));
        _deepest := _right.levels;
        next := _right.next;
      when 'between' then
        _right := data.parse_operators(tokens, positions, next, 5, depth);
        if lower(tokens[_right.next]) <> '@and' then
          perform data.refuse_token('and', tokens[_right.next], positions[_right.next]);
        end if;
        _left := data.parse_operators(tokens, positions, _right.next + 1, 5, depth);
        _arguments := array[_right.tree, _left.tree];
        _deepest := greatest(_right.levels, _left.levels);
        next := _left.next;
      else
        _right := data.parse_operators(tokens, positions, next, _strength + 1, depth);
        _arguments := array[_right.tree];
        _deepest := _right.levels;
        next := _right.next;
    end case;
    if _sign = _chain then
      levels := data.check_levels(greatest(levels, _deepest + 1), _at);
    else
      if _chain <> '' then
        tree := jsonb_build_object('operator', _chain, 'arguments', to_jsonb(_operands), 'at', _chain_at);
      end if;
      levels := data.check_levels(greatest(levels, _deepest) + 1, _at);
      _operands := array[tree];
      _chain := _sign;
      _chain_at := _at;
    end if;
    foreach _argument in array _arguments loop
      _operands := array_append(_operands, _argument); -- in place: a jsonb that grows made 2,000 operands take 2 s
    end loop;
    if _negated then
      tree := jsonb_build_object('operator', _sign, 'arguments', to_jsonb(_operands), 'at', _at);
      levels := data.check_levels(levels + 1, _at);
      _operands := array[tree];
      _chain := 'not';
    end if;
  end loop;
  if _chain <> '' then
    tree := jsonb_build_object('operator', _chain, 'arguments', to_jsonb(_operands), 'at', _chain_at);
  end if;
end
$$;
comment on function data.parse_operators(text[], int[], int, int, int) is
  'An operand and the operators after it that bind at least as strongly as lowest: or 1, and 2, not 3, comparisons 4, || 5, + - 6, * / % 7. Returns the tree, the place of the next token, and the tree''s levels. RH400.';

create or replace function data.parse_list(tokens text[], positions int[], start int, depth int, out tree jsonb, out next int,
  out levels int)
language plpgsql immutable set search_path = '' as $$
declare
  _item record;
  _items jsonb[] := '{}';
begin
  if tokens[start] <> '=(' then
    perform data.refuse_token('"("', tokens[start], positions[start]);
  end if;
  tree := '[]';
  levels := 0;
  next := start + 1;
  if tokens[next] = '=)' then
    next := next + 1;
    return;
  end if;
  loop
    _item := data.parse_operators(tokens, positions, next, 1, depth + 1);
    _items := array_append(_items, _item.tree);
    levels := greatest(levels, _item.levels);
    next := _item.next + 1;
    exit when tokens[_item.next] = '=)';
    if tokens[_item.next] <> '=,' then
      perform data.refuse_token('"," or ")"', tokens[_item.next], positions[_item.next]);
    end if;
  end loop;
  tree := to_jsonb(_items);
end
$$;
comment on function data.parse_list(text[], int[], int, int) is 'Values in parentheses, with commas between, as a JSON array of trees. RH400.';

create or replace function data.parse_operand(tokens text[], positions int[], start int, depth int, out tree jsonb, out next int,
  out levels int)
language plpgsql immutable set search_path = '' as $$
declare
  _token text := tokens[start];
  _word text := lower(tokens[start]);
  _at int := positions[start];
  _inner record;
begin
  perform data.check_levels(depth, _at);
  next := start + 1;
  levels := 1;
  if _token = '=(' then
    _inner := data.parse_operators(tokens, positions, next, 1, depth + 1);
    if tokens[_inner.next] <> '=)' then
      perform data.refuse_token('an operator or ")"', tokens[_inner.next], positions[_inner.next]);
    end if;
    tree := _inner.tree;
    next := _inner.next + 1;
    levels := _inner.levels;
  elsif _token = '=-' or _word = '@not' then
    if _token = '=-' then
      _inner := data.parse_operand(tokens, positions, next, depth + 1);
    else
      _inner := data.parse_operators(tokens, positions, next, 4, depth + 1);
    end if;
    next := _inner.next;
    levels := data.check_levels(_inner.levels + 1, _at);
    tree := case when _token = '=-' and jsonb_typeof(_inner.tree->'literal') = 'number'
      then _inner.tree || jsonb_build_object('literal', - (_inner.tree->>'literal')::numeric, 'at', _at)
      else jsonb_build_object('operator', case _token when '=-' then 'negate' else 'not' end, 'arguments', jsonb_build_array(_inner.tree),
        'at', _at) end;
  elsif _token like '#%' then
    tree := jsonb_build_object('literal', substr(_token, 2)::numeric, 'type', case when _token like '%.%' then 'decimal' else 'integer' end,
      'at', _at);
  elsif _token like '''%' then
    tree := jsonb_build_object('literal', substr(_token, 2), 'type', 'text', 'at', _at);
  elsif _word in ('@true', '@false') then
    tree := jsonb_build_object('literal', _word = '@true', 'type', 'boolean', 'at', _at);
  elsif _word = '@null' then
    tree := jsonb_build_object('literal', null, 'type', 'null', 'at', _at);
  elsif _word = '@date' and tokens[next] like '''%' then
    if tokens[next] !~ '^''\d{4}-\d{2}-\d{2}$' or not pg_input_is_valid(substr(tokens[next], 2), 'date') then
      perform data.refuse_token('a date like ''2026-01-31''', tokens[next], positions[next]);
    end if;
    tree := jsonb_build_object('literal', substr(tokens[next], 2), 'type', 'date', 'at', _at);
    next := next + 1;
  elsif _word like '@%' and tokens[next] = '=(' and _word not in ('@and', '@or', '@in', '@is', '@like', '@ilike', '@between') then
    _inner := data.parse_list(tokens, positions, next, depth);
    tree := jsonb_build_object('function', substr(_word, 2), 'arguments', _inner.tree, 'at', _at);
    next := _inner.next;
    levels := data.check_levels(_inner.levels + 1, _at);
  elsif left(_token, 1) in ('@', '"') and _word not in ('@and', '@or', '@in', '@is', '@like', '@ilike', '@between') then
    tree := jsonb_build_object('field', jsonb_build_array(substr(_token, 2)), 'at', _at);
    while tokens[next] = '=.' loop
      if left(tokens[next + 1], 1) not in ('@', '"') then
        perform data.refuse_token('a name', tokens[next + 1], positions[next + 1]);
      end if;
      tree := jsonb_set(tree, '{field}', tree->'field' || to_jsonb(substr(tokens[next + 1], 2)));
      next := next + 2;
    end loop;
  else
    perform data.refuse_token('a value', _token, _at);
  end if;
end
$$;
comment on function data.parse_operand(text[], int[], int, int) is
  'A literal, a field, a function''s call, something in parentheses, or not or minus before one of these. RH400.';
