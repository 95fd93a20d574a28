-- Conditions as SQL over an entity's storage rows, for its row-level security and masks.

create or replace function access.stored_field(
  entity data.entities, path text, source text, out expression text, out kind text, out item_kind text, out sql_type text
)
language plpgsql stable set search_path = '' as $$
declare
  _parts text[] := string_to_array(path, '.');
  _found record;
  _field data.fields;
  _base text;
begin
  select f.* into _field from data.fields f where f.entity_id = entity.id and f.name = _parts[1];
  if _field.name is null or cardinality(_parts) > 1 and _field.kind not in ('object', 'any') then
    _found := data.field_expression(entity.id, path, source); -- the system's columns, or RH400
  elsif _field.schema ? 'x-rollup' then
    perform rowhouse.fail(400, format('%s is a rollup: it is computed from records that have rules of their own', path),
      'Compare a stored field.', 'invalid_condition');
  elsif data.is_linked(_field.schema) then
    perform rowhouse.fail(400, format('%s is a list of links, whose other ends have rules of their own', path), 'Compare a stored field.',
      'invalid_condition');
  else
    _base := case when _field.is_promoted and not _field.is_filling then format('%s.%I', source, _field.name)
      when data.is_virtual(_field.schema) or _field.is_filling
        then (select '(' || c.expression || ')' from data.view_columns(entity, source) c where c.name = _field.name)
      else '(' || data.column_value(_field, data.field_source(entity, _field.name, source)) || ')' end;
    _found := data.field_path(_field, _parts, _base);
  end if;
  expression := _found.expression;
  kind := _found.kind;
  item_kind := _found.item_kind;
  sql_type := _found.sql_type;
end
$$;
comment on function access.stored_field(data.entities, text, text) is
  'A field, or a path into it, as SQL over the entity''s storage row (alias source), with its kind and type. RH400 lists the fields there are.';

create or replace function access.compile_condition(
  entity_id uuid, condition jsonb, source text,
  account text default '(select access.account())', env text default '(select access.env())', action text default null,
  effect text default 'allow'
)
returns text
language plpgsql stable set search_path = '' as $$
declare
  _size int := length(condition::text);
  _entity data.entities;
  _context jsonb;
begin
  select e.* into _entity from data.entities e where e.id = compile_condition.entity_id;
  _context := jsonb_build_object('account', account, 'env', env, 'action', action, 'attributes', (
    select s.schema from access.attribute_schemas s where s.site_id = _entity.site_id));
  if _size > 20000 then
    perform rowhouse.fail(400, format('A condition has at most 20,000 characters, this one has %s', _size),
      'Say it with attributes and roles.', 'invalid_condition');
  elsif effect = 'deny' then
    -- A deny that cannot be evaluated denies: it is passed by only where its contrary is true.
    return format('(%s) is not true', access.compile_node(access.normal_condition(condition, true), _entity, source, _context));
  end if;
  return access.compile_node(access.normal_condition(condition), _entity, source, _context);
end
$$;
comment on function access.compile_condition(uuid, jsonb, text, text, text, text, text) is
  'A condition as a predicate over an entity''s storage row (alias source); account and env are SQL expressions of access.account() and access.env(), action is the action it is compiled for. A comparison that cannot be evaluated, because the account has no such attribute or one of another type, is not true, negated or not; with effect deny, the predicate is true unless the condition is certainly false. RH400.';

create or replace function access.compile_node(node jsonb, entity data.entities, source text, context jsonb) returns text
language plpgsql stable set search_path = '' as $$
begin
  if node ? 'problem' then
    perform rowhouse.fail(400, format('A condition is not valid: %s %s', node->>'pointer', node->>'problem'),
      '{"status": {"$in": ["draft", "review"]}, "author_id": "$account.id"}',
      'invalid_condition', data.violation(node->>'pointer', node->>'problem'));
  elsif node ? 'leaf' then
    return access.compile_leaf(node->'leaf', entity, source, context);
  elsif node ? 'and' then
    return coalesce((select '(' || string_agg(access.compile_node(c, entity, source, context), ' and ' order by n) || ')'
      from jsonb_array_elements(node->'and') with ordinality x (c, n)), 'true');
  end if;
  return coalesce((select '(' || string_agg(access.compile_node(c, entity, source, context), ' or ' order by n) || ')'
    from jsonb_array_elements(node->'or') with ordinality x (c, n)), 'false');
end
$$;
comment on function access.compile_node(jsonb, data.entities, text, jsonb) is 'A node of a condition in normal form as SQL. RH400.';

create or replace function access.compile_leaf(leaf jsonb, entity data.entities, source text, context jsonb) returns text
language plpgsql stable set search_path = '' as $$
declare
  _name text := leaf->>'name';
  _reference text := case when access.is_reference(leaf->'operand') then leaf->>'operand' end;
  _field record;
