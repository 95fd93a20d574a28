-- Fields of the record that a record refers to, company.city, in sort, select, group and aggregates: under the related
-- entity's row-level security, so that a hidden record's fields are null.

create or replace function data.path_alias(alias text, relation text) returns text
language sql immutable parallel safe
return 'j' || left(md5(alias || '.' || relation), 16);
comment on function data.path_alias(text, text) is 'The alias of the view that a relation of the view alias leads to.';

create or replace function data.path_relation(entity_id uuid, path text, out id uuid, out entity text, out own text, out other text,
  out rest text)
language plpgsql stable set search_path = '' as $$
declare
  _name text := split_part(path, '.', 1);
  _r record;
begin
  if path not like '%.%' or data.is_field(entity_id, _name) then
    return;
  end if;
  select * into _r from data.relation_of(entity_id, _name);
  if _r.many then
    perform rowhouse.fail(400, format('%L leads to many records and has no one value', left(path, 120)),
      format('Ask %s instead, or filter: {"%s": {"$some": {…}}}.', _r.entity, _name), 'invalid_path');
  end if;
  id := _r.id;
  entity := _r.entity;
  own := _r.own;
  other := _r.other;
  rest := substr(path, length(_name) + 2);
end
$$;
comment on function data.path_relation(uuid, text) is
  'The to-one relation that a path (company.city) begins with, and the rest of it; nulls for a path within the record. RH400 for a relation to many.';

create or replace function data.check_relations(relations int, what text default 'path') returns void
language plpgsql immutable set search_path = '' as $$
begin
  if relations > 4 then
    perform rowhouse.fail(400, format('A %s follows too many relations', what), 'Follow at most 4: a.b.c.d.field.', 'invalid_' || what);
  end if;
end
$$;
comment on function data.check_relations(int, text) is 'Raises RH400 for a path or a filter that follows more than 4 relations.';

create or replace function data.path_expression(
  entity_id uuid, path text, alias text, depth int default 0,
  out expression text, out kind text, out item_kind text, out is_required boolean, out sql_type text, out is_related boolean
)
language plpgsql stable set search_path = '' as $$
declare
  _r record := data.path_relation(entity_id, path);
  _f record;
begin
  perform data.check_relations(depth);
  if _r.id is null then
    _f := data.field_expression(entity_id, path, alias);
  else
    _f := data.path_expression(_r.id, _r.rest, data.path_alias(alias, split_part(path, '.', 1)), depth + 1);
  end if;
  expression := _f.expression;
  kind := _f.kind;
  item_kind := _f.item_kind;
  is_required := _f.is_required and _r.id is null;
  sql_type := _f.sql_type;
  is_related := _r.id is not null;
end
$$;
comment on function data.path_expression(uuid, text, text, int) is
  'The SQL expression, kind and type of a field, also of a record that this one refers to, where data.path_joins joined it. RH400 lists the fields there are.';

create or replace function data.path_joins(entity_id uuid, schema_name text, paths text[], alias text) returns text
language sql stable set search_path = '' as $$
  select coalesce(string_agg(format(' left join %1$I.%2$I %3$s on %3$s.%4$I = %5$s.%6$I', schema_name, x.entity,
    data.path_alias(alias, x.name), x.other, alias, x.own)
    || data.path_joins(x.id, schema_name, x.rests, data.path_alias(alias, x.name)), '' order by x.name), '')
  from (
    select split_part(p, '.', 1) as name, r.id, r.entity, r.own, r.other, array_agg(r.rest) as rests
    from unnest(paths) p, data.path_relation(entity_id, p) r
    where r.id is not null
    group by 1, 2, 3, 4, 5
  ) x
$$;
comment on function data.path_joins(uuid, text, text[], text) is
  'The left joins that data.path_expression needs for these paths. A relation refers to a unique field: no row is multiplied.';

-- A page is small: a subquery a record keeps the page's order, which a join might not.
create or replace function data.path_value(entity_id uuid, path text, alias text, out expression text, out kind text, out sql_type text)
language plpgsql stable set search_path = '' as $$
declare
  _r record := data.path_relation(entity_id, path);
  _f record := data.path_expression(entity_id, path, alias);
  _inner text := data.path_alias(alias, split_part(path, '.', 1));
begin
  kind := _f.kind;
  sql_type := _f.sql_type;
  expression := case when _r.id is null then _f.expression else (
    select format('(select %1$s from %2$I.%3$I %4$s where %4$s.%5$I = %6$s.%7$I)', (data.path_value(_r.id, _r.rest, _inner)).expression,
      a.schema_name, _r.entity, _inner, _r.other, alias, _r.own)
    from data.entities e join tenancy.apps a on a.id = e.app_id where e.id = _r.id) end;
end
$$;
comment on function data.path_value(uuid, text, text) is 'A field, also of a record that this one refers to, as an SQL expression that needs no join. RH400.';
