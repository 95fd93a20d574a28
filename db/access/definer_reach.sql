-- Who may define an entity, and administers nothing, could show themselves by its definition what rules keep from them: by taking
-- the mask off a property, or by giving a property that a rule names the name of another.

create or replace function access.names_field(rule jsonb, field text) returns boolean
language sql immutable set search_path = '' as $$
  select rule::text ~ ('"(\$record\.)?' || names_field.field || '[".]')
$$;
comment on function access.names_field(jsonb, text) is 'Whether a condition or the field rules of a permission or policy may name a field.';

create or replace function access.refuse_unveiling(entity data.entities) returns void
language plpgsql stable set search_path = '' as $$
declare
  _old jsonb := (select v.schema from data.entity_versions v where v.entity_id = entity.id and v.version = entity.version - 1);
  _renames jsonb := data.schema_renames(_old, entity.schema);
  _path text := access.entity_path(entity);
  _field text;
begin
  if _old is null or entity.updated_at <> now() or access.administers(entity.site_id) then
    return;
  end if;
  select p.key into _field
  from jsonb_each(entity.schema->'properties') p,
    lateral (select access.default_mask(_old->'properties'->coalesce(_renames->>p.key, p.key))) m (mask)
  where m.mask is not null and coalesce(access.default_mask(p.value), '') not in (m.mask, 'redact', 'null')
    and not exists (
      select from access.permissions x
      where x.role_id = any (access.own_roles(entity.site_id)) and x.action in ('read', '*') and x.entity = any (access.patterns(_path))
        and not x.own and x.condition is null and x.fields->'unmasked' ?| array['*', coalesce(_renames->>p.key, p.key)])
  limit 1;
  if _field is not null then
    perform rowhouse.fail(403, format('This definition would show %s of %s, which you see masked', _field, _path),
      'Keep its x-pii and x-mask, or ask an owner or admin of the site.', 'forbidden', data.violation('/properties/' || _field, 'would lose its mask'));
  end if;
  select r.key into _field
  from jsonb_each_text(_renames) r
  where exists (
    select from access.rules u
    where u.entity_id = entity.id and (access.names_field(u.row_condition, r.key) or access.names_field(u.row_condition, r.value)
      or access.names_field(u.fields, r.key) or access.names_field(u.fields, r.value)))
  limit 1;
  if _field is not null then
    perform rowhouse.fail(403, format('Rules of access to %s name %s, or the name that it had', _path, _field),
      'Ask an owner or admin of the site for the new name.', 'forbidden', data.violation('/properties/' || _field, 'would continue a property that rules name'));
  end if;
end
$$;
comment on function access.refuse_unveiling(data.entities) is
  'Raises RH403 when an entity''s next definition takes a mask off a property that the caller sees masked, or renames one that rules of access name; for who is no owner or admin of the site. Asked before the rules are written anew.';

-- A condition that a definition cannot answer refuses it; the field that a denial hides, and a mask covers, must not go unnoticed.
create or replace function access.refuse_lost_fields(entity data.entities) returns void
language plpgsql stable set search_path = '' as $$
declare
  _old jsonb := (select v.schema from data.entity_versions v where v.entity_id = entity.id and v.version = entity.version - 1);
  _field text;
begin
  select r.value into _field
  from jsonb_each_text(data.schema_renames(_old, entity.schema)) r
  where entity.updated_at = now() and not entity.schema->'properties' ? r.value and exists (
    select from access.rules u
    where u.entity_id = entity.id and exists (
      select from unnest(case u.effect when 'deny' then array['readable', 'writable'] else array['masked'] end) k
      where u.fields->k ? r.value and not u.fields->k ?| array[r.key, '*']))
  limit 1;
  if _field is not null then
    perform rowhouse.fail(409, format('Field rules of %s that hide or mask %s would no longer do so', access.entity_path(entity), _field),
      'Name the new field in those policies and roles too, first.', 'condition_does_not_fit', data.violation('/properties/' || _field, 'is named by rules of access'));
  end if;
end
$$;
comment on function access.refuse_lost_fields(data.entities) is
  'Raises RH409 when an entity''s next definition renames a field that a policy denies or a rule masks by its name. Asked before the rules are written anew.';
