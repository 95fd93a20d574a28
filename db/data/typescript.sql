-- TypeScript types of an app, for clients of the REST interface.

create or replace function data.typescript_comment(description text, indent text) returns text
language sql immutable set search_path = '' as $$
  select case when nullif(trim(description), '') is null then ''
    else indent || '/** ' || replace(regexp_replace(trim(description), '\s+', ' ', 'g'), '*/', '*\/') || E' */\n' end
$$;
comment on function data.typescript_comment(text, text) is 'A description as a line of TSDoc; nothing when there is none.';

create or replace function data.typescript_type(schema jsonb, depth int default 0) returns text
language plpgsql immutable set search_path = '' as $$
declare
  _indent text := repeat('  ', depth + 1);
  _types jsonb := case jsonb_typeof(typescript_type.schema->'type') when 'string' then jsonb_build_array(typescript_type.schema->'type')
    when 'array' then typescript_type.schema->'type' end;
  _parts text[];
begin
  if jsonb_typeof(typescript_type.schema) is distinct from 'object' or depth > 12 then
    return 'unknown';
  elsif typescript_type.schema ? 'const' then
    return case when jsonb_typeof(typescript_type.schema->'const') in ('array', 'object') then 'unknown'
      else (typescript_type.schema->'const')::text end;
  elsif jsonb_typeof(typescript_type.schema->'enum') = 'array' then
    return (select string_agg(distinct case when jsonb_typeof(v) in ('array', 'object') then 'unknown' else v::text end, ' | ')
      from jsonb_array_elements(typescript_type.schema->'enum') v);
  elsif _types is null and jsonb_typeof(coalesce(typescript_type.schema->'anyOf', typescript_type.schema->'oneOf')) = 'array' then
    return (select string_agg('(' || data.typescript_type(v, depth) || ')', ' | ' order by n)
      from jsonb_array_elements(coalesce(typescript_type.schema->'anyOf', typescript_type.schema->'oneOf')) with ordinality x (v, n));
  elsif _types is null then
    return case when typescript_type.schema ? 'x-relation' then 'string' else 'unknown' end;
  end if;
  select array_agg(case t
      when 'string' then 'string'
      when 'integer' then 'number'
      when 'number' then 'number'
      when 'boolean' then 'boolean'
      when 'null' then 'null'
      when 'array' then '(' || data.typescript_type(typescript_type.schema->'items', depth) || ')[]'
      when 'object' then case when jsonb_typeof(typescript_type.schema->'properties') = 'object'
        and typescript_type.schema->'properties' <> '{}'
        then E'{\n' || (
          select string_agg(data.typescript_comment(p.value->>'description', _indent || '  ') || _indent || '  ' || to_jsonb(p.key)
            || case when coalesce(typescript_type.schema->'required', '[]') ? p.key then ': ' else '?: ' end
            || data.typescript_type(p.value, depth + 1) || E';\n', '' order by p.key)
          from jsonb_each(typescript_type.schema->'properties') p) || _indent || '}'
        else '{ [name: string]: unknown }' end
      else 'unknown' end order by n) into _parts
  from jsonb_array_elements_text(_types) with ordinality x (t, n);
  return coalesce(array_to_string(_parts, ' | '), 'unknown');
end
$$;
comment on function data.typescript_type(jsonb, int) is 'A JSON Schema as a TypeScript type; unknown for what has no type.';

