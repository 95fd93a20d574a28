-- Filters on related records: {"company.city": "Oslo"}, {"lines": {"$some": {"quantity": {"$gt": 2}}}}. Each is an exists over
-- the related entity's view, under its row-level security: a hidden record never matches.

drop function if exists data.relation_of(uuid, text);
create or replace function data.relation_of(
  entity_id uuid, name text, out many boolean, out id uuid, out entity text, out own text, out other text, out link text, out link_own text,
  out link_other text
)
language sql stable set search_path = '' as $$
  select false, t.id, t.name, r.field, r.target_field, null, null, null
  from data.relations r join data.entities t on t.id = r.target_id
  where r.entity_id = relation_of.entity_id and r.name = relation_of.name
  union all
  select true, t.id, t.name, 'id', 'id', data.link_view(s.name, l.field), 'source_id', 'target_id'
  from data.links l join data.entities s on s.id = l.entity_id join data.entities t on t.id = l.target_id
  where l.entity_id = relation_of.entity_id and l.name = relation_of.name
  union all
  select true, s.id, s.name, r.target_field, r.field, null, null, null
  from data.relations r join data.entities s on s.id = r.entity_id
  where r.target_id = relation_of.entity_id and r.inverse_name = relation_of.name
  union all
  select true, s.id, s.name, 'id', 'id', data.link_view(s.name, l.field), 'target_id', 'source_id'
  from data.links l join data.entities s on s.id = l.entity_id
  where l.target_id = relation_of.entity_id and l.inverse_name = relation_of.name
  limit 1
$$;
comment on function data.relation_of(uuid, text) is
  'A relation of an entity by its name, in either direction: whether it leads to many records, to which entity, and by which fields of both; for many to many through which view, by which of its columns; nulls for none.';

create or replace function data.relation_from(schema_name text, relation record, alias text, own text, by_id boolean default false)
  returns text
language plpgsql immutable set search_path = '' as $$
begin
  return case
    when relation.link is null then format('%I.%I %s where %3$s.%I = %s', schema_name, relation.entity, alias, relation.other, own)
    when by_id
      then format('%I.%I l%s, lateral (select * from %1$I.%4$I %3$s where %3$s.id = l%3$s.%5$I offset 0) %3$s where l%3$s.%6$I = %7$s',
      schema_name, relation.link, alias, relation.entity, relation.link_other, relation.link_own, own)
    else format('%I.%I l%s join %1$I.%4$I %3$s on %3$s.id = l%3$s.%5$I where l%3$s.%6$I = %7$s', schema_name, relation.link, alias,
      relation.entity, relation.link_other, relation.link_own, own) end;
end
$$;
comment on function data.relation_from(text, record, text, text, boolean) is
  'What stands after from for the records (alias) that a relation (data.relation_of) leads to from own, an SQL expression; links have the alias with l before it. by_id: for few records, whose links are looked up one by one.';

-- The list of ids and the records behind it may have one name; what asks for more than ids is about the records.
create or replace function data.is_link_filter(entity_id uuid, path text, value jsonb) returns boolean
language sql stable set search_path = '' as $$
  select (path like '%.%' or jsonb_typeof(value) = 'object' and value ?| array['$some', '$none', '$every', '$exists', '$contains'])
    and exists (select from data.links l where l.entity_id = is_link_filter.entity_id and l.name = split_part(path, '.', 1))
$$;
comment on function data.is_link_filter(uuid, text, jsonb) is 'Whether a filter''s condition is one on the records of a relation of many to many, and not on the list of ids.';

create or replace function data.relation_names(entity_id uuid) returns text
language sql stable set search_path = '' as $$
  select coalesce(string_agg(x, ', ' order by x), 'none')
  from (
    select r.name from data.relations r where r.entity_id = relation_names.entity_id
    union all
    select r.inverse_name from data.relations r where r.target_id = relation_names.entity_id
    union all
    select l.name from data.links l where l.entity_id = relation_names.entity_id
    union all
    select l.inverse_name from data.links l where l.target_id = relation_names.entity_id
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
  perform data.check_relations(_level, 'filter');
  select 'exists (select from ' || data.relation_from(a.schema_name, _r, _related, format('%s.%I', alias, _r.own))
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
    elsif _key = '$contains' and _r.link is not null then
      _out := _out || format('%s and %s)', _from,
        data.compile_filter(_r.id, jsonb_build_object('id', _operand), _related, parameters, depth + 1));
    elsif _r.many and _key in ('$some', '$none', '$every') then
      _out := _out || format(case _key when '$some' then '%s and %s)' when '$none' then 'not %s and %s)'
        else 'not %s and (%s) is not true)' end,
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
