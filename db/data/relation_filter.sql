-- Filters on related records: {"company.city": "Oslo"}, {"lines": {"$some": {"quantity": {"$gt": 2}}}}. Each is an exists over
-- the related entity's view, under its row-level security: a hidden record never matches.

create or replace function data.relation_of(
  entity_id uuid, name text, out many boolean, out id uuid, out entity text, out own text, out other text
)
language sql stable set search_path = '' as $$
  select false, t.id, t.name, r.field, r.target_field
  from data.relations r join data.entities t on t.id = r.target_id
  where r.entity_id = relation_of.entity_id and r.name = relation_of.name
  union all
  select true, s.id, s.name, r.target_field, r.field
  from data.relations r join data.entities s on s.id = r.entity_id
  where r.target_id = relation_of.entity_id and r.inverse_name = relation_of.name
  limit 1
$$;
comment on function data.relation_of(uuid, text) is
  'A relation of an entity by its name, in either direction: whether it leads to many records, to which entity, and by which fields of both; nulls for none.';

create or replace function data.relation_names(entity_id uuid) returns text
language sql stable set search_path = '' as $$
  select coalesce(string_agg(x, ', ' order by x), 'none')
  from (
    select r.name from data.relations r where r.entity_id = relation_names.entity_id
    union all
    select r.inverse_name from data.relations r where r.target_id = relation_names.entity_id
  ) n (x)
$$;
comment on function data.relation_names(uuid) is 'The relations of an entity in both directions, for a hint.';

-- 4 levels: every level is a semi-join that the planner weighs against all others.
create or replace function data.compile_relation_filter(
  entity_id uuid, path text, value jsonb, alias text, parameters text[], depth int
)
returns text
language plpgsql stable set search_path = '' as $$
declare
  _name text := split_part(path, '.', 1);
  _rest text := substr(path, length(split_part(path, '.', 1)) + 2);
  _r record := data.relation_of(entity_id, split_part(path, '.', 1));
  _level int := case when alias ~ '^r\d+$' then substr(alias, 2)::int + 1 else 1 end;
  _related text := 'r' || _level;
  _from text;
  _filter jsonb := '{}';
  _out text[] := '{}';
  _key text;
  _operand jsonb;
begin
  if _level > 4 then
    perform rowhouse.fail(400, 'The filter follows too many relations', 'Follow at most 4: a.b.c.d.field.', 'invalid_filter');
  end if;
  select format('exists (select from %I.%I %s where %s.%I = %s.%I', a.schema_name, _r.entity, _related, _related, _r.other, alias, _r.own)
  into _from
  from data.entities e join tenancy.apps a on a.id = e.app_id where e.id = _r.id;

  if _rest <> '' then
    return format('%s and %s)', _from, data.compile_filter(_r.id, jsonb_build_object(_rest, value), _related, parameters, depth + 1));
  elsif jsonb_typeof(value) <> 'object' or value ? '$param' or value = '{}' then
    perform rowhouse.fail(400, format('%L is a relation and is no value to compare with', _name),
      case when _r.many then format('{"%s": {"$some": {…}}}, or $none, $every, $exists.', _name)
        else format('{"%1$s.name": "…"} or {"%1$s": {"name": "…"}}; the field itself is %2$s.', _name, _r.own) end, 'invalid_filter');
  end if;
  for _key, _operand in select * from jsonb_each(value) loop
    if _key = '$exists' then
      _out := _out || format('%s) = %s', _from, data.filter_value(_operand, 'boolean', parameters));
    elsif _r.many and _key in ('$some', '$none', '$every') then
      _out := _out || format(case _key when '$some' then '%s and %s)' when '$none' then 'not %s and %s)' else 'not %s and (%s) is not true)' end,
        _from, data.compile_filter(_r.id, _operand, _related, parameters, depth + 1));
    elsif _r.many or _key ~ '^\$' and _key not in ('$and', '$or', '$not') then
      perform rowhouse.fail(400, format('%L says nothing about the relation %L', left(_key, 60), _name),
        case when _r.many then format('{"%s": {"$some": {…}}}, or $none, $every, $exists.', _name)
          else 'Name fields of the related record, or $exists.' end, 'invalid_filter');
    else
      _filter := _filter || jsonb_build_object(_key, _operand);
    end if;
  end loop;
  if _filter <> '{}' then
    _out := _out || format('%s and %s)', _from, data.compile_filter(_r.id, _filter, _related, parameters, depth + 1));
  end if;
  return array_to_string(_out, ' and ');
end
$$;
comment on function data.compile_relation_filter(uuid, text, jsonb, text, text[], int) is
  'A condition on related records as SQL: fields of the one a record refers to, $some, $every, $none or $exists of the many that refer to it. RH400.';
