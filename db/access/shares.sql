-- Across sites: a site grants a role of another site a view of an entity, of some records and some fields, read-only, for a time.
-- The view stands in a schema of the other site's (beta_shared) and reads by a function of the platform's, into which nothing of a
-- reader's query goes: what the share does not show, no operator and no error of the reader's can touch.

create or replace function access.share_holds(share uuid) returns boolean
language sql stable security definer set search_path = '' as $$
  select exists (
    select from access.shares s where s.id = share_holds.share and (s.valid_until is null or s.valid_until > now())
      and (auth.is_operator() or s.to_site_id = tenancy.site_id() and s.role_id = any (access.role_ids())))
$$;
comment on function access.share_holds(uuid) is 'Whether the caller holds, in the site of the claims, the role that a share is for, and the share has not ended.';

create or replace function access.share_columns(entity data.entities) returns table (name text, expression text, type text, is_given boolean)
language sql stable set search_path = '' as $$
  select v.name, v.expression, pg_catalog.format_type(a.atttypid, a.atttypmod),
    f.name is null or not (f.schema ?| array['x-pii', 'x-mask'])
  from tenancy.apps p, data.view_columns(entity, 't') v
  left join data.fields f on f.entity_id = entity.id and f.name = v.name
  join pg_catalog.pg_attribute a on a.attname = v.name and not a.attisdropped
  where p.id = entity.app_id and a.attrelid = to_regclass(format('%I.%I', p.schema_name, entity.name))
    and v.name <> 'created_by' and not coalesce(f.schema ?| array['x-rollup', 'x-computed'], false)
  order by v."position"
$$;
comment on function access.share_columns(data.entities) is
  'The columns of an entity that can be shared, and whether they are where no fields were named: not what x-pii or x-mask protects. Nothing that is computed: it could tell of fields that are not shared.';

create or replace function access.build_share(share access.shares) returns void
language plpgsql set search_path = '' as $$
declare
  _entity data.entities;
  _function text := format('%I.%I()', share.schema_name, share.view_name || '__rows');
  _view text := format('%I.%I', share.schema_name, share.view_name);
  _role name := (select s.role_name from tenancy.sites s where s.id = share.to_site_id);
  _where text := 'true';
  _table text;
  _names text;
  _columns text;
  _types text;
