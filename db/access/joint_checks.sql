-- Whether a change is accepted must not tell what a field holds that its writer does not see: where a joint rule reads such a field,
-- and the change keeps it, the change of another field of that rule is refused before anything is compared.

-- As the view shows them, so that who sends back what was read has changed nothing.
create or replace function access.is_same(kind text, a jsonb, b jsonb) returns boolean
language plpgsql stable parallel safe set search_path = '' set timezone = 'UTC' as $$
declare
  _type text := case kind when 'date-time' then 'timestamptz' when 'decimal' then 'numeric' when 'date' then kind when 'uuid' then kind end;
begin
  if coalesce(a, 'null') = coalesce(b, 'null') then
    return true;
  elsif _type is null or a is null or b is null or jsonb_typeof(a) not in ('string', 'number')
    or not pg_input_is_valid(a #>> '{}', _type) or not pg_input_is_valid(b #>> '{}', _type) then
    return false;
  end if;
  return case kind
    when 'date-time' then (a #>> '{}')::timestamptz = (b #>> '{}')::timestamptz
    when 'date' then (a #>> '{}')::date = (b #>> '{}')::date
    when 'uuid' then (a #>> '{}')::uuid = (b #>> '{}')::uuid
    else (a #>> '{}')::numeric = (b #>> '{}')::numeric end;
end
$$;
comment on function access.is_same(text, jsonb, jsonb) is
  'Whether two values of a property of a kind are the same, however they are spelt: 12:00Z and 12:00+00:00, 1.5 and "1.50".';

create or replace function access.check_joint(entity text, rules jsonb, new jsonb, old jsonb, names text[], unseen text[]) returns void
language plpgsql stable set search_path = '' as $$
declare
  _label text;
  _written text[];
  _kept text[];
begin
  if unseen = '{}' then
    return;
  end if;
  select r.value->>'label', w.fields, k.fields into _label, _written, _kept
  from jsonb_array_elements(rules) with ordinality r (value, n),
    lateral (select array(select f from jsonb_array_elements_text(r.value->'guarded') f
      where f = any (unseen) and f <> all (names) order by f)) k (fields),
    lateral (select array(select f.key from jsonb_each_text(r.value->'fields') f
      where case when f.key = any (unseen) then f.key = any (names)
        else not access.is_same(f.value, new->f.key, old->f.key) end order by f.key)) w (fields)
  where k.fields <> '{}' and (w.fields <> '{}' or r.value->'timed' = 'true')
    and (r.value->'longer' = '0' or (r.value->>'longer')::int < (
      select sum(length(new->>f)) from jsonb_object_keys(r.value->'fields') f where f <> all (k.fields)))
  order by r.n limit 1;
  if not found then
    return;
  end if;
  perform rowhouse.fail(403,
    format('You do not see %s of %s, and %s together with it: %s', array_to_string(_kept, ', '), check_joint.entity,
      case when _written = '{}' then 'every change is checked' else array_to_string(_written, ', ')
        || case cardinality(_written) when 1 then ' is checked' else ' are checked' end end, _label),
    format('Whether it fits would tell what %s holds. Give %1$s too, if you may write it; else a role that shows it is needed.',
      array_to_string(_kept, ', ')), 'field_not_seen',
    (select jsonb_agg(jsonb_build_object('pointer', p,
        'message', format('is checked together with %s, which you do not see: %s', array_to_string(_kept, ', '), _label)) order by p)
      from unnest(case when _written = '{}' then array[''] else array(select '/' || w from unnest(_written) w) end) p));
end
$$;
comment on function access.check_joint(text, jsonb, jsonb, jsonb, text[], text[]) is
  'Raises RH403 when a change of a record (its data after and before, the fields that were named, those that its writer does not see) '
  'touches a joint rule that reads a field which is not seen and is kept; rules is access.joint_guards. Depends on nothing that the '
  'writer does not see.';

create or replace function access.refuse_names(names text[]) returns void
language sql set search_path = '' as $$
  select rowhouse.fail(422,
    format('%s are names of one field, and were sent with different values', array_to_string(refuse_names.names, ', ')),
    'Send one of them.', 'validation_failed',
    (select jsonb_agg(jsonb_build_object('pointer', '/' || n, 'message', 'is one of the names of a field that was sent with other values'))
      from unnest(refuse_names.names) n))
$$;
comment on function access.refuse_names(text[]) is 'Raises RH422: different values were sent under names of one field.';

-- Records that were valid may be no longer, when they are restored under another definition.
create or replace function access.told_errors(errors jsonb, hidden text[]) returns jsonb
language sql immutable parallel safe set search_path = '' as $$
  select coalesce(jsonb_agg(case when h.is_hidden then data.violation('', 'does not fit the definition, in what you do not see')->0
    else e end order by n), '[]')
  from jsonb_array_elements(errors) with ordinality x (e, n),
    lateral (select hidden @> '{*}' or split_part(e->>'pointer', '/', 2) = any (hidden)) h (is_hidden)
  where not h.is_hidden or n = (select min(m) from jsonb_array_elements(errors) with ordinality y (o, m)
    where hidden @> '{*}' or split_part(o->>'pointer', '/', 2) = any (hidden))
$$;
comment on function access.told_errors(jsonb, text[]) is
  'What is wrong with a record, without what is wrong with hidden fields (* for all), of which it says only that something is.';
