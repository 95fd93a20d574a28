-- Who may write which fields. The write functions say which fields a change names (under "@" in its data): a writer that cannot
-- see a field could else tell by trying whether a value is already there.

create or replace function access.named(changes jsonb) returns jsonb
language sql immutable parallel safe set search_path = '' as $$
  select data.record_data(changes) - '@' || jsonb_build_object('@', array(select k from jsonb_object_keys(data.record_data(changes)) k))
$$;
comment on function access.named(jsonb) is 'The changes of a record for an entity whose fields are guarded, with the names of what is changed.';

create or replace function access.closed_fields(entity data.entities, action text) returns table (field text, allowing int[], denying int[])
language sql stable set search_path = '' as $$
  with rule (effect, number, writable) as (
    select 'allow', 1, null::jsonb
    union all
    select r.effect, r.number, r.fields->'writable' from access.rules r
    where r.entity_id = (entity).id and r.action = closed_fields.action and (r.effect = 'allow' or r.fields is not null)
  ), x as (
    select f.name, r.effect, r.number,
      case r.effect when 'allow' then r.writable is null or r.writable ?| n.names else coalesce(r.writable ?| n.names, false) end as says
    from data.fields f, rule r, lateral (select access.field_names(entity, f.name) || '{*}'::text[]) n (names)
    where f.entity_id = (entity).id and not f.schema ?| array['x-alias', 'x-computed']
  )
  select x.name, coalesce(array_agg(x.number order by x.number) filter (where x.effect = 'allow' and x.says), '{}'),
    array_agg(x.number order by x.number) filter (where x.effect = 'deny' and x.says)
  from x group by x.name having bool_or(x.says = (x.effect = 'deny'))
$$;
comment on function access.closed_fields(data.entities, text) is
  'The fields that not all who may create or update (action) an entity''s records may write, with the rules that allow it and those that deny it.';

create or replace function access.checks_fields(entity data.entities) returns boolean
language sql stable set search_path = '' as $$
  select access.is_special(entity) and (access.field_shows(entity) <> '{}' or exists (select from access.closed_fields(entity, 'update')))
$$;
comment on function access.checks_fields(data.entities) is 'Whether a change of an entity''s records has to say which fields it names.';