create or replace function data.typescript_entity(entity data.entities) returns text
language sql stable set search_path = '' as $$
  with fields as (
    select case when f.schema ? 'x-computed' then 'readonly ' else '' end || f.name as name, f.position,
      case when f.name = any (m.fields) and f.sql_type = 'text' then 'string' else data.typescript_type(f.schema, 1) end
        || coalesce((select ' | ' || rowhouse.upper_camel(data.singular(t.name)) || '[]'
          from data.links l join data.entities t on t.id = l.target_id
          where l.entity_id = f.entity_id and l.field = f.name and l.name = f.name), '')
        || case when (f.is_required or data.is_linked(f.schema)) and f.name <> all (m.fields) then '' else ' | null' end as type,
      data.typescript_comment(concat_ws(' ', coalesce(f.schema->>'description', f.schema->>'title'),
        case when f.name = any (m.fields) then 'Masked or null for whom it is not meant.' end), '  ') as comment
    from data.fields f, access.maskable_fields(entity.id) m (fields) where f.entity_id = entity.id
  )
  select data.typescript_comment(entity.schema->>'description', '')
    || 'export interface ' || rowhouse.upper_camel(data.singular(entity.name)) || E' {\n  id: string;\n'
    || coalesce((select string_agg(f.comment || '  ' || f.name || ': ' || f.type || E';\n', '' order by f.position) from fields f), '')
    || E'  created_at: string;\n  updated_at: string;\n  version: number;\n  created_by: string | null;\n'
    || coalesce((select string_agg(format(E'  /** With expand=%1$s. */\n  %1$s?: %2$s | null;\n', r.name,
      rowhouse.upper_camel(data.singular(t.name))), '' order by r.name)
      from data.relations r join data.entities t on t.id = r.target_id where r.entity_id = entity.id), '')
    || coalesce((select string_agg(format(E'  /** With expand=%1$s. */\n  %1$s?: %2$s[];\n', r.inverse_name,
      rowhouse.upper_camel(data.singular(s.name))), '' order by r.inverse_name)
      from (select r.inverse_name, r.entity_id, r.target_id from data.relations r
        union all select l.inverse_name, l.entity_id, l.target_id from data.links l
        union all select l.name, l.target_id, l.entity_id from data.links l where l.name <> l.field) r
      join data.entities s on s.id = r.entity_id where r.target_id = entity.id), '')
    || case when entity.schema->'x-soft-delete' = 'true'
      then E'  /** With deleted=only. */\n  deleted_at?: string;\n  /** With deleted=only. */\n  deleted_by?: string | null;\n' else '' end
    || E'}\n'
$$;
comment on function data.typescript_entity(data.entities) is 'The TypeScript interface of an entity''s records, with the relations that expand embeds.';

create or replace function data.typescript_writes(entity data.entities) returns text
language sql stable set search_path = '' as $$
  with fields as (
    select f.name, f.position, f.is_required, f.is_required and not f.schema ? 'default' as must,
      data.typescript_type(f.schema, 3) || case when f.is_required then '' else ' | null' end as type
    from data.fields f where f.entity_id = entity.id and not f.schema ? 'x-computed'
  )
  select format(E'  %s: {\n    record: %s;\n    insert: {\n      id?: string;\n%s    };\n    update: {\n      /** The version you saw: refused if the record has changed since. */\n      version?: number;\n%s    };\n  };\n',
    entity.name, rowhouse.upper_camel(data.singular(entity.name)),
    (select string_agg(format(E'      %s%s: %s;\n', f.name, case when f.must then '' else '?' end, f.type), '' order by f.position)
      from fields f),
    (select string_agg(format(E'      %s?: %s;\n', f.name, f.type), '' order by f.position) from fields f))
$$;
comment on function data.typescript_writes(data.entities) is 'The types of an entity''s records, inserts and updates, as a member of the interface Entities.';

create or replace function data.typescript_types(app text) returns text
language plpgsql stable set search_path = '' as $$
declare
  _app_id uuid := data.resolve_app(typescript_types.app);
begin
  return format(E'// Types of the app %s, made by Rowhouse. JSON numbers: integers beyond 2^53 and long decimals lose digits in JSON.parse.\n\n',
    typescript_types.app)
    || coalesce((select string_agg(data.typescript_entity(e) || E'\n', '' order by e.name) from data.entities e where e.app_id = _app_id),
      '')
    || case when exists (select from data.entities e where e.app_id = _app_id and e.schema->'x-history' = 'true') then
      E'/** A change of a record, as its history lists them. */\nexport interface RecordChange {\n  version: number;\n  operation: "insert" | "update" | "delete" | "restore";\n  at: string;\n  by: string | null;\n  /** Of an update: what each property was and became. */\n  changes?: { [property: string]: { old: unknown; new: unknown } };\n}\n\n'
        else '' end
    || E'/** Records, inserts and updates by the name of their entity: Entities["contacts"]["insert"]. */\nexport interface Entities {\n'
    || coalesce((select string_agg(data.typescript_writes(e), '' order by e.name) from data.entities e where e.app_id = _app_id), '')
    || E'}\n';
end
$$;
comment on function data.typescript_types(text) is
  'TypeScript types of an app (acme/crm): an interface per entity, with its relations, and Entities with record, insert and update of each. RH404.';
