-- What a new definition must not do: take from a field the name by which a rule denies or masks it; and, for who may not define
-- policies, beside lifting masks (definer_reach.sql), copy a field that is masked into one that is not, call one by a name that a
-- role may read, end that records are in the audit log.

create or replace function access.kept_fields(old data.entities, schema jsonb, renames jsonb)
returns table (was text, now text, old_property jsonb, property jsonb, old_names text[], names text[])
language sql stable set search_path = '' as $$
  select o.key, n.key, o.value, n.value,
    o.key || array(select a.key from jsonb_each((old).schema->'properties') a where a.value->>'x-alias' = o.key),
    n.key || array(select a.key from jsonb_each(kept_fields.schema->'properties') a where a.value->>'x-alias' = n.key)
  from jsonb_each((old).schema->'properties') o
  join jsonb_each(kept_fields.schema->'properties') n on coalesce(kept_fields.renames->>n.key, n.key) = o.key
    and (kept_fields.renames ? n.key or not exists (select from jsonb_each_text(kept_fields.renames) r where r.value = o.key))
  where not o.value ? 'x-alias'
$$;
comment on function access.kept_fields(data.entities, jsonb, jsonb) is
  'The fields of an entity that are still there under another schema: what each was called and is called, its definitions, and all its names (x-alias) before and then.';

create or replace function access.refuse_lost_protection(old data.entities, schema jsonb, renames jsonb) returns void
language plpgsql stable set search_path = '' as $$
declare
  _path text := access.entity_path(old);
  _unseen text[];
  _field text;
begin
  select f.was into _field
  from access.kept_fields(old, refuse_lost_protection.schema, coalesce(refuse_lost_protection.renames, '{}')) f
  join access.rules r on r.entity_id = (old).id and r.fields is not null,
    unnest(case r.effect when 'deny' then array[r.fields->'readable', r.fields->'writable'] else array[r.fields->'masked'] end) named
  where named ?| f.old_names and not named ?| f.names
  limit 1;
  if found then
    perform rowhouse.fail(409, format('A role or policy protects the field %s of %s by a name that it would lose', _field, _path),
      'Keep the name, also as another one ("x-alias"), or name the new one in the role or policy first.',
      'protection_lost', data.violation('/properties/' || data.pointer_part(_field), 'is protected by this name'));
  elsif access.may_control((old).site_id, '@policies', 'define', split_part(_path, '/', 1)) then
    return;
  end if;
  if coalesce(old.schema->'x-audit', 'false') <> 'false' and coalesce(refuse_lost_protection.schema->'x-audit', 'false') = 'false'
    or audit.reads_are_on(old.schema) and not audit.reads_are_on(refuse_lost_protection.schema)
  then
    perform rowhouse.fail(403, format('This definition would end that records of %s are in the audit log', _path),
      'Only owners and admins of the site may do that, or who has the permission @policies:define.', 'forbidden',
      data.violation('/x-audit', 'cannot be taken away by you'));
  end if;
  _unseen := access.unseen((old).id);
  select f.now into _field
  from access.kept_fields(old, refuse_lost_protection.schema, coalesce(refuse_lost_protection.renames, '{}')) f,
    lateral (select data.conversion_expression(f.old_property, f.property)) c (expression)
  where c.expression is not null and access.default_mask(f.property) is null and exists (
      select from unnest(data.expression_names(data.parse_expression(c.expression))) n
      where n <> f.was and (n = any (_unseen) or access.default_mask((old).schema->'properties'->n) is not null))
    or exists (
      select from access.rules r, unnest(array[r.fields->'readable', r.fields->'unmasked']) named
      where r.entity_id = (old).id and r.effect = 'allow' and named ?| f.names and not named ?| f.old_names)
  limit 1;
  if found then
    perform rowhouse.fail(403, format('This definition would show the field %s of %s to those who do not see it', _field, _path),
      'Only owners and admins of the site may do that, or who has the permission @policies:define.', 'forbidden',
      data.violation('/properties/' || data.pointer_part(_field), 'would be shown to more'));
  end if;
end
$$;
comment on function access.refuse_lost_protection(data.entities, jsonb, jsonb) is
  'Raises RH409 when a field would lose the name by which a rule denies or masks it; RH403 when an entity would, under another schema, show a field to more people (a conversion from a field that is masked, a name that a role may read) or record less in the audit log, for who may not define policies. renames is {new: old}.';
