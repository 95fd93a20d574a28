-- A record keeps the definition version it was written under (_schema_version); reading brings it to the current one.
-- The steps between two versions are transforms, a JSON array of
--   {"op": "rename", "from", "to"}, {"op": "convert", "field", "from", "to"} (kinds), {"op": "default", "field", "value"},
--   {"op": "convert", …, "expression"} (over the record of the version before), {"op": "drop", "field"} and {"op": "restore", "field", "from", "version"}: what version dropped under the name from.

create or replace function data.convert_value(value jsonb, "from" text, "to" text) returns jsonb
language plpgsql immutable parallel safe set search_path = '' set timezone = 'UTC' set datestyle = 'ISO' as $$
declare
  _t text := value #>> '{}';
begin
  if "from" = "to" then
    return value;
  elsif "to" = 'array' then
    return jsonb_build_array(value);
  elsif "from" = 'array' and "to" <> 'object' then
    -- A list of one is what the other direction made.
    return case when jsonb_array_length(value) = 1
      and jsonb_typeof(value->0) not in ('array', 'object', 'null') then value->0 else value end;
  end if;
  return case
    when jsonb_typeof(value) in ('array', 'object') then value
    when "to" in ('string', 'email', 'uuid') then to_jsonb(_t)
    when "to" in ('integer', 'number', 'decimal') and jsonb_typeof(value) = 'string' and length(_t) < 1000
      and trim(_t) ~ '^[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,2})?$'
      then to_jsonb(trim(_t)::numeric)
    when "to" = 'boolean' and jsonb_typeof(value) = 'number' and _t in ('0', '1') then to_jsonb(_t = '1')
    when "to" = 'boolean'
      and lower(trim(_t)) in ('true', 'yes', 'on', 'y', 't', '1', 'false', 'no', 'off', 'n', 'f', '0') then to_jsonb(trim(_t)::boolean)
    when "to" in ('integer', 'number', 'decimal') and jsonb_typeof(value) = 'boolean' then to_jsonb(case _t when 'true' then 1 else 0 end)
    when "to" = 'date' and "from" = 'date-time' and _t ~ '^\d{4}-\d\d-\d\d[Tt ]00:00:00(\.0+)?([Zz]|[+-]00:00)$' then to_jsonb(left(_t, 10))
    when "to" = 'date' and trim(_t) ~ '^\d{4}-\d\d-\d\d$' then to_jsonb(trim(_t))
    when "to" = 'date-time' and trim(_t) ~ '^\d{4}-\d\d-\d\d$'
      and pg_input_is_valid(trim(_t), 'date') then to_jsonb(trim(_t) || 'T00:00:00Z')
    when "to" = 'date-time' and trim(_t) ~ '^\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d'
      and pg_input_is_valid(trim(_t), 'timestamptz') then to_jsonb(trim(_t)::timestamptz)
    else value
  end;
end
$$;
comment on function data.convert_value(jsonb, text, text) is
  'A value of one kind as another: "42" as integer is 42. What cannot be converted without loss is returned as it is, and fails validation then.';

create or replace function data.compile_transform(transform jsonb, version int) returns text
language sql immutable set search_path = '' as $$
  select case transform->>'op'
    when 'drop'
      then format('if data ? %1$L then dropped := coalesce(dropped, ''{}'') || jsonb_build_object(%2$L, data->%1$L); data := data - %1$L; end if;',
      transform->>'field', (transform->>'field') || '@' || compile_transform.version)
    when 'rename'
      then format('if data ? %1$L then _renamed := _renamed || jsonb_build_object(%2$L, data->%1$L); data := data - %1$L; end if;',
      transform->>'from', transform->>'to')
    when 'restore'
      then format('if dropped ? %2$L then data := data || jsonb_build_object(%1$L, dropped->%2$L); dropped := nullif(dropped - %2$L, ''{}''); end if;',
      transform->>'field', (transform->>'from') || '@' || (transform->>'version'))
    when 'convert'
      then format('if data ? %1$L then data := data || jsonb_build_object(%1$L, data.convert_value(data->%1$L, %2$L, %3$L)); end if;',
      transform->>'field', transform->>'from', transform->>'to')
    when 'default' then format('if not data ? %1$L then data := data || jsonb_build_object(%1$L, %2$L::jsonb); end if;',
      transform->>'field', transform->'value')
  end
