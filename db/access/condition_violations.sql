-- What is checked of a condition when it is defined, beyond what its compilation needs.

create or replace function access.check_declared(name text, term record) returns void
language plpgsql immutable set search_path = '' as $$
begin
  if not term.is_declared then
    perform rowhouse.fail(400, format('%s is not an attribute of accounts here', name),
      'Declare it with access.set_attribute_schema(site, schema).', 'invalid_condition');
  end if;
end
$$;
comment on function access.check_declared(text, record) is 'Refuses (RH400) an attribute that the site''s schema of attributes does not declare.';

create or replace function access.check_term(name text, term record, operator text, sql_type text) returns void
language plpgsql immutable set search_path = '' as $$
declare
  _kind text := case when operator = '$in' then term.item_kind else term.kind end;
  _item text := regexp_replace(sql_type, '\[\]$', '');
  _has text := case when _kind is null
    or _kind = 'any' then null when _kind in ('string', 'email') then 'text' when _kind in ('integer', 'number', 'decimal') then 'number'
    when _kind = 'date-time' then 'timestamptz' when _kind in ('array', 'object') then 'jsonb' else _kind end;
  _wanted text := case when _item in ('int8', 'float8', 'numeric') then 'number' else _item end;
begin
  perform access.check_declared(name, term);
  if operator = '$in' and term.kind <> 'array' and term.kind <> 'any' then
    perform rowhouse.fail(400, format('%s is no list', name), 'One value is compared with $eq.', 'invalid_condition');
  elsif operator <> '$in' and term.kind = 'array' and _item <> 'jsonb' then
    perform rowhouse.fail(400, format('%s is a list', name), 'A field is $in a list.', 'invalid_condition');
  elsif _has <> _wanted and _wanted <> 'jsonb' and array[_has, _wanted] <> '{date,timestamptz}'
    -- In JSON dates and ids are texts, and a text may be one.
    and not ('text' in (_has, _wanted) and array[_has, _wanted] <@ '{text,date,timestamptz,uuid}')
  then
    perform rowhouse.fail(400, format('%s is %s, and what it is compared with is %s', name, _kind, _item), 'Compare what is of one type.',
      'invalid_condition');
  end if;
end
$$;
comment on function access.check_term(text, record, text, text) is
  'Refuses (RH400) a reference that no schema declares, or that cannot be of the type it is compared as.';

create or replace function access.check_operand_form(leaf jsonb, reference text, attributes jsonb) returns void
language plpgsql immutable set search_path = '' as $$
declare
  _operand jsonb := leaf->'operand';
  _term record;
begin
  if reference is not null and reference not like '$record.%' then
    _term := access.term(reference, attributes);
    perform access.check_declared(reference, _term);
    if leaf->>'operator' = '$in' and _term.kind <> 'array' then
      perform rowhouse.fail(400, format('%s is no list', reference), 'One value is compared with $eq.', 'invalid_condition');
    end if;
  elsif leaf->>'operator' = '$in' and reference is null and (jsonb_typeof(_operand) <> 'array' or _operand = '[]') then
    perform rowhouse.fail(400, '$in takes a list with values in it', '{"status": {"$in": ["draft", "review"]}}', 'invalid_condition');
  elsif leaf->>'operator' in ('$eq', '$gt', '$gte', '$lt', '$lte') and jsonb_typeof(_operand) = 'null' then
    perform rowhouse.fail(400, 'a comparison with null is never true', '{"email": {"$exists": false}}', 'invalid_condition');
  end if;
end
$$;
comment on function access.check_operand_form(jsonb, text, jsonb) is 'Refuses (RH400) an operand that fits its operator for no field whatever.';

create or replace function access.condition_violations(site_id uuid, entity_id uuid, condition jsonb) returns jsonb
language plpgsql stable set search_path = '' as $$
declare
  _entity data.entities;
  _context jsonb;
  _tree jsonb;
  _leaf jsonb;
  _out jsonb := '[]';
begin
  if jsonb_typeof(condition) is distinct from 'object' then
    return data.violation('', 'must be an object like {"status": "draft"}');
  elsif length(condition::text) > 20000 then
    return data.violation('', 'has more than 20,000 characters');
  end if;
  _tree := access.normal_condition(condition);
  select coalesce(jsonb_agg(n), '[]') into _out from access.nodes(_tree) n where n ? 'problem';
  if _out <> '[]' then
    return (select jsonb_agg(jsonb_build_object('pointer', p->'pointer', 'message', p->'problem')) from jsonb_array_elements(_out) p);
  elsif (select count(*) from access.nodes(_tree) n where n ? 'leaf') > 100 then
    return data.violation('', 'has more than 100 comparisons');
  end if;
  select e.* into _entity from data.entities e where e.id = condition_violations.entity_id;
  _context := jsonb_build_object('account', '$1', 'env', '$2', 'strict', true,
    'attributes', (select s.schema from access.attribute_schemas s where s.site_id = condition_violations.site_id));
  for _leaf in select n->'leaf' from access.nodes(_tree) n where n ? 'leaf' loop
    begin
      perform access.compile_leaf(_leaf, _entity, 't', _context);
    exception when sqlstate 'RH400' then
      _out := _out || data.violation(_leaf->>'pointer', sqlerrm);
    end;
  end loop;
  return _out;
end
$$;
comment on function access.condition_violations(uuid, uuid, jsonb) is
  'What is wrong with a condition for an entity of a site: a JSON array of {pointer, message}, [] when nothing is. Without an entity (for a whole site) the record''s fields are only checked for their form.';
