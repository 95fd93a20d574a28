-- What a new definition must not do to what rules keep from people. Rules name fields, and masks stand in the definition: who only
-- defines an entity could show themselves, or others, what roles and policies do not.
--   take from a field the name by which a rule denies or masks it: nobody may
--   end that records are in the audit log, copy a field that is masked into one that is not, call a field by a name that a role may
--   read: who may define policies
--   take the mask off a field that one sees masked, give a field that rules name the name of another: who administers the site

drop function if exists access.refuse_lost_protection(data.entities, jsonb, jsonb), access.refuse_lost_names(data.entities, jsonb, jsonb),
  access.refuse_shown_fields(data.entities, jsonb, jsonb), access.refuse_unmasking(data.entities, jsonb, jsonb),
  access.kept_fields(data.entities, jsonb, jsonb);
create or replace function access.kept_fields(old data.entities, schema jsonb, renames jsonb, changes jsonb)
returns table (was text, now text, old_property jsonb, property jsonb, old_names text[], names text[])
language sql stable set search_path = '' as $$
  select o.key, n.key, o.value, n.value,
    o.key || array(select a.key from jsonb_each((old).schema->'properties') a where a.value->>'x-alias' = o.key),
    n.key || array(select a.key from jsonb_each(kept_fields.schema->'properties') a where a.value->>'x-alias' = n.key)
  from jsonb_each((old).schema->'properties') o
  join jsonb_each(kept_fields.schema->'properties') n on coalesce(kept_fields.renames->>n.key, n.key) = o.key
    and (kept_fields.renames ? n.key or not exists (select from jsonb_each_text(kept_fields.renames) r where r.value = o.key))
  where not o.value ? 'x-alias'
  union all
  -- What comes back with its values is protected as it was when it was dropped.
  select c->>'from', c->>'field', v.schema->'properties'->(c->>'from'), kept_fields.schema->'properties'->(c->>'field'),
    c->>'from' || array(select a.key from jsonb_each(v.schema->'properties') a where a.value->>'x-alias' = c->>'from'),
    c->>'field' || array(select a.key from jsonb_each(kept_fields.schema->'properties') a where a.value->>'x-alias' = c->>'field')
  from jsonb_array_elements(kept_fields.changes) c
  join data.entity_versions v on v.entity_id = (old).id and v.version = (c->>'version')::int - 1
  where c->>'change' = 'restore'
$$;
comment on function access.kept_fields(data.entities, jsonb, jsonb, jsonb) is
  'The fields of an entity that are still there under another schema, or come back with what they held: what each was called and is '
  'called, its definitions, and all its names (x-alias) before and then.';

create or replace function access.refuse_lost_names(old data.entities, schema jsonb, renames jsonb, changes jsonb) returns void
language plpgsql stable set search_path = '' as $$
declare
  _field text;
begin
  select f.was into _field
  from access.kept_fields(old, refuse_lost_names.schema, refuse_lost_names.renames, changes) f
  join access.rules r on r.entity_id = (old).id and r.fields is not null,
    unnest(case r.effect when 'deny' then array[r.fields->'readable', r.fields->'writable'] else array[r.fields->'masked'] end) named
  where named ?| f.old_names and not named ?| f.names
  limit 1;
  if found then
    perform rowhouse.fail(409,
      format('A role or policy protects the field %s of %s by a name that it would lose', _field, access.entity_path(old)),
      'Keep the name, also as another one ("x-alias"), or name the new one in the role or policy first.',
      'protection_lost', data.violation('/properties/' || data.pointer_part(_field), 'is protected by this name'));
  end if;
end
$$;
comment on function access.refuse_lost_names(data.entities, jsonb, jsonb, jsonb) is
  'Raises RH409 when a field would lose the name by which a rule denies or masks it. Internal.';

create or replace function access.refuse_unaudited(old data.entities, schema jsonb) returns void
language plpgsql stable set search_path = '' as $$
begin
  if coalesce(old.schema->'x-audit', 'false') <> 'false' and coalesce(refuse_unaudited.schema->'x-audit', 'false') = 'false'
    or audit.reads_are_on(old.schema) and not audit.reads_are_on(refuse_unaudited.schema)
  then
    perform rowhouse.fail(403, format('This definition would end that records of %s are in the audit log', access.entity_path(old)),
      'Only owners and admins of the site may do that, or who has the permission @policies:define.', 'forbidden',
      data.violation('/x-audit', 'cannot be taken away by you'));
  end if;
end
$$;
comment on function access.refuse_unaudited(data.entities, jsonb) is
  'Raises RH403 when less of an entity would be recorded in the audit log. Internal.';

create or replace function access.refuse_shown_fields(old data.entities, schema jsonb, renames jsonb, changes jsonb) returns void
language plpgsql stable set search_path = '' as $$
declare
  -- A worker that takes something back sees nothing, and converts nothing.
  _unseen text[] := case when changes @? '$[*].expression' then access.unseen((old).id) else '{}' end;
  _field text;