$$;
comment on function data.compile_transform(jsonb, int) is 'PL/pgSQL that applies one transform to the variables data, dropped and _renamed.';

drop function if exists data.compile_transforms(jsonb, int);
create or replace function data.compile_transforms(transforms jsonb, version int, before jsonb) returns text
language sql immutable set search_path = '' as $$
  -- Renames are collected and put back together, so that two names can be swapped.
  select case when jsonb_path_exists(transforms, '$[*] ? (exists (@.expression))') then E'_before := data;\n      ' else '' end
    || coalesce(string_agg(data.compile_transform(t, compile_transforms.version), E'\n      '
      order by n) filter (where t->>'op' in ('drop', 'rename')), '')
    || E'\n      data := data || _renamed; _renamed := ''{}'';\n      '
    || coalesce(string_agg(case when t ? 'expression' then data.compile_conversion_step(t, before)
      else data.compile_transform(t, compile_transforms.version) end,
      E'\n      ' order by t->>'op' <> 'restore', n)
      filter (where t->>'op' not in ('drop', 'rename')), '')
  from jsonb_array_elements(compile_transforms.transforms) with ordinality o (t, n)
$$;
comment on function data.compile_transforms(jsonb, int, jsonb) is 'PL/pgSQL that brings the variables data and dropped from the version before, whose schema was before, to this one.';

create or replace function data.build_upgrade(entity data.entities, schema_name text) returns void
language plpgsql set search_path = '' as $$
declare
  _steps text;
  _computes boolean;
begin
  select string_agg(format(E'if version < %s then\n      %s\n    end if;', v.version,
    data.compile_transforms(v.transforms, v.version, p.schema)), E'\n    ' order by v.version),
    coalesce(bool_or(jsonb_path_exists(v.transforms, '$[*] ? (exists (@.expression))')), false)
  into _steps, _computes
  from data.entity_versions v left join data.entity_versions p on p.entity_id = v.entity_id and p.version = v.version - 1
  where v.entity_id = entity.id and v.version > case when data.keeps_records(entity.schema) then 0 else entity.oldest_version end
    and v.transforms <> '[]';
  perform rowhouse.create_function($sql$
    create or replace function %1$s(inout data jsonb, inout dropped jsonb, version int) language plpgsql immutable parallel %3$s set search_path = '' $sql$, $sql$
    declare
      _renamed jsonb := '{}';
      _before jsonb;
    begin
    %2$s
    end $sql$, format('%I.%I', build_upgrade.schema_name, entity.name || '_upgraded'), coalesce(_steps, 'null;'),
    case when _computes then 'unsafe' else 'safe' end); -- what catches errors cannot run in a parallel plan
  execute format('revoke all on function %I.%I(jsonb, jsonb, int) from public', build_upgrade.schema_name, entity.name || '_upgraded');
  -- The view calls it as whoever reads.
  execute format('grant execute on function %I.%I(jsonb, jsonb, int) to rowhouse_data, %I', build_upgrade.schema_name,
    entity.name || '_upgraded',
    (select s.role_name from tenancy.sites s where s.id = entity.site_id));
  execute format('comment on function %I.%I(jsonb, jsonb, int) is %L', build_upgrade.schema_name, entity.name || '_upgraded',
    E'@behavior -*\nA record of an earlier definition as of the current one.');
end
$$;
comment on function data.build_upgrade(data.entities, text) is
  'Generates <entity>_upgraded(data, dropped, version): a stored record of any version since entities.oldest_version as of the current definition.';

-- A field that no transform has touched is read from data directly.
create or replace function data.field_source(entity data.entities, field text, alias text) returns text
language sql stable set search_path = '' as $$
  select case when exists (
      select from data.entity_versions v, jsonb_array_elements(v.transforms) t
      where v.entity_id = entity.id and v.version > entity.oldest_version and field_source.field in (t->>'field', t->>'from', t->>'to'))
    then data.record_source(entity, alias) else alias || '.data' end
$$;
comment on function data.field_source(data.entities, text, text) is 'The jsonb expression from which the view reads a field that has no column.';
