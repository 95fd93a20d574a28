-- A definition that is tried on stored records tells its author about them: by being refused or accepted, by offenders, by what a
-- worker notes. So it is for who reads all these records, and sees in full whatever of them is tried. That depends on the definition
-- and on rights only: it is asked before a record is read.

create or replace function access.reads_all(entity data.entities) returns boolean
language sql stable set search_path = '' as $$
  select access.administers((entity).site_id) or case when access.is_special(entity) then access.sees_all((entity).id)
    else access.allows((entity).site_id, access.entity_path(entity), 'read') end
$$;
comment on function access.reads_all(data.entities) is
  'Whether the caller administers the site or may read every record of an entity, whatever it holds.';

create or replace function access.sees_whole(entity_id uuid, masked boolean default false) returns boolean
language sql stable security definer set search_path = '' as $$
  select coalesce((
    select access.administers(e.site_id) or access.reads_all(e) and (sees_whole.masked or access.unseen(e.id) = '{}')
    from data.entities e where e.id = sees_whole.entity_id and tenancy.knows_site(e.site_id)), false)
$$;
comment on function access.sees_whole(uuid, boolean) is
  'Whether the caller may read every record of an entity, and sees every field of it in full, unless masked; false where they do not know '
  'the entity.';

create or replace function access.refuse_checking(entity data.entities, fields text[], why text) returns void
language sql set search_path = '' as $$
  select rowhouse.fail(403, format('This definition is tried on the records of %s, and you %s', access.entity_path(entity), why),
    'Ask an owner or admin of the site, or somebody with @entities:define who reads every record and sees these fields in full. '
      'What is tried on no record is yours: an optional property, another name, an index on numbers or dates, a limit that is loosened.',
    case when fields = '{}' then 'forbidden' else 'field_not_seen' end,
    coalesce((select jsonb_agg(jsonb_build_object('pointer', '/properties/' || data.pointer_part(f),
      'message', 'is masked or hidden for you') order by f) from unnest(fields) f), '[]'))
$$;
comment on function access.refuse_checking(data.entities, text[], text) is
  'Raises RH403 for a definition whose author does not see what it is tried on: field_not_seen, or forbidden where no field is named.';

-- What a field refers to may be found out by writing it, however few the records are.
create or replace function access.refuse_unseen_targets(old data.entities, schema jsonb, renames jsonb, changes jsonb) returns void
language plpgsql stable set search_path = '' as $$
declare
  _relation record;
begin
  if access.administers(old.site_id) then
    return;
  end if;
  for _relation in
    select t as target, p.key as field, coalesce(p.value #>> '{x-relation,field}', 'id') as target_field, exists (
        select from jsonb_array_elements(changes) c
        where c->>'field' = p.key and (c->>'change' in ('convert', 'restore') or c->>'change' = 'require' and c ? 'default'
          or c->>'keyword' = 'x-relation')) as is_checked,
      p.value->'x-relation' is distinct from old.schema #> array['properties', coalesce(renames->>p.key, p.key), 'x-relation'] as is_new
    from jsonb_each(refuse_unseen_targets.schema->'properties') p
    join data.entities t on t.app_id = old.app_id and t.name = p.value #>> '{x-relation,entity}'
    order by p.key
  loop
    if _relation.is_new and _relation.target_field = any (access.unseen((_relation.target).id)) then
      perform access.refuse_checking(_relation.target, array[_relation.field],
        format('do not see %s in full there, to which %s would refer', _relation.target_field, _relation.field));
    elsif (_relation.is_checked or _relation.is_new and _relation.target_field <> 'id') and not access.reads_all(_relation.target) then
      perform access.refuse_checking(_relation.target, '{}', format('do not read all of those to which %s refers', _relation.field));
    end if;
  end loop;
end
$$;
comment on function access.refuse_unseen_targets(data.entities, jsonb, jsonb, jsonb) is
  'Raises RH403 when a definition makes a relation to a field that its author does not see in full, or tries one on records of which '
  'they do not read all.';

create or replace function access.require_checkable(old data.entities, schema jsonb, renames jsonb, changes jsonb) returns void
language plpgsql stable set search_path = '' as $$
declare
  _names text;
  _fields text[];
begin
  if access.administers(old.site_id) then
    return;
  end if;
  renames := coalesce(renames, '{}');
  perform access.refuse_unseen_targets(old, require_checkable.schema, renames, changes);
  if not exists (select from access.checked_fields(old, require_checkable.schema, renames, changes)) or not data.has_records(old) then
    return;
  elsif not access.reads_all(old) then
    perform access.refuse_checking(old, '{}', 'do not read all of them');
  end if;
  select array_agg(c.field order by c.field), string_agg(c.field, ', ' order by c.field) into _fields, _names
  from access.checked_fields(old, require_checkable.schema, renames, changes) c
  where c.was = any (access.unseen(old.id)) or c.was is null and exists (
    select from jsonb_array_elements(changes) x
    where x->>'change' = 'restore' and x->>'field' = c.field and access.restored_unseen(old, x));
  if _fields is not null then
    perform access.refuse_checking(old, _fields, format('do not see %s in full', _names));
  end if;
end
$$;
comment on function access.require_checkable(data.entities, jsonb, jsonb, jsonb) is
  'Raises RH403 when another definition of an entity would be tried on records that the caller does not read, or on fields that they do '
  'not see in full: the same whatever the records hold. Owners and admins may, and anyone where there are no records.';