create or replace function access.closed_sql(entity data.entities, action text, alias text) returns text
language sql stable set search_path = '' as $$
  select coalesce('array_remove(array[' || string_agg(format('case when (%s)%s then null else %L end',
      access.bits_sql(entity, closed_sql.action, 'allow', c.allowing, closed_sql.alias, true),
      coalesce(' and (' || access.bits_sql(entity, closed_sql.action, 'deny', c.denying, closed_sql.alias) || ') is not true', ''),
      c.field), ', ' order by c.field) || ']::text[], null)',
    '''{}''::text[]')
  from access.closed_fields(entity, closed_sql.action) c
$$;
comment on function access.closed_sql(data.entities, text, text) is 'The fields of a storage row (alias) that the caller may not write, as SQL.';

create or replace function access.own_names(names text[], aliases jsonb) returns text[]
language sql immutable parallel safe set search_path = '' as $$
  select array(select distinct coalesce(aliases->>n, n) from unnest(names) n order by 1)
$$;
comment on function access.own_names(text[], jsonb) is 'Names of fields, other names (aliases is {alias: property}) replaced by the properties'' own.';

create or replace function access.refuse_fields(entity text, fields text[], action text) returns void
language sql set search_path = '' as $$
  select rowhouse.fail(403,
    format('You may not write %s of %s', (select string_agg('/' || f, ', ' order by f) from unnest(refuse_fields.fields) f),
    refuse_fields.entity),
    case refuse_fields.action when 'update' then 'Send only what you change; what you leave out stays as it is.'
      else 'Leave these fields out.' end, 'field_not_writable',
    (select jsonb_agg(jsonb_build_object('pointer', '/' || f, 'message', 'is not yours to write') order by f)
      from unnest(refuse_fields.fields) f))
$$;
comment on function access.refuse_fields(text, text[], text) is 'Raises RH403 for fields that the caller may not write, by JSON pointer.';

create or replace function access.checked_change(entity text, new jsonb, old jsonb, names text[], closed text[], unseen text[], shown jsonb)
  returns jsonb
language plpgsql stable set search_path = '' as $$
declare
  _refused text[] := array(select n from unnest(names) n
    where n = any (closed) and (n = any (unseen) or coalesce(new->n, 'null') <> coalesce(old->n, 'null')));
  _masks text[] := array(select n from unnest(names) n
    -- Also where it is the value itself, or accepting it would tell.
    where n = any (unseen) and n <> all (closed) and coalesce(new->n, 'null') = coalesce(shown->n, 'null'));
  _kept text[] := array(select k from unnest(closed || unseen) k where k <> all (names));
begin
  if _refused <> '{}' then
    perform access.refuse_fields(checked_change.entity, _refused, 'update');
  elsif _masks <> '{}' then
    perform rowhouse.fail(422,
      format('What was sent for %s of %s is its mask, not a value', (select string_agg('/' || m, ', ' order by m) from unnest(_masks) m),
      checked_change.entity),
      'You see these fields masked or hidden. Leave them out to keep them.', 'masked_value',
      (select jsonb_agg(jsonb_build_object('pointer', '/' || m, 'message', 'is what you see in place of the value') order by m)
        from unnest(_masks) m));
  end if;
  return new - _kept || coalesce((select jsonb_object_agg(k, old->k) from unnest(_kept) k where old ? k), '{}');
end
$$;
comment on function access.checked_change(text, jsonb, jsonb, text[], text[], text[], jsonb) is
  'A changed record (its data before and after, and the fields that were named), in which fields that the writer may not write or see and did not name are as before. RH403 names what it may not write, RH422 what was sent back masked.';

-- Asked once a record, not once for each field: a change of a record with four masked fields takes 190 µs, 550 without.
create or replace function access.share_rights(body text, entity data.entities) returns text
language sql stable set search_path = '' as $$
  with recursive term (text, n) as (
    select m[1], row_number() over (order by m[1])
    from regexp_matches(body, format('(%s\(''\w+'', -?\d+\))', regexp_replace(access.rights_function(entity), '(\W)', '\\\1', 'g')), 'g') m
    group by m[1] having count(*) > 1
  ), shared (body, n) as (
    select share_rights.body, 0::bigint
    union all
    select replace(s.body, t.text, '_rights_' || t.n), t.n from shared s join term t on t.n = s.n + 1
  )
  select case when t.declared is null then body else format(E'declare\n%s      begin\n%s\n      end;', t.declared, s.body) end
  from (select string_agg(format(E'        _rights_%s bigint := %s;\n', n, text), '' order by n) from term) t (declared),
    (select x.body from shared x order by x.n desc limit 1) s
$$;
comment on function access.share_rights(text, data.entities) is
  'PL/pgSQL in which what an entity''s rights function gives, and is asked for several times, is a variable.';

create or replace function access.compile_field_check(entity data.entities) returns text
language plpgsql stable set search_path = '' as $$
declare
  _shows jsonb;
  _unseen text;
  _shown text;
  _own text[];
  _guards jsonb;
  _source text := data.record_source(entity, 'old');
begin
  if not access.checks_fields(entity) then
    return '';
  end if;
  _shows := access.field_shows(entity);
  _own := access.own_restricted(entity, _shows);
  _unseen := access.unseen_sql(entity, _shows, 'old');
  _guards := access.joint_guards(entity, _own);
  select string_agg(format('%L, %s', f, access.shown_sql(entity, _shows, f, array[f], 'old', c.expression)), ', ' order by f)
  into _shown
  from unnest(_own) f join data.view_columns(entity, 'old') c on c.name = f;
  return format($sql$
    if tg_op = 'UPDATE' then
      if jsonb_typeof(new.data->'@') = 'array' then
        %s
      end if;%s
    end if; $sql$, access.share_rights(format($sql$
        _names := access.own_names(array(select jsonb_array_elements_text(new.data->'@')), %1$L);
        select %2$s, array_remove(array[%3$s]::text[], null), jsonb_build_object(%4$s) into _closed, _unseen, _shown;
        new.data := access.checked_change(%5$L, new.data - '@', %6$s, _names, _closed, _unseen, _shown);%7$s$sql$,
      data.aliases(entity.schema), access.closed_sql(entity, 'update', 'old'), _unseen, coalesce(_shown, ''), entity.name,
      _source, coalesce(access.compile_joint_check(entity, _guards, _source), '')), entity),
    access.compile_other_checks(entity, _guards, _unseen, _source));
end
$$;
comment on function access.compile_field_check(data.entities) is
  'PL/pgSQL of an entity''s write rule that checks which fields a change writes, and whether its acceptance would tell of others; '
  'empty where everybody may write and sees all. RH409.';

create or replace function access.compile_new_check(entity data.entities, part text) returns text
language sql stable set search_path = '' as $$
  select case
    when not access.is_special(entity) or not exists (select from access.closed_fields(entity, 'create')) then ''
    when part = 'names'
      then format('_names := access.own_names(array(select n.key from jsonb_each(new.data) n where n.value <> ''null''), %L);',
      data.aliases((entity).schema))
    else format($sql$
      if tg_op = 'INSERT' and _names is not null then
        %s
        if _closed && _names then
          perform access.refuse_fields(%L, array(select n from unnest(_names) n where n = any (_closed)), 'create');
        end if;
      end if; $sql$, access.share_rights(format('select %s into _closed;', access.closed_sql(entity, 'create', 'new')), entity),
      (entity).name) end
$$;
comment on function access.compile_new_check(data.entities, text) is
  'PL/pgSQL of an entity''s write rule that checks which fields a new record was given: part names notes them before defaults, check compares them once the row is complete.';