begin
  if not leaf->>'operator' = any (array['$eq', '$gt', '$gte', '$lt', '$lte', '$in', '$like', '$ilike', '$contains', '$exists', '$cidr'])
    then
    perform rowhouse.fail(400, format('%L is not an operator', left(leaf->>'operator', 40)),
      'Operators: $eq, $ne, $gt, $gte, $lt, $lte, $in, $nin, $like, $ilike, $contains, $exists, $cidr, $not; of the whole, $and, $or, $not.',
      'unknown_operator');
  elsif leaf->>'operator' = '$exists' and leaf->'operand' <> 'true' then
    perform rowhouse.fail(400, '$exists takes true or false', '{"email": {"$exists": true}}', 'invalid_condition');
  elsif leaf->>'operator' in ('$like', '$ilike') and (_reference is not null or not access.is_pattern(leaf->'operand')) then
    perform rowhouse.fail(400, 'a pattern is a text, whose last character does not escape another',
      '{"name": {"$like": "A%"}}; what is in an attribute is asked for with $contains.', 'invalid_condition');
  elsif _reference is not null and _reference !~ '^\$(account|env|record)\.|^\$action$' then
    perform rowhouse.fail(400, format('%L is not known', left(_reference, 80)),
      'References are $account.…, $env.…, $record.… and $action; a text that begins like one is {"$literal": "$text"}.',
      'invalid_condition');
  elsif _name ~ '^\$(account|env)\.|^\$action$' then
    return access.compile_value_leaf(leaf, context);
  elsif leaf->>'operator' = '$cidr' then
    perform rowhouse.fail(400, '$cidr is asked of $env.ip', '{"$env.ip": {"$cidr": "10.0.0.0/8"}}', 'invalid_condition');
  elsif _name !~ '^[^.$]+(\.[^.$]+){0,7}$' then
    perform rowhouse.fail(400, format('%L is not the name of a field', left(_name, 80)), 'Fields are named like status or address.city.',
      'invalid_condition');
  elsif entity.id is null and not context ? 'strict' then
    perform rowhouse.fail(400, format('%s is a field of a record, and here is none', left(_name, 80)),
      'Ask for $account.… and $env.… alone.', 'invalid_condition');
  elsif entity.id is null then
    perform access.check_operand_form(leaf, _reference, context->'attributes');
    return 'true';
  elsif not data.is_field(entity.id, split_part(_name, '.', 1))
    and (data.relation_of(entity.id, split_part(_name, '.', 1))).id is not null then
    return access.compile_related_leaf(leaf, entity, source, context);
  end if;
  if context ? 'related' then
    _field := data.field_expression(entity.id, _name, source);
  else
    _field := access.stored_field(entity, _name, source);
  end if;
  return access.compile_field_leaf(leaf, _field.expression, _field.kind, _field.item_kind, _field.sql_type, entity, source, context);
end
$$;
comment on function access.compile_leaf(jsonb, data.entities, text, jsonb) is
  'One comparison of a condition as SQL, over a storage row, or over a view where context has "related"; without an entity only its form is checked, where context is strict. RH400.';

create or replace function access.compile_field_leaf(
  leaf jsonb, expression text, kind text, item_kind text, sql_type text, entity data.entities, source text, context jsonb
)
returns text
language plpgsql stable set search_path = '' as $$
declare
  _operator text := leaf->>'operator';
  _type text := data.comparison_type(_operator, kind, item_kind, sql_type);
  _item text := regexp_replace(_type, '\[\]$', '');
  _negated boolean := (leaf->>'negated')::boolean;
  _reference text := case when access.is_reference(leaf->'operand') then leaf->>'operand' end;
  _other record;
  _value text;
  _out text;
begin
  if _operator = '$exists' then
    return format('%s is %s null', expression, case when _negated then '' else 'not' end);
  elsif _operator = '$in' and sql_type = 'jsonb' or _operator in ('$gt', '$gte', '$lt', '$lte') and sql_type in ('jsonb', 'boolean') then
    perform rowhouse.fail(400, format('%s does not fit %s, which is %s', _operator, leaf->>'name', kind),
      'Ask $contains of an array or object.', 'invalid_condition');
  elsif _reference is null then
    _value := access.operand_sql(leaf->'operand', _operator, _type, leaf->>'name');
  elsif _reference like '$record.%' then
    if context ? 'related' then
      perform rowhouse.fail(400, 'A field of a related record is compared with values and $account, not with $record', null,
        'invalid_condition');
    end if;
    _other := access.stored_field(entity, substr(_reference, 9), source);
    if _other.sql_type <> _type then
      perform rowhouse.fail(400,
        format('%s (%s) and %s (%s) are of different types', leaf->>'name', _type, substr(_reference, 9), _other.sql_type), null,
        'invalid_condition');
    end if;
    _value := _other.expression;
    _reference := null; -- a record's missing value is known to be missing
  else
    _other := access.term(_reference, context->'attributes');
    if context ? 'strict' then
      perform access.check_term(_reference, _other, _operator, _type);
    end if;
    _value := case when _other.path = '{id}' and _type = 'uuid'
      and context->>'account' = '(select access.account())' then '(select auth.account_id())'
      else format(case _operator when '$in' then '(select access.values_as(%1$s, %2$L, %3$L)::%4$s)::%4$s'
        else '(select access.value_as(%1$s, %2$L)::%4$s)' end,
        access.term_source(_other.scope, _other.path, context->>'account', context->>'env', context->>'action'), _item, _negated,
        _type) end;
  end if;
  _out := data.comparison(expression, kind, item_kind, sql_type, leaf->>'name', _operator, _value);
  return case when not _negated then '(' || _out || ')'
    when _reference is null then format('((%s) is not true)', _out)
    else format('((%s) is not true and %s is not null)', _out, _value) end;
end
$$;
comment on function access.compile_field_leaf(jsonb, text, text, text, text, data.entities, text, jsonb) is
  'A field''s expression, of a kind and type, compared as a leaf says. RH400.';
