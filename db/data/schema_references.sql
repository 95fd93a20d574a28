-- A property that refers to a definition is taken for what it refers to, so that everything else sees its type.

create or replace function data.merged_schema(schema jsonb, other jsonb, combined boolean default true) returns jsonb
language sql immutable parallel safe set search_path = '' as $$
  select case
    when jsonb_typeof(other) = 'object' and not exists (
      select
      from jsonb_each(schema) k where (not k.key = any ('{title,description,default,deprecated,readOnly,writeOnly,examples,$comment}')
        and k.key !~ '^x-')
        and (other->k.key <> k.value
          or not k.key = any ('{type,format,enum,const,multipleOf,maximum,exclusiveMaximum,minimum,exclusiveMinimum,maxLength,minLength,pattern,maxItems,minItems,uniqueItems,required,precision,scale}')))
      then other || schema
    when combined then schema || jsonb_build_object('allOf', coalesce(schema->'allOf', '[]') || jsonb_build_array(other))
  end
$$;
comment on function data.merged_schema(jsonb, jsonb, boolean) is
  'One schema that says what both say: their keywords together where none can disturb another, else the other as a part of allOf (or null, unless combined).';

create or replace function data.resolved_property(schema jsonb, defs jsonb, and_items boolean default true) returns jsonb
language plpgsql immutable parallel safe set search_path = '' as $$
declare
  _s jsonb := schema;
  _name text;
  _list jsonb;
  _next jsonb;
begin
  for _n in 1 .. 32 loop
    exit when jsonb_typeof(_s) is distinct from 'object';
    _name := substring(_s->>'$ref' from '^#/\$defs/([A-Za-z0-9._-]+)$');
    _list := coalesce(_s->'anyOf', _s->'oneOf');
    if _name is not null and defs ? _name then
      _s := data.merged_schema(_s - '$ref', defs->_name);
    elsif jsonb_typeof(_list) = 'array' and jsonb_array_length(_list) = 2 and _list @> '[{"type": "null"}]'
      and not (_s ? 'anyOf' and _s ? 'oneOf') then
      -- null is absent
      _s := data.merged_schema(_s - array['anyOf', 'oneOf'], case when _list->0 = '{"type": "null"}' then _list->1 else _list->0 end);
    elsif jsonb_typeof(_s->'allOf') = 'array' and jsonb_array_length(_s->'allOf') = 1 then
      _next := data.merged_schema(_s - 'allOf', _s #> '{allOf,0}', false);
      exit when _next is null;
      _s := _next;
    else
      exit;
    end if;
  end loop;
  if _s->'default' = 'null' then
    _s := _s - 'default';
  end if;
  if and_items and jsonb_typeof(_s->'items') = 'object' then
    _s := _s || jsonb_build_object('items', data.resolved_property(_s->'items', defs, false));
  end if;
  return _s;
end
$$;
comment on function data.resolved_property(jsonb, jsonb, boolean) is
  'A property with its $ref (and that of its items) replaced by the definition; {"anyOf": [x, {"type": "null"}]} is x, and {"allOf": [x]} too.';

create or replace function data.resolved_schema(schema jsonb) returns jsonb
language sql immutable parallel safe set search_path = '' as $$
  select case when jsonb_typeof(schema->'properties') = 'object'
    then schema || jsonb_build_object('properties', coalesce((
      select jsonb_object_agg(p.key, data.resolved_property(p.value, schema->'$defs')) from jsonb_each(schema->'properties') p), '{}'))
    else schema end
$$;
comment on function data.resolved_schema(jsonb) is 'The schema of an entity as it is kept: properties that refer to a definition replaced by it.';
