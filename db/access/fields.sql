-- Field rules: as what each rule for reading shows each field. Which rules hold for the caller is known by their bits, so the
-- columns of an entity's view ask for them, once per statement, and for what the row fulfils.

create or replace function access.fields_for(action text, fields jsonb, schema jsonb) returns jsonb
language sql immutable parallel safe set search_path = '' as $$
  select nullif(case
    when fields_for.action = 'read'
      then fields_for.fields - 'writable' - case when access.protects_fields(fields_for.schema) then '' else 'unmasked' end
    when fields_for.action in ('create', 'update') then fields_for.fields - array['readable', 'masked', 'unmasked'] end, '{}')
$$;
comment on function access.fields_for(text, jsonb, jsonb) is 'Those of a rule''s field rules that concern an action on an entity with this schema; null for none.';

create or replace function access.field_names(entity data.entities, field text) returns text[]
language sql immutable parallel safe set search_path = '' as $$
  select field_names.field
    || array(select p.key from jsonb_each(entity.schema->'properties') p where p.value->>'x-alias' = field_names.field order by p.key)
$$;
comment on function access.field_names(data.entities, text) is 'A field''s name and its other names (x-alias).';

-- The more particular goes before the more general: a mask for the field, its unmasking, readable, the unmasking of all, what
-- the definition says.
create or replace function access.shown_as(fields jsonb, names text[], property jsonb) returns text
language sql immutable parallel safe set search_path = '' as $$
  select case
    when fields->'masked' ?| names then (select fields->'masked'->>n from unnest(names) n where fields->'masked' ? n limit 1)
    when fields->'unmasked' ?| names then 'full'
    when fields ? 'readable' and not fields->'readable' ?| (names || '{*}'::text[]) then 'hidden'
    when fields->'unmasked' ? '*' then 'full'
    else coalesce(access.default_mask(property), 'full')
  end
$$;
comment on function access.shown_as(jsonb, text[], jsonb) is 'As what the field rules of an allow show a field of these names: full, hidden, or a mask.';

create or replace function access.guards_fields(entity data.entities) returns boolean
language sql stable set search_path = '' as $$
  select access.protects_fields((entity).schema) or exists (
    select from access.rules r where r.entity_id = (entity).id and r.fields is not null)
$$;
comment on function access.guards_fields(data.entities) is 'Whether who sees or writes which fields of an entity depends on anything.';

create or replace function access.field_shows(entity data.entities) returns jsonb
language plpgsql stable set search_path = '' as $$
declare
  _out jsonb;
begin
  if not access.guards_fields(entity) then
    return '{}';
  end if;
  with rule (effect, fields, numbers) as materialized (
    select x.effect, x.fields, jsonb_agg(x.number order by x.number)
    from (
      select 'allow', null::jsonb, 1
      union all
      select r.effect, r.fields, r.number
      from access.rules r
      where r.entity_id = entity.id and r.action = 'read' and (r.effect = 'allow' or r.fields is not null)
    ) x (effect, fields, number)
    group by x.effect, x.fields
  ), shows (field, shown, numbers) as (
    select f.name, s.shown, jsonb_agg(n order by n)
    from data.fields f, lateral (select access.field_names(entity, f.name)) a (names), rule r,
      lateral (select case when r.effect = 'allow' then access.shown_as(r.fields, a.names, f.schema)
        when r.fields->'readable' ?| (a.names || '{*}'::text[]) then 'denied' end) s (shown),
      jsonb_array_elements(r.numbers) n
    where f.entity_id = entity.id and not f.schema ? 'x-alias' and s.shown is not null
    group by f.name, s.shown
  )
  select jsonb_object_agg(x.field, x.shows) into _out
  from (select s.field, jsonb_object_agg(s.shown, s.numbers) as shows from shows s group by s.field having bool_or(s.shown <> 'full')) x;
  return coalesce(_out, '{}');
end
$$;
comment on function access.field_shows(data.entities) is
  'The fields that some rule for reading does not show in full, each with the numbers of the rules by what they show it as: {field: {"full", "hidden", a mask, and of policies that deny it "denied": [numbers]}}.';

create or replace function access.shown_by(shows jsonb, field text, shown text) returns int[]
language sql immutable parallel safe set search_path = '' as $$
  select array(select n::int from jsonb_array_elements_text(coalesce(shows->field->shown, '[]')) n order by 1)
$$;
comment on function access.shown_by(jsonb, text, text) is 'The numbers of the rules that show a field so; shows is access.field_shows.';

