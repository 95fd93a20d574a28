-- Rules across fields, and the checks that computed fields can be computed, as a part of an entity's _violations.

create or replace function data.compile_rules(schema jsonb, source text) returns text
language plpgsql immutable set search_path = '' as $$
declare
  _fields jsonb;
  _out text := '';
  _name text;
  _field jsonb;
  _rule jsonb;
  _tree jsonb;
begin
  if not compile_rules.schema @? '$.properties.*."x-computed"' and coalesce(compile_rules.schema->'x-rules', '[]') = '[]' then
    return '';
  end if;
  _fields := data.all_fields(compile_rules.schema, data.data_columns(compile_rules.schema, source));
  foreach _name in array data.computed_names(compile_rules.schema) loop
    _field := _fields->_name;
    continue when not _field ? 'value';
    _out := _out || format(E'_at := %L;\nif not _bad && %L::text[] then\n%send if;\n', '/' || _name,
      array(select jsonb_array_elements_text(_field->'names')),
      case when _field ? 'fails'
        then format(E'if %s then _e := _e || data.violation(_at, ''cannot be computed: a number is out of range''); end if;\n',
        _field->>'fails')
        else format(E'_void := (%s) is null;\n', _field->>'value') end);
  end loop;
  for _rule in select r from jsonb_array_elements(compile_rules.schema->'x-rules') r loop
    _tree := data.parse_expression(_rule->>'rule');
    _out := _out || format(E'_at := %L;\nif not _bad && %L::text[] and not (%s) then _e := _e || data.violation(_at, %L); end if;\n',
      coalesce('/' || (_rule->>'field'), ''),
      array(select jsonb_array_elements_text(data.base_names(data.expression_names(_tree), _fields))),
      data.compile_expression(_tree, _fields)->>'sql', coalesce(_rule->>'message', 'must fulfil ' || (_rule->>'rule')));
  end loop;
  return format($sql$
    declare
      _bad text[] := '{}'; -- what is wrong itself breaks no rule
      _at text;
      _void boolean;
    begin
    if _e <> '[]' then
      _bad := array(select split_part(e->>'pointer', '/', 2) from jsonb_array_elements(_e) e);
    end if;
    %s
    exception when data_exception or program_limit_exceeded or sqlstate 'RH422' then
      _e := _e || data.violation(_at, 'cannot be computed: ' || case sqlstate when 'RH422' then sqlerrm when '22003' then 'a number is out of range' else 'a value is too large' end);
    end;
    $sql$, _out);
end
$$;
comment on function data.compile_rules(jsonb, text) is
  'PL/pgSQL that appends to _e the rules (x-rules) that a record''s data breaks, and the computed fields that it makes impossible; null passes, as in SQL checks.';

