-- "x-convert": an expression over the record as it was, for a property whose values become others. It is a transform like those of
-- upgrade.sql, so that on jsonb storage no row is touched; "x-convert-back" is the way of a rollback.

create or replace function data.conversion_expression(old jsonb, property jsonb) returns text
language sql immutable parallel safe set search_path = '' as $$
  select property->>'x-convert'
  where not old ?| array['x-computed', 'x-alias'] and not data.is_linked(old)
    and (data.kind(old) <> data.kind(property) or property->'x-convert' is distinct from old->'x-convert')
$$;
comment on function data.conversion_expression(jsonb, jsonb) is
  'The expression that a property''s values go through when its schema old is replaced: x-convert, where it is new or the kind changes.';

create or replace function data.compile_conversion(transform jsonb, before jsonb, source text) returns jsonb
language plpgsql immutable set search_path = '' as $$
declare
  _fields jsonb := data.all_fields(before, data.data_columns(before, source));
  _tree jsonb := data.parse_expression(transform->>'expression');
  _value jsonb;
begin
  if data.uses_now(_tree, _fields) then
    perform data.refuse_expression('now() and today() change by themselves: a record would be another each time it is read', 1,
      'Leave them out.');
  end if;
  _value := data.assign_part(data.compile_expression(_tree, _fields), transform->>'to');
  return case transform->>'to' when 'date-time' then _value || jsonb_build_object('value', format('data.utc_text(%s)', _value->>'value'))
    else _value end;
end
$$;
comment on function data.compile_conversion(jsonb, jsonb, text) is
  'The expression of a transform as SQL over a record of the schema before (source, a jsonb expression): {"value", "fails"}. RH400.';

create or replace function data.compile_conversion_step(transform jsonb, before jsonb) returns text
language sql immutable set search_path = '' as $$
  select format($sql$begin
        if data ? %2$L and (%1$s) is not true then
          data := (data - %2$L) || jsonb_strip_nulls(jsonb_build_object(%2$L, %3$s));
        end if;
      exception when data_exception or program_limit_exceeded or sqlstate 'RH422' then
        null;
      end;$sql$, coalesce(c->>'fails', 'false'), transform->>'field', c->>'value')
  from data.compile_conversion(transform, before, '_before') c
$$;
comment on function data.compile_conversion_step(jsonb, jsonb) is
  'PL/pgSQL that converts by an expression: what is absent stays so, what cannot be computed stays as it is, and fails validation where that is another type.';

create or replace function data.require_conversions(old jsonb, schema jsonb, changes jsonb) returns void
language plpgsql immutable set search_path = '' as $$
declare
  _c jsonb;
  _at text;
  _detail text;
begin
  for _c in select c from jsonb_array_elements(changes) c where c ? 'expression' loop
    begin
      _at := 'x-convert';
      perform data.compile_conversion(_c, require_conversions.old, 'x');
      if _c ? 'back' then
        _at := 'x-convert-back';
        perform data.compile_conversion(jsonb_build_object('expression', _c->'back', 'to', _c->'from'), require_conversions.schema, 'x');
      end if;
    exception when sqlstate 'RH400' then
      get stacked diagnostics _detail = pg_exception_detail;
      perform rowhouse.fail(400, format('%s of %s is not valid: %s', _at, _c->>'field', sqlerrm),
        format('%s reads the record as it %s: %s.', _at, case _at when 'x-convert' then 'was' else 'is then' end, left((
          select string_agg(k, ', ' order by k)
          from jsonb_object_keys(case _at when 'x-convert' then require_conversions.old
            else require_conversions.schema end->'properties') k), 1000)),
        'invalid_schema', data.expression_problem(format('/properties/%s/%s', _c->>'field', _at), sqlerrm, _detail::jsonb));
    end;
  end loop;
end
$$;
comment on function data.require_conversions(jsonb, jsonb, jsonb) is 'Raises RH400 with the position of what is wrong in an expression that converts.';

-- The functions of before and after are both there for the time of a plan: each record goes there and back.
create or replace function data.conversion_losses(old data.entities, entity data.entities, schema_name text, changes jsonb, before text)
  returns jsonb
