-- What several entities have in common: the fields of a union, and its arms.

create or replace function data.union_entities(shape jsonb) returns text[]
language plpgsql immutable set search_path = '' as $$
declare
  _names jsonb := shape->'entities';
begin
  if _names is null or jsonb_typeof(_names) <> 'array' or jsonb_array_length(_names) not between 1 and 8
    or jsonb_path_exists(_names, '$[*] ? (@.type() != "string" || @ == "")')
    or (select count(distinct e) from jsonb_array_elements(_names) e) <> jsonb_array_length(_names)
  then
    perform rowhouse.fail(400, 'entities is a list of 1 to 8 different entities', 'entities=contacts,companies', 'invalid_entities');
  elsif shape->'nullable' is not null and shape->'nullable' <> 'null'
    and (jsonb_typeof(shape->'nullable') <> 'array' or jsonb_path_exists(shape->'nullable', '$[*] ? (@.type() != "string")'))
  then
    perform rowhouse.fail(400, 'nullable is a list of fields', 'nullable=city', 'invalid_nullable');
  end if;
  return array(select jsonb_array_elements_text(_names));
end
$$;
comment on function data.union_entities(jsonb) is 'The names of the entities that a query is over. RH400.';

create or replace function data.union_common_fields(ids uuid[]) returns text[]
language sql stable set search_path = '' as $$
  select 'id'::text || coalesce(array_agg(c.name order by c.position), '{}') || array['created_at', 'updated_at', 'version', 'created_by']
  from (
    select f.name, min(f.position) as position from data.fields f where f.entity_id = any (ids)
    group by f.name having count(*) = cardinality(ids) and count(distinct f.sql_type) = 1
  ) c
$$;
comment on function data.union_common_fields(uuid[]) is 'The fields that several entities have, with one type.';

-- is_required is of all: a cursor's value may come from any arm.
create or replace function data.union_fields(ids uuid[], names text[], paths text[], nullable text[])
returns table (path text, kind text, sql_type text, is_required boolean, expressions text[])
language plpgsql stable set search_path = '' as $$
declare
  _f record;
  _known text;
begin
  foreach path in array paths loop
    kind := null;
    is_required := true;
    expressions := '{}';
    for i in 1 .. cardinality(ids) loop
      if data.is_field(ids[i], split_part(path, '.', 1)) or (data.relation_of(ids[i], split_part(path, '.', 1))).id is not null then
        _f := data.path_expression(ids[i], path, 't');
        if sql_type <> _f.sql_type and kind is not null then
          perform rowhouse.fail(400, format('%L is %s in %s and %s in %s', left(path, 120), kind, _known, _f.kind, names[i]),
            'A field of a union has one type. Fields that fit: ' || array_to_string(data.union_common_fields(ids), ', ') || '.',
            'type_mismatch');
        end if;
        kind := coalesce(kind, _f.kind);
        sql_type := _f.sql_type;
        _known := names[i];
        is_required := is_required and _f.is_required;
        expressions := expressions || _f.expression;
      elsif path = any (nullable) then
        is_required := false;
        expressions := expressions || null::text;
      else
        perform rowhouse.fail(400, format('%L is not a field of %s', left(path, 120), names[i]),
          format('Fields of all: %s, entity. nullable=%s gives null where there is none.',
            array_to_string(data.union_common_fields(ids), ', '), left(path, 60)), 'unknown_field');
      end if;
    end loop;
    if kind is null then
      perform rowhouse.fail(400, format('%L is a field of none of %s', left(path, 120), array_to_string(names, ', ')),
        'Fields of all: ' || array_to_string(data.union_common_fields(ids), ', ') || '.', 'unknown_field');
    end if;
    expressions := array(select coalesce(e, 'null::' || union_fields.sql_type) from unnest(expressions) with ordinality u (e, n)
      order by n);
    return next;
  end loop;
end
$$;
comment on function data.union_fields(uuid[], text[], text[], text[]) is
  'Paths as expressions over each of several entities, with the one type they have. RH400 for a path that one lacks, unless nullable names it, and for types that differ.';

create or replace function data.union_arm(app text, entity text, paths text[], list text, shape jsonb, parameters text[]) returns text
language sql stable set search_path = '' as $$
  select format('select %1$L::text as entity%2$s from %3$I.%1$I t%4$s where %6$s(%5$s)', union_arm.entity, list, r.schema_name,
    data.path_joins((r.entity_row).id, r.schema_name, paths, 't'),
    case when coalesce(shape->'filter', 'null') = 'null' then 'true'
      else data.compile_filter((r.entity_row).id, shape->'filter', 't', parameters) end, access.seen_condition((r.entity_row).id, shape))
  from data.resolve_entity(union_arm.app, union_arm.entity) r
$$;
comment on function data.union_arm(text, text, text[], text, jsonb, text[]) is 'One entity''s part of a union, up to its filter.';