begin
  select e.* into _entity from data.entities e where e.id = share.entity_id;
  select data.storage_table(_entity, a.schema_name) into _table from tenancy.apps a where a.id = _entity.app_id;
  select string_agg(quote_ident(c.name), ', ' order by f.n), string_agg(c.expression, ', ' order by f.n), string_agg(format('%I %s', c.name, c.type), ', ' order by f.n)
  into _names, _columns, _types
  from unnest(share.fields) with ordinality f (name, n) join access.share_columns(_entity) c on c.name = f.name;
  if share.condition is not null then
    begin
      _where := access.compile_condition(_entity.id, share.condition, 't');
    exception when sqlstate 'RH000' then
      _where := 'false'; -- on a field that the entity no longer has
    end;
  end if;
  execute format('drop view if exists %s', _view);
  execute format('drop function if exists %s', _function);
  if _columns is null then
    return;
  end if;
  perform rowhouse.create_function('create function %1$s returns table (%2$s) language sql stable security definer set search_path = '''' rows 1000', $sql$
    select %3$s from %4$s t where (select access.share_holds(%5$L)) and (%6$s)%7$s $sql$,
    _function, _types, _columns, _table, share.id::text, _where, coalesce(' and ' || data.alive_condition(_entity.schema, 't'), ''));
  execute format('revoke all on function %s from public', _function);
  execute format('grant execute on function %s to %I', _function, _role);
  execute format('create view %s as select %s from %s', _view, _names, _function);
  execute format('grant select on %s to %I', _view, _role);
end
$$;
comment on function access.build_share(access.shares) is 'Makes the view of a share anew: of what its entity still has of the shared fields. Internal.';

create or replace function access.build_shares(entity_id uuid) returns void
language sql set search_path = '' as $$
  select access.build_share(s) from access.shares s where s.entity_id = build_shares.entity_id
$$;
comment on function access.build_shares(uuid) is 'Makes the views of an entity''s shares anew, after a definition. Internal.';

create or replace function access.shares_after_delete() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  execute format('drop view if exists %I.%I', old.schema_name, old.view_name);
  execute format('drop function if exists %I.%I()', old.schema_name, old.view_name || '__rows');
  if not exists (select from access.shares s where s.schema_name = old.schema_name) then
    execute format('drop schema if exists %I', old.schema_name);
  end if;
  return null;
end
$$;
comment on function access.shares_after_delete() is 'Drops the view of a share that is no more, however it ended, and with the last one the schema.';
create or replace trigger shares_after_delete after delete on access.shares for each row execute function access.shares_after_delete();

create or replace function access.share(
  entity text, to_site text, role text, condition jsonb default null, fields text[] default null, until timestamptz default null, name text default null
)
returns text
language plpgsql security definer set search_path = '' as $$
#variable_conflict use_column
declare
  _entity data.entities := data.require_entity(share.entity);
  _site tenancy.sites := tenancy.require_site(split_part(share.entity, '/', 1), array['owner', 'admin']);
  _to tenancy.sites;
  _role access.roles;
  _condition jsonb := access.condition_of(_site.id, share.condition, '/condition');
  _fields text[];
  _unknown text;
  _errors jsonb;
  _share access.shares;
begin
  select s.* into _to from tenancy.sites s where s.name = share.to_site;
  _role := access.find_role(_to.id, share.role);
  if _role.id is null or _to.id = _site.id or _role.name in ('anonymous', 'authenticated') and _role.system then
    perform rowhouse.fail(404, format('There is no role %L of another site %L that something could be shared with', left(share.role, 80), left(share.to_site, 80)),
      'Ask that site what its role is called; anonymous and authenticated are shared with nobody in particular.', 'not_found');
  elsif share.until <= now() then
    perform rowhouse.fail(400, 'The share would end before it begins', 'until is later than now.', 'invalid_share');
  elsif _condition is not null and not access.condition_uses(_condition) <@ '{record}' then
    perform rowhouse.fail(400, 'What is shared depends on records only', 'The accounts of the other site are theirs: leave $account, $env and $action out.', 'invalid_condition');
  end if;
  _errors := access.condition_violations(_site.id, _entity.id, _condition);
  if _condition is not null and _errors <> '[]' then
    perform rowhouse.fail(400, format('The condition does not fit %s: %s %s', share.entity, _errors #>> '{0,pointer}', _errors #>> '{0,message}'), null, 'invalid_condition', _errors);
  end if;
  _fields := coalesce(share.fields, array(select c.name from access.share_columns(_entity) c where c.is_given));
  select coalesce(f, 'null') into _unknown from unnest(_fields) f where not exists (select from access.share_columns(_entity) c where c.name = f) limit 1;
  if _unknown is not null or cardinality(_fields) <> (select count(distinct f) from unnest(_fields) f) or _fields = '{}' then
    perform rowhouse.fail(400, format('%L cannot be shared, or is named twice', left(coalesce(_unknown, ''), 80)),
      'Fields that can be: ' || (select string_agg(c.name, ', ') from access.share_columns(_entity) c) || '.', 'invalid_share');
  end if;
  perform data.lock_definitions((select a from tenancy.apps a where a.id = _entity.app_id));
  perform pg_advisory_xact_lock(hashtextextended('access.share/' || _to.id, 0));
  insert into access.shares (site_id, entity_id, to_site_id, role_id, condition, fields, valid_until, schema_name, view_name, created_by)
  values (_site.id, _entity.id, _to.id, _role.id, _condition, _fields, share.until,
    coalesce((select s.schema_name from access.shares s where s.to_site_id = _to.id limit 1), tenancy.free_schema_name(_to.name, 'shared')),
    coalesce(share.name, replace(_site.name, '-', '_') || '_' || _entity.name), auth.account_id())
  on conflict (to_site_id, view_name) do nothing
  returning * into _share;
  if _share.id is null then
    perform rowhouse.fail(409, format('Site %s already has a shared view of this name', _to.name), 'Revoke it first, or give this one another name.', 'name_taken');
  end if;
  execute format('create schema if not exists %I', _share.schema_name);
  execute format('grant usage on schema %I to %I', _share.schema_name, _to.role_name);
  perform access.build_share(_share);
  return format('%I.%I', _share.schema_name, _share.view_name);
end
$$;
comment on function access.share(text, text, text, jsonb, text[], timestamptz, text) is
  'Grants a role of another site a view of an entity (acme/crm/posts): the records that fulfil a condition, with the given fields (without any: all but what x-pii and x-mask protect, and what is computed), until a time, read-only. Returns what its holders type, beta_shared.acme_posts. Owners and admins of the sharing site. RH400, RH403, RH404, RH409 name taken.';

create or replace function access.revoke_share(site text, to_site text, name text) returns void
language plpgsql security definer set search_path = '' as $$
declare
  _site tenancy.sites := tenancy.require_site(revoke_share.site, array['owner', 'admin']);
begin
  delete from access.shares s using tenancy.sites o where o.id = s.to_site_id and s.site_id = _site.id and o.name = revoke_share.to_site and s.view_name = revoke_share.name;
  if not found then
    perform rowhouse.fail(404, format('Site %L shares nothing called %L with %L', _site.name, left(revoke_share.name, 80), left(revoke_share.to_site, 80)),
      'select access.list_shares(site) lists what it shares.', 'not_found');
  end if;
end
$$;
comment on function access.revoke_share(text, text, text) is
  'Ends a share by the site it is granted to and the name of its view, from the next statement on. Owners and admins of the sharing site. RH403, RH404.';

create or replace function access.list_shares(site text) returns jsonb
language plpgsql stable security definer set search_path = '' as $$
declare
  _site tenancy.sites := access.require_control(list_shares.site, '@policies:define');
begin
  return jsonb_build_object('data', (
    select coalesce(jsonb_agg(jsonb_strip_nulls(jsonb_build_object('direction', case s.site_id when _site.id then 'given' else 'received' end, 'site', f.name, 'to_site', t.name,
        'entity', case s.site_id when _site.id then access.entity_path(e) end, 'role', access.role_path(r), 'view', s.schema_name || '.' || s.view_name, 'name', s.view_name,
        'fields', to_jsonb(s.fields), 'condition', case s.site_id when _site.id then s.condition end, 'until', s.valid_until)) order by f.name, s.view_name), '[]')
    from access.shares s join tenancy.sites f on f.id = s.site_id join tenancy.sites t on t.id = s.to_site_id
    join access.roles r on r.id = s.role_id join data.entities e on e.id = s.entity_id
    where _site.id in (s.site_id, s.to_site_id)));
end
$$;
comment on function access.list_shares(text) is
  'What a site shares and what is shared with it: {"data": [{direction, site, to_site, role, view, name, fields, until, and to who shares entity and condition}]}. Owners, admins and @policies:define. RH403, RH404.';