-- A computed field tells of the fields it is computed from.
create or replace function access.bases(entity data.entities, field text) returns text[]
language sql stable set search_path = '' as $$
  with recursive base (name) as (
    select bases.field
    union
    select coalesce(p.value->>'x-alias', n) from base b
    join jsonb_each((entity).schema->'properties') p on p.key = b.name,
      unnest(case when p.value ? 'x-alias' then array[p.value->>'x-alias']
        when p.value ? 'x-computed'
          and not p.value ? 'x-rollup' then data.expression_names(data.parse_expression(data.computed_expression(p.value))) end) n
  )
  select array(select b.name from base b where b.name <> bases.field order by b.name)
$$;
comment on function access.bases(data.entities, text) is 'The fields that a field is computed from or another name of, directly or through others.';

create or replace function access.restricted(entity data.entities, shows jsonb) returns table (field text, bases text[])
language plpgsql stable set search_path = '' as $$
begin
  if restricted.shows = '{}' then
    return;
  end if;
  return query
    select f.name, x.bases
    from data.fields f, lateral (select array(select o from jsonb_object_keys(restricted.shows) o where o = f.name or o = any (
      case when f.schema ?| array['x-computed', 'x-alias'] then access.bases(entity, f.name) end) order by 1)) x (bases)
    where f.entity_id = (entity).id and x.bases <> '{}';
end
$$;
comment on function access.restricted(data.entities, jsonb) is
  'The fields that some readers of an entity do not see in full, each with the fields whose rules decide: itself, and those it is computed from; shows is access.field_shows.';

-- Rules that hold (their bits) and whose condition the row fulfils. 1 << 60 is a bit that only the operator has.
create or replace function access.bits_sql(entity data.entities, action text, effect text, numbers int[], alias text,
  operator boolean default false) returns text
language sql stable set search_path = '' as $$
  select string_agg(case
      when w.conditions is null then format('(select %s(%L, %s) & %s <> 0)', w.f, bits_sql.action, w.sign * w.word, w.constant)
      else format('((select %s(%L, %s)) & (%s | %s)) <> 0', w.f, bits_sql.action, w.sign * w.word, w.constant, w.conditions) end, ' or '
        order by w.word)
  from (
    select access.rights_function(entity) as f, case bits_sql.effect when 'deny' then -1 else 1 end as sign, access.word(n.number) as word,
      (coalesce(bit_or(access.bit(n.number)) filter (where r.row_condition is null and n.number > 0), 0) | case when bits_sql.operator
        and access.word(n.number) = 1 then 1::bigint << 60 else 0 end)::text || '::bigint' as constant,
      string_agg(format('case when %s then %s::bigint else 0 end',
        access.compile_condition((entity).id, r.row_condition, bits_sql.alias, action => bits_sql.action, effect => bits_sql.effect),
        access.bit(n.number)), ' | ' order by n.number)
        filter (where r.row_condition is not null) as conditions
    from (select unnest(bits_sql.numbers) union select 0 where bits_sql.operator) n (number)
    left join access.rules r on r.entity_id = (entity).id and r.action = bits_sql.action and r.effect = bits_sql.effect
      and r.number = n.number
    group by access.word(n.number)
  ) w
$$;
comment on function access.bits_sql(data.entities, text, text, int[], text, boolean) is
  'Whether one of these rules holds and the storage row (alias) fulfils it, as SQL; null for no rules. operator: or the caller is the operator.';

create or replace function access.seen_sql(entity data.entities, shows jsonb, fields text[], alias text) returns text
language sql stable set search_path = '' as $$
  select string_agg(format('(%s)', access.bits_sql(entity, 'read', 'allow', access.shown_by(shows, f, 'full'), seen_sql.alias, true))
    || coalesce(' and (' || access.bits_sql(entity, 'read', 'deny', access.shown_by(shows, f, 'denied'), seen_sql.alias) || ') is not true',
      ''), ' and ' order by f)
  from unnest(seen_sql.fields) f
$$;
comment on function access.seen_sql(data.entities, jsonb, text[], text) is 'Whether the caller sees these fields of a storage row (alias) in full, as SQL.';

create or replace function access.seen_field_sql(entity data.entities, field text, alias text) returns text
language sql stable set search_path = '' as $$
  with shows (shows) as materialized (select access.field_shows(entity))
  select access.seen_sql(entity, s.shows, r.bases, seen_field_sql.alias)
  from shows s, access.restricted(entity, s.shows) r where r.field = seen_field_sql.field
$$;
comment on function access.seen_field_sql(data.entities, text, text) is
  'Whether the caller sees a field of a storage row (alias) in full, as SQL; null where everybody does.';

-- Of a row that is visible, some rule holds: where none hides the field, the last mask needs no condition of its own.
create or replace function access.shown_sql(entity data.entities, shows jsonb, field text, bases text[], alias text, expression text)
  returns text
language plpgsql stable set search_path = '' as $$
declare
  _type text := (select f.sql_type from data.fields f where f.entity_id = (entity).id and f.name = shown_sql.field);
  _own text := shown_sql.bases[1];
  _masks text;
  _out text;
