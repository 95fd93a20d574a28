-- Across sites: a site grants a role of another site a view of an entity, of some records and some fields, some of them masked,
-- read-only, for a time. Within an organization that holds at once; what another organization's site grants waits until the
-- receiving site accepts it, so that nobody puts something into the apps of strangers. share_views.sql makes the views.

create or replace function access.require_sharer(entity data.entities, fields text[]) returns void
language plpgsql stable set search_path = '' as $$
declare
  _unseen text;
begin
  if access.administers(entity.site_id) then
    return;
  elsif tenancy.site_id() is distinct from entity.site_id or not access.reads_all(entity) then
    perform rowhouse.fail(403, format('You do not see every record of %s yourself', access.entity_path(entity)),
      'Who shares and is no owner or admin shares no more than they see. Ask an owner or admin of the site.', 'forbidden');
  end if;
  select string_agg(u, ', ') into _unseen from unnest(access.unseen(entity.id)) u where u = any (require_sharer.fields)
    or exists (select from unnest(require_sharer.fields) f where u = any (access.field_names(entity, f)));
  if _unseen is not null then
    perform rowhouse.fail(403, format('You do not see %s of %s in full yourself', _unseen, access.entity_path(entity)),
      'Who shares and is no owner or admin shares no more than they see. Leave these fields out.', 'forbidden');
  end if;
end
$$;
comment on function access.require_sharer(data.entities, text[]) is
  'Raises RH403 when who shares is no owner or admin of the site and does not see every record of the entity, or one of the fields in '
  'full.';

create or replace function access.shared_fields(entity data.entities, fields text[], masked jsonb) returns text[]
language plpgsql stable set search_path = '' as $$
declare
  _known text[] := array(select c.name from access.shareable(entity) c);
  _fields text[] := coalesce(shared_fields.fields, array(
    select c.name from access.shareable(entity) c where c.is_given or shared_fields.masked ? c.name));
  _wrong text;