language plpgsql set search_path = '' as $$
declare
  _table text := data.storage_table(old, schema_name);
  _back text := format('%I.%I', schema_name, old.name || '__convert_back');
  _out jsonb := '[]';
  _found jsonb;
  _c jsonb;
begin
  for _c in select c from jsonb_array_elements(changes) c where c ? 'expression' loop
    perform rowhouse.create_function($sql$
      create or replace function %1$s(_before jsonb, data jsonb) returns jsonb language plpgsql stable set search_path = '' $sql$, $sql$
      begin
      %2$s
      return data->%3$L;
      end $sql$, _back, case when _c ? 'back'
        then data.compile_conversion_step(jsonb_build_object('field', _c->'field', 'expression', _c->'back', 'to', _c->'from'),
          entity.schema)
        else data.compile_transform(jsonb_build_object('op', 'convert', 'field', _c->'field', 'from', _c->'to', 'to', _c->'from'), 0) end,
          _c->>'field');
    execute format($sql$
      with lost as materialized (
        select t.id, r.before->%4$L as was from %1$s t, lateral (select %2$s as before, %3$s as after offset 0) r
        where r.before ? %4$L and %6$s(r.after, r.after) is distinct from r.before->%4$L
      )
      select jsonb_build_object('field', %5$L, 'records', (select count(*) from lost),
        'examples', (select jsonb_agg(to_jsonb(l)) from (select * from lost limit 20) l)) where exists (select from lost) $sql$,
      _table, before, data.upgraded_source(entity, 't'), _c->>'old_field', _c->>'field', _back) into _found;
    _out := _out || coalesce(_found, '[]');
  end loop;
  return _out;
end
$$;
comment on function data.conversion_losses(data.entities, data.entities, text, jsonb, text) is
  'Whose values would not come back by x-convert-back, or by the automatic conversion, as [{field, records, examples: [{id, was}]}] (who may plan it sees them: access.require_checkable); before is the SQL of a storage row''s (t) data as it is now.';

drop function if exists data.may_be_told_values(data.entities);
create or replace function data.keep_upgrade(entity data.entities, schema_name text) returns text
language plpgsql set search_path = '' as $$
begin
  if entity.storage = 'flat' then
    return data.record_source(entity, 't');
  end if;
  execute format('alter function %I.%I(jsonb, jsonb, int) rename to %I', keep_upgrade.schema_name, entity.name || '_upgraded',
    entity.name || '__upgraded_before');
  return format('(%I.%I(t.data, t._dropped, t._schema_version)).data', keep_upgrade.schema_name, entity.name || '__upgraded_before');
end
$$;
comment on function data.keep_upgrade(data.entities, text) is
  'Puts an entity''s upgrade function aside, for a plan, and returns the SQL of a storage row''s (t) data as it is now.';

-- Columns of flat storage are converted from what the whole record becomes, before any of them changes its name or type.
create or replace function data.converted_statements(entity data.entities, schema_name text, transforms jsonb, out before text[],
  out after text[])
language sql stable set search_path = '' as $$
  select case when any_expression
    then array[format('alter table %s add column "~converted" jsonb', t),
    format('update %s t set "~converted" = %s', t, data.upgraded_source(entity, 't'))] else '{}' end,
    case when any_expression then array[format('alter table %s drop column "~converted"', t)] else '{}' end
  from data.storage_table(entity, schema_name) t,
    lateral (select entity.storage = 'flat' and jsonb_path_exists(transforms, '$[*] ? (exists (@.expression))')) x (any_expression)
$$;
comment on function data.converted_statements(data.entities, text, jsonb) is
  'The statements that make and take away the column ~converted of flat storage: a record''s data after transforms with expressions.';

create or replace function data.is_converted(transforms jsonb, field text) returns boolean
language sql immutable parallel safe set search_path = '' as $$
  select exists (select from jsonb_array_elements(transforms) t where t ? 'expression' and t->>'field' = is_converted.field)
$$;
comment on function data.is_converted(jsonb, text) is 'Whether transforms give a field its values by an expression.';
