-- A property with "x-alias": "full_name" is another name of that one: both are read, either is written, so that clients of the
-- old name and of the new work side by side (expand), until the old name is dropped (contract), which loses nothing.

create or replace function data.aliases(schema jsonb) returns jsonb
language sql immutable parallel safe set search_path = '' as $$
  select coalesce(jsonb_object_agg(key, value->'x-alias'), '{}') from jsonb_each(aliases.schema->'properties') where value ? 'x-alias'
$$;
comment on function data.aliases(jsonb) is 'The other names that a schema gives its properties, as {alias: property}.';

create or replace function data.alias_violations(schema jsonb) returns jsonb
language sql stable set search_path = '' as $$
  select coalesce(jsonb_agg(jsonb_build_object('pointer', format('/properties/%s/x-alias', v.name), 'message', v.message) order by v.name),
    '[]')
  from (
    select p.key, case
      when t is null or t ?| array['x-alias', 'x-computed'] then 'is the name of another property, which is neither an alias nor computed'
      when data.kind(p.value) is distinct from data.kind(t) then format('has another type: %s is %s', p.value->>'x-alias', data.kind(t))
      when p.value ?| array['x-index', 'x-unique', 'x-relation', 'x-search', 'x-computed', 'x-renamed-from', 'default']
        or alias_violations.schema->'required' ? p.key
        then 'is only a name: it has no index, relation or default of its own, and is not required'
    end
    from jsonb_each(alias_violations.schema->'properties') p, nullif(alias_violations.schema->'properties'->(p.value->>'x-alias'), null) t
    where p.value ? 'x-alias'
  ) v (name, message)
  where v.message is not null
$$;
comment on function data.alias_violations(jsonb) is 'What is wrong with a schema''s aliases: a JSON array of {pointer, message}.';

create or replace function data.without_aliases(record jsonb, aliases jsonb) returns jsonb
language sql immutable parallel safe set search_path = '' as $$
  select case when not without_aliases.record ?| array(select jsonb_object_keys(aliases)) then without_aliases.record
    else (without_aliases.record - array(select jsonb_object_keys(aliases))) || (
      select jsonb_object_agg(a.value, without_aliases.record->a.key)
      from jsonb_each_text(aliases) a
      where without_aliases.record ? a.key) end
$$;
comment on function data.without_aliases(jsonb, jsonb) is 'A record whose values under aliases stand under the properties'' own names; aliases is {alias: property}.';

-- Who sends back a whole record that was read sends both names, and has changed one.
create or replace function data.resolve_alias(record jsonb, old jsonb, alias text, property text) returns jsonb
language plpgsql immutable parallel safe set search_path = '' as $$
declare
  _sent jsonb := record->alias;
  _own jsonb := coalesce(record->property, 'null');
  _was jsonb := coalesce(old->property, 'null');
begin
  if _sent = _was or _sent = _own then
    return record - alias;
  elsif _own <> _was then
    perform rowhouse.fail(422, format('%s is another name of %s, and the two were sent with different values', alias, property),
      'Send one of them.', 'validation_failed',
      data.violation('/' || alias, format('is another name of %s, which has another value here', property)));
  end if;
  return (record - alias) || jsonb_build_object(property, _sent);
end
$$;
comment on function data.resolve_alias(jsonb, jsonb, text, text) is
  'A record that is written, without an alias: whichever name brings a change wins. old is the record before, null for a new one. RH422 when both bring different changes.';

create or replace function data.compile_aliases(entity data.entities) returns text
language sql stable set search_path = '' as $$
  select coalesce(string_agg(format('if new.data ? %1$L then new.data := data.resolve_alias(new.data, case tg_op when ''UPDATE'' then %3$s end, %1$L, %2$L); end if;',
    a.key, a.value, data.record_source(entity, 'old')), E'\n    ' order by a.key), '')
  from jsonb_each_text(data.aliases(entity.schema)) a
$$;
comment on function data.compile_aliases(data.entities) is 'PL/pgSQL that puts what was written under aliases under the properties'' own names.';