begin
  select coalesce(f, 'null') into _wrong from unnest(_fields) f where f is null or f <> all (_known) limit 1;
  if _wrong is not null or cardinality(_fields) <> (select count(distinct f) from unnest(_fields) f) or _fields = '{}' then
    perform rowhouse.fail(400, format('%L cannot be shared, or is named twice', left(coalesce(_wrong, ''), 80)),
      'Fields that can be: ' || array_to_string(_known, ', ') || '.', 'invalid_share');
  elsif jsonb_typeof(shared_fields.masked) is distinct from 'object' then
    perform rowhouse.fail(400, 'masked is an object of fields with their masks', '{"email": "last_four"}', 'invalid_share');
  end if;
  select m.key into _wrong from jsonb_each(shared_fields.masked) m
  where m.key <> all (_fields) or m.key = any (data.system_columns()) or jsonb_typeof(m.value) <> 'string'
    or not access.is_mask(m.value #>> '{}')
  limit 1;
  if _wrong is not null then
    perform rowhouse.fail(400, format('%L cannot be masked so', left(_wrong, 80)),
      'A mask is redact, hash, last_four, email, year, null, or a template such as ***-{last4}, of a field that is shared.',
      'invalid_share');
  end if;
  return case when 'id' = any (_fields) then _fields else array['id'] || _fields end;
end
$$;
comment on function access.shared_fields(data.entities, text[], jsonb) is
  'The fields of a share, its id always: the given ones, or those that nothing protects and those that are masked. RH400.';

drop function if exists access.share(text, text, text, jsonb, text[], timestamptz, text);
create or replace function access.share(
  entity text, to_site text, role text, condition jsonb default null, fields text[] default null, until timestamptz default null,
  name text default null, masked jsonb default null
)
returns text
language plpgsql security definer set search_path = '' as $$
#variable_conflict use_column
declare
  _entity data.entities := data.require_entity(share.entity);
  _site tenancy.sites := access.require_control(split_part(share.entity, '/', 1), '@shares:define');
  _to tenancy.sites;
  _role access.roles;
  _condition jsonb := access.condition_of(_site.id, share.condition, '/condition');
  _name text := coalesce(share.name, replace(_site.name, '-', '_') || '_' || _entity.name);
  _fields text[];
  _errors jsonb;
  _old access.shares;
  _share access.shares;
begin
  select s.* into _to from tenancy.sites s where s.name = share.to_site;
  _role := access.find_role(_to.id, share.role);
  if _role.id is null or _to.id = _site.id or _role.name in ('anonymous', 'authenticated') and _role.system then
    perform rowhouse.fail(404,
      format('There is no role %L of another site %L that something could be shared with', left(share.role, 80), left(share.to_site, 80)),
      'Ask that site what its role is called; anonymous and authenticated are shared with nobody in particular.', 'not_found');
  elsif share.until <= now() then
    perform rowhouse.fail(400, 'The share would end before it begins', 'until is later than now.', 'invalid_share');
  elsif _condition is not null and not access.condition_uses(_condition) <@ '{record}' then
    perform rowhouse.fail(400, 'What is shared depends on records only',
      'The accounts of the other site are theirs: leave $account, $env and $action out.', 'invalid_condition');
  elsif _name !~ '^[a-z][a-z0-9]*(_[a-z0-9]+)*$' or length(_name) > 50 then
    perform rowhouse.fail(400, format('%L is not a name for a share', left(_name, 80)),
      'Up to 50 lower-case letters, digits and single underscores, starting with a letter.', 'invalid_share');
  end if;
  _errors := access.condition_violations(_site.id, _entity.id, _condition);
  if _condition is not null and _errors <> '[]' then
    perform rowhouse.fail(400,
      format('The condition does not fit %s: %s %s', share.entity, _errors #>> '{0,pointer}', _errors #>> '{0,message}'),
      null, 'invalid_condition', _errors);
  end if;
  _fields := access.shared_fields(_entity, share.fields, coalesce(share.masked, '{}'));
  perform access.require_sharer(_entity, _fields);
  perform data.lock_definitions((select a from tenancy.apps a where a.id = _entity.app_id));
  perform pg_advisory_xact_lock(hashtextextended('access.share/' || _to.id, 0));
  select s.* into _old from access.shares s where s.to_site_id = _to.id and s.view_name = _name for update;
  if _old.id is not null and (_old.site_id, _old.entity_id) is distinct from (_site.id, _entity.id) then
    perform rowhouse.fail(409, format('Site %s already has a shared view of this name', _to.name),
      'Revoke it first, or give this one another name.', 'name_taken');
  elsif _old.id is not null then
    update access.shares s set role_id = _role.id, condition = _condition, fields = _fields, masked = coalesce(share.masked, '{}'),
      valid_until = share.until,
      accepted_at = case when s.role_id = _role.id or _to.organization_id = _site.organization_id then s.accepted_at end
    where s.id = _old.id returning * into _share;
  else
    insert into access.shares (site_id, entity_id, to_site_id, role_id, condition, fields, masked, valid_until,
      schema_name, view_name, created_by, accepted_at)
    values (_site.id, _entity.id, _to.id, _role.id, _condition, _fields, coalesce(share.masked, '{}'), share.until,
      coalesce((select s.schema_name from access.shares s where s.to_site_id = _to.id limit 1),
        tenancy.free_schema_name(_to.name, 'shared')),
      _name, auth.account_id(), case when _to.organization_id = _site.organization_id then now() end)
    returning * into _share;
  end if;
  perform access.put_into_effect(_share);
  return format('%I.%I', _share.schema_name, _share.view_name);
end
$$;
comment on function access.share(text, text, text, jsonb, text[], timestamptz, text, jsonb) is
  'Grants a role of another site a view of an entity (acme/crm/posts), or changes what is granted under this name: the records that '
  'fulfil a condition, with the given fields (without any: all but what x-pii and x-mask protect, and what is computed; the id '
  'always), masked as {"email": "last_four"} says, until a time, read-only. Returns what its holders type, beta_shared.acme_posts. A '
  'site of another organization accepts it first (access.accept_share). Owners and admins of the sharing site; who has '
  '@shares:define, of what they see in full themselves. RH400, RH403, RH404, RH409 name taken.';

create or replace function access.put_into_effect(share access.shares) returns void
language plpgsql set search_path = '' as $$
begin
  if share.accepted_at is null then
    if to_regclass(format('%I.%I', share.schema_name, share.view_name)) is not null then
      perform access.drop_share_view(share.schema_name, share.view_name, false);
      perform access.publish_shares(share.to_site_id);
    end if;
    return;
  end if;
  execute format('create schema if not exists %I', share.schema_name);
  execute format('grant usage on schema %I to %I', share.schema_name,
    (select s.role_name from tenancy.sites s where s.id = share.to_site_id));
  perform access.build_share(share);
end
$$;
comment on function access.put_into_effect(access.shares) is
  'Makes the view of a share that was accepted, and takes away that of one that was not. Internal.';

create or replace function access.note_received(share access.shares, action text) returns void
language sql set search_path = '' as $$
  insert into audit.entries (site_id, organization_id, account_id, env, action, object, record, new)
  select s.id, s.organization_id, auth.account_id(), rowhouse.env(), note_received.action, 'access.shares', share.id::text,
    jsonb_build_object('name', share.view_name, 'fields', share.fields,
      'from', (select f.name from tenancy.sites f where f.id = share.site_id))
  from tenancy.sites s where s.id = share.to_site_id
$$;
comment on function access.note_received(access.shares, text) is
  'Notes in the receiving site''s audit log what it did with a share; the giving site''s has the change of the share. Internal.';

create or replace function access.accept_share(site text, name text) returns text
language plpgsql security definer set search_path = '' as $$
declare
  _site tenancy.sites := access.require_control(accept_share.site, '@shares:define');
  _share access.shares;
begin
  select s.* into _share from access.shares s where s.to_site_id = _site.id and s.view_name = accept_share.name;
  if not found then
    perform access.fail_share();
  end if;
  -- In the order in which a definition of the shared entity locks.
  perform data.lock_definitions(a) from data.entities e join tenancy.apps a on a.id = e.app_id where e.id = _share.entity_id;
  perform pg_advisory_xact_lock(hashtextextended('access.share/' || _site.id, 0));
  update access.shares s set accepted_at = coalesce(s.accepted_at, now()), accepted_by = coalesce(s.accepted_by, auth.account_id())
  where s.id = _share.id returning s.* into _share;
  if not found then
    perform access.fail_share();
  end if;
  perform access.put_into_effect(_share);
  perform access.note_received(_share, 'accept');
  return format('%I.%I', _share.schema_name, _share.view_name);
end
$$;
comment on function access.accept_share(text, text) is
  'Accepts what a site of another organization shares, by its name: from now on who holds the role reads it. Returns what they type, '
  'beta_shared.acme_posts. Owners and admins of the receiving site, and who has @shares:define. RH403, RH404.';

create or replace function access.decline_share(site text, name text) returns void
language plpgsql security definer set search_path = '' as $$
declare
  _site tenancy.sites := access.require_control(decline_share.site, '@shares:define');
  _share access.shares;
begin
  delete from access.shares s where s.to_site_id = _site.id and s.view_name = decline_share.name returning s.* into _share;
  if not found then
    perform access.fail_share();
  end if;
  perform access.note_received(_share, 'decline');
end
$$;
comment on function access.decline_share(text, text) is
  'Ends what is shared with a site, accepted or not, by its name. Owners and admins of the receiving site, and who has '
  '@shares:define. RH403, RH404.';

create or replace function access.revoke_share(site text, to_site text, name text) returns void
language plpgsql security definer set search_path = '' as $$
declare
  _site tenancy.sites := access.require_control(revoke_share.site, '@shares:define');
begin
  delete from access.shares s using tenancy.sites o
  where o.id = s.to_site_id and s.site_id = _site.id and o.name = revoke_share.to_site and s.view_name = revoke_share.name;
  if not found then
    perform access.fail_given(_site, revoke_share.to_site, revoke_share.name);
  end if;
end
$$;
comment on function access.revoke_share(text, text, text) is
  'Ends a share by the site it is granted to and the name of its view, from the next statement on, whoever is reading. Owners and '
  'admins of the sharing site, and who has @shares:define. RH403, RH404.';

create or replace function access.fail_given(site tenancy.sites, to_site text, name text) returns void
language sql set search_path = '' as $$
  select rowhouse.fail(404,
    format('Site %L shares nothing called %L with %L', site.name, left(fail_given.name, 80), left(fail_given.to_site, 80)),
    'select access.list_shares(site) lists what it shares.', 'not_found')
$$;
comment on function access.fail_given(tenancy.sites, text, text) is 'Raises RH404 for a share that a site has not given.';

create or replace function access.put_share(site text, to_site text, name text, definition jsonb) returns jsonb
language plpgsql set search_path = '' as $$
begin
  perform access.refuse_members(definition, '{entity,role,condition,fields,masked,until}');
  if jsonb_typeof(definition->'entity') is distinct from 'string' or jsonb_typeof(definition->'role') is distinct from 'string'
    or jsonb_typeof(coalesce(definition->'fields', '[]')) <> 'array' or not pg_input_is_valid(definition->>'until', 'timestamptz')
  then
    perform rowhouse.fail(400, 'The body is not as it should be',
      '{"entity": "crm/posts", "role": "partner", "condition": …, "fields": ["title"], "masked": {…}, "until": "2030-01-01T00:00:00Z"}',
      'invalid_body');
  end if;
  perform access.share(put_share.site || '/' || (definition->>'entity'), put_share.to_site, definition->>'role',
    nullif(definition->'condition', 'null'),
    case when definition ? 'fields' then array(select jsonb_array_elements_text(definition->'fields')) end,
    (definition->>'until')::timestamptz, put_share.name, nullif(definition->'masked', 'null'));
  return access.get_share(put_share.site, put_share.to_site, put_share.name);
end
$$;
comment on function access.put_share(text, text, text, jsonb) is
  'Grants or changes a share by access.share, {"entity": "crm/posts", "role", "condition", "fields", "masked", "until"}, and returns '
  'it. RH400, RH403, RH404, RH409.';