begin
  select f.now into _field
  from access.kept_fields(old, refuse_shown_fields.schema, refuse_shown_fields.renames, changes) f,
    lateral (select data.conversion_expression(f.old_property, f.property)) c (expression)
  where c.expression is not null and access.default_mask(f.property) is null and exists (
      select from unnest(data.expression_names(data.parse_expression(c.expression))) n
      where n <> f.was and (n = any (_unseen) or access.default_mask((old).schema->'properties'->n) is not null))
    or exists (
      select from access.rules r, unnest(array[r.fields->'readable', r.fields->'unmasked']) named
      where r.entity_id = (old).id and r.effect = 'allow' and named ?| f.names and not named ?| f.old_names)
    -- A computed field is seen by who sees what it is computed from; once it is a field like any other, no longer.
    or f.old_property ? 'x-computed' and not f.property ? 'x-computed' and not data.is_virtual(f.old_property)
      and access.default_mask(f.property) is null
      and exists (select from access.restricted(old, access.field_shows(old)) r where r.field = f.was and r.bases <> array[f.was])
  limit 1;
  if found then
    perform rowhouse.fail(403,
      format('This definition would show the field %s of %s to those who do not see it', _field, access.entity_path(old)),
      'Only owners and admins of the site may do that, or who has the permission @policies:define.', 'forbidden',
      data.violation('/properties/' || data.pointer_part(_field), 'would be shown to more'));
  end if;
end
$$;
comment on function access.refuse_shown_fields(data.entities, jsonb, jsonb, jsonb) is
  'Raises RH403 when a conversion would copy a field that is masked into one that is not, or a field would have a name that a role may '
  'read. Internal.';

create or replace function access.unmasks(entity data.entities, field text) returns boolean
language sql stable set search_path = '' as $$
  select exists (
    select from access.permissions x
    where x.role_id = any (access.own_roles((unmasks.entity).site_id)) and x.action in ('read', '*')
      and x.entity = any (access.patterns(access.entity_path(unmasks.entity))) and not x.own and x.condition is null
      and x.fields->'unmasked' ?| array['*', unmasks.field])
$$;
comment on function access.unmasks(data.entities, text) is
  'Whether the caller holds a permission, under no condition, that unmasks a field of an entity.';

create or replace function access.refuse_unmasking(old data.entities, schema jsonb, renames jsonb, changes jsonb) returns void
language plpgsql stable set search_path = '' as $$
declare
  _path text := access.entity_path(old);
  _field text;
begin
  select f.now into _field
  from access.kept_fields(old, refuse_unmasking.schema, refuse_unmasking.renames, changes) f,
    lateral (select access.default_mask(f.old_property)) m (mask)
  where m.mask is not null and coalesce(access.default_mask(f.property), '') not in (m.mask, 'redact', 'null')
    and not access.unmasks(old, f.was)
  limit 1;
  if found then
    perform rowhouse.fail(403, format('This definition would show %s of %s, which you see masked', _field, _path),
      'Keep its x-pii and x-mask, or ask an owner or admin of the site.', 'forbidden',
      data.violation('/properties/' || _field, 'would lose its mask'));
  end if;
end
$$;
comment on function access.refuse_unmasking(data.entities, jsonb, jsonb, jsonb) is
  'Raises RH403 when a definition takes a mask off a property that the caller sees masked. Internal.';

create or replace function access.names_field(rule jsonb, field text) returns boolean
language sql immutable set search_path = '' as $$
  select rule::text ~ ('"(\$record\.)?' || names_field.field || '[".]')
$$;
comment on function access.names_field(jsonb, text) is 'Whether a condition or the field rules of a permission or policy may name a field.';

create or replace function access.refuse_named_renames(old data.entities, renames jsonb) returns void
language plpgsql stable set search_path = '' as $$
declare
  _field text;
begin
  select r.key into _field
  from jsonb_each_text(refuse_named_renames.renames) r
  where exists (
    select from access.rules u, unnest(array[u.row_condition, u.fields]) rule, unnest(array[r.key, r.value]) name
    where u.entity_id = (old).id and access.names_field(rule, name))
  limit 1;
  if found then
    perform rowhouse.fail(403, format('Rules of access to %s name %s, or the name that it had', access.entity_path(old), _field),
      'Ask an owner or admin of the site for the new name.', 'forbidden',
      data.violation('/properties/' || _field, 'would continue a property that rules name'));
  end if;
end
$$;
comment on function access.refuse_named_renames(data.entities, jsonb) is
  'Raises RH403 when a property would get or lose a name that rules of access name. Internal.';

drop function if exists access.refuse_unveiling(data.entities);
create or replace function access.refuse_lost_protection(old data.entities, schema jsonb, renames jsonb, changes jsonb) returns void
language plpgsql stable set search_path = '' as $$
begin
  renames := coalesce(renames, '{}');
  perform access.refuse_lost_names(old, refuse_lost_protection.schema, renames, changes);
  if not access.may_control((old).site_id, '@policies', 'define', split_part(access.entity_path(old), '/', 1)) then
    perform access.refuse_unaudited(old, refuse_lost_protection.schema);
    perform access.refuse_shown_fields(old, refuse_lost_protection.schema, renames, changes);
  end if;
  if not access.administers((old).site_id) then
    perform access.refuse_unmasking(old, refuse_lost_protection.schema, renames, changes);
    perform access.refuse_named_renames(old, renames);
  end if;
end
$$;
comment on function access.refuse_lost_protection(data.entities, jsonb, jsonb, jsonb) is
  'Raises RH409 or RH403 when another schema of an entity would show, or record, what rules keep, unless the caller may decide that. '
  'renames is {new: old}, changes are data.schema_changes.';