-- What only compares cannot fail on a record that is valid otherwise, and needs nobody who catches what does.
create or replace function data.only_compares(tree jsonb, fields jsonb) returns boolean
language sql immutable set search_path = '' as $$
  select not jsonb_path_exists(tree, 'strict $.**.function', silent => true)
    and not exists (select from jsonb_path_query(tree, 'strict $.**.operator', silent => true) o
      where o #>> '{}' <> all ('{and,or,not,is null,is not null,=,!=,<,<=,>,>=,in,between}'))
    and not exists (select from jsonb_path_query(tree, 'strict $.**.field', silent => true) f
      where jsonb_array_length(f) > 1 or coalesce(fields->(f->>0)->'schema' ?| '{x-computed,x-alias}', true))
$$;
comment on function data.only_compares(jsonb, jsonb) is 'Whether a syntax tree compares stored fields and literals and does nothing else.';

create or replace function data.rules_check(schema jsonb, source text) returns text
language sql immutable set search_path = '' as $$
  select case when bool_and(data.only_compares(t.tree, f))
    then string_agg(format('(%s) is not false', data.compile_expression(t.tree, f)->>'sql'), ' and ' order by r.n) end
  from data.all_fields(rules_check.schema, data.data_columns(rules_check.schema, rules_check.source)) f,
    jsonb_array_elements(rules_check.schema->'x-rules') with ordinality r (rule, n),
    lateral (select data.parse_expression(r.rule->>'rule') offset 0) t (tree)
$$;
comment on function data.rules_check(jsonb, text) is
  'SQL that is true when a valid record (jsonb expression source) breaks no rule; null where rules do more than to compare.';

create or replace function data.rules_volatility(schema jsonb) returns text
language plpgsql immutable set search_path = '' as $$
declare
  _fields jsonb;
begin
  if not rules_volatility.schema @? '$.properties.*."x-computed"' and coalesce(rules_volatility.schema->'x-rules', '[]') = '[]' then
    return 'immutable';
  end if;
  _fields := data.all_fields(rules_volatility.schema, data.data_columns(rules_volatility.schema, 'x'));
  return case when exists (select from jsonb_each(_fields) f where f.value->'now' = 'true')
    or exists (select from jsonb_array_elements(rules_volatility.schema->'x-rules') r
      where data.uses_now(data.parse_expression(r->>'rule'), _fields))
    then 'stable' else 'immutable' end;
end
$$;
comment on function data.rules_volatility(jsonb) is 'stable when an entity''s rules depend on now() or today(), else immutable.';

create or replace function data.expression_problem(pointer text, message text, error jsonb) returns jsonb
language sql immutable parallel safe set search_path = '' as $$
  select jsonb_build_array(jsonb_build_object('pointer', pointer, 'message', message)
    || coalesce(jsonb_build_object('position', error #> '{errors,0,position}'), '{}'))
$$;
comment on function data.expression_problem(text, text, jsonb) is 'A violation that an expression caused, with its position.';

create or replace function data.rule_violations(schema jsonb, fields jsonb) returns jsonb
language plpgsql immutable set search_path = '' as $$
declare
  _errors jsonb := '[]';
  _rule jsonb;
  _n int;
  _at text;
  _detail text;
begin
  if jsonb_typeof(rule_violations.schema->'x-rules') <> 'array' or jsonb_array_length(rule_violations.schema->'x-rules') > 100 then
    return data.violation('/x-rules',
      'must be a list of at most 100 rules: [{"rule": "end_date >= start_date", "message": "must end after it starts", "field": "end_date"}]');
  end if;
  for _rule, _n in select r, n - 1 from jsonb_array_elements(rule_violations.schema->'x-rules') with ordinality x (r, n) loop
    _at := '/x-rules/' || _n;
    if jsonb_typeof(_rule) <> 'object' or jsonb_typeof(_rule->'rule') is distinct from 'string'
      or _rule - '{rule,message,field}'::text[] <> '{}' then
      _errors := _errors || data.violation(_at, 'must be an object with rule, and with message and field where wanted');
    elsif _rule ? 'message' and (jsonb_typeof(_rule->'message') <> 'string' or length(_rule->>'message') not between 1 and 500) then
      _errors := _errors || data.violation(_at || '/message', 'must be a text of 1 to 500 characters');
    elsif _rule ? 'field'
      and (jsonb_typeof(_rule->'field') <> 'string' or not coalesce(rule_violations.schema->'properties' ? (_rule->>'field'), false)) then
      _errors := _errors || data.violation(_at || '/field', 'must be the name of a property');
    else
      begin
        perform data.require_part(data.compile_expression(data.parse_expression(_rule->>'rule'), fields), 'boolean', 'a rule');
      exception when sqlstate 'RH400' then
        get stacked diagnostics _detail = pg_exception_detail;
        _errors := _errors || data.expression_problem(_at || '/rule', sqlerrm, _detail::jsonb);
      end;
    end if;
  end loop;
  return _errors;
end
$$;
comment on function data.rule_violations(jsonb, jsonb) is 'What is wrong with an entity''s x-rules: a JSON array of {pointer, message, position}.';