begin
  if shown_sql.bases <> array[shown_sql.field] and shown_sql.field = any (data.computed_names((entity).schema)) then
    _out := format('case when %s then %s end', access.seen_sql(entity, shows, shown_sql.bases, shown_sql.alias), shown_sql.expression);
  else
    select string_agg(case when m.is_last and not shows->_own ? 'hidden' then ' else '
        else format(' when %s then ', access.bits_sql(entity, 'read', 'allow', access.shown_by(shows, _own, m.mask), shown_sql.alias)) end
      || access.mask_sql(m.mask, _type, shown_sql.expression, (entity).site_id), '' order by m.place) into _masks
    from (
      select k as mask, row_number() over w as place, row_number() over w = count(*) over () as is_last
      from jsonb_object_keys(shows->_own) k where k not in ('full', 'hidden', 'denied') window w as (order by access.mask_rank(k), k)
    ) m;
    _out := format('case%s when %s then %s%s end',
      coalesce(' when ' || access.bits_sql(entity, 'read', 'deny', access.shown_by(shows, _own, 'denied'), shown_sql.alias) || ' then null',
        ''),
      access.bits_sql(entity, 'read', 'allow', access.shown_by(shows, _own, 'full'), shown_sql.alias, true), shown_sql.expression,
      coalesce(_masks, ''));
  end if;
  if _out ~ '\mrelated_\d' then
    perform rowhouse.fail(409, format('Who sees %s.%s would depend on related records', (entity).name, shown_sql.field),
      'Field rules, and rules of entities with x-pii or x-mask, go with conditions on the record itself.', 'related_fields');
  end if;
  return _out;
end
$$;
comment on function access.shown_sql(data.entities, jsonb, text, text[], text, text) is
  'A column of an entity''s view as its readers may see it: in full, masked or null, as SQL over the storage row (alias). RH409 when that depended on related records.';

create or replace function access.shown_columns(entity data.entities, source text, links text default 'linked')
  returns table ("position" int, name text, expression text)
language sql stable set search_path = '' as $$
  with shows (shows) as materialized (select access.field_shows(entity))
  select c.position, c.name, case when r.field is null then c.expression
    else access.shown_sql(entity, s.shows, c.name, r.bases, shown_columns.source, c.expression) end
  from shows s
  cross join data.view_columns(entity, shown_columns.source, shown_columns.links) c
  left join access.restricted(entity, (select x.shows from shows x)) r on r.field = c.name
$$;
comment on function access.shown_columns(data.entities, text, text) is 'The columns of an entity''s view as each reader may see them, with the SQL that reads them out of a storage row (alias source). RH409.';

create or replace function access.drop_rights(entity data.entities) returns void
language plpgsql set search_path = '' as $$
begin
  execute format('drop function if exists %1$s(text, int), %2$s(), %3$s(text, boolean), %1$s(text)', access.rights_function(entity),
    access.unseen_function(entity), access.held_function(entity));
end
$$;
comment on function access.drop_rights(data.entities) is 'Drops the functions that tell which rules of an entity hold for the caller, and which fields it does not see.';

create or replace function access.front_sql(entity data.entities) returns text
language sql stable set search_path = '' as $$
  select case when access.guards_fields(entity) then data.column_list(entity, 't') || access.compile_field_check(entity)
    || access.compile_new_check(entity, 'names') || access.compile_new_check(entity, 'check')
    || array_to_string(access.seen_view_fields(entity), ',') || access.guess_check(entity, '') else '' end
$$;
comment on function access.front_sql(data.entities) is
  'Whatever of an entity''s view and write rule depends on rules of access, as one text: where it changes, they are built anew. Empty where no fields are guarded.';

create or replace function access.shown_data(entity data.entities, data text, alias text) returns text
language plpgsql stable set search_path = '' as $$
declare
  _shows jsonb := access.field_shows(entity);
  _fields text;
begin
  select string_agg(format('%1$L, case when %2$s then (%3$s)->%1$L else to_jsonb(%4$s) end', r.field,
    access.seen_sql(entity, _shows, r.bases, shown_data.alias), shown_data.data,
    access.shown_sql(entity, _shows, r.field, r.bases, shown_data.alias, c.expression)), ', ' order by r.field)
  into _fields
  from access.restricted(entity, _shows) r
  join data.fields f on f.entity_id = entity.id and f.name = r.field and not data.is_virtual(f.schema)
  join data.view_columns(entity, shown_data.alias) c on c.name = r.field;
  return case when _fields is null then shown_data.data
    else format('(%s || jsonb_build_object(%s))', shown_data.data, _fields) end;
end
$$;
comment on function access.shown_data(data.entities, text, text) is 'The data of a storage row (alias) as its reader may see it, as SQL; data is the SQL of all of it.';
