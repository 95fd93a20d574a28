-- The view of a share stands in a schema of the receiving site (beta_shared) and reads the storage as rowhouse_owner. It is a
-- security barrier: of a reader's query only comparisons that PostgreSQL knows to be leakproof go below its condition, and those
-- reach the indexes; no operator and no error of the reader's touches what the share does not show.

create or replace function access.share_holds(share uuid) returns boolean
language sql stable security definer set search_path = '' as $$
  select exists (
    select from access.shares s
    where s.id = share_holds.share and s.accepted_at is not null and (s.valid_until is null or s.valid_until > statement_timestamp())
      and (auth.is_operator() or s.to_site_id = tenancy.site_id() and s.role_id = any (access.role_ids())))
$$;
comment on function access.share_holds(uuid) is
  'Whether the caller holds, in the site of the claims, the role that a share is for, and the share was accepted and has not ended.';

create or replace function access.open_share(share uuid) returns boolean
language plpgsql security definer set search_path = '' as $$
begin
  if not access.share_holds(open_share.share) then
    return false;
  end if;
  perform audit.note_share(open_share.share, 'read', null);
  return true;
end
$$;
comment on function access.open_share(uuid) is
  'Whether a share shows the caller anything; then it also notes the read, where the shared entity has its reads recorded. Called by '
  'its view. RH403 in a read-only transaction.';

create or replace function access.require_share(share uuid) returns boolean
language plpgsql stable security definer set search_path = '' as $$
begin
  if not access.share_holds(require_share.share) then
    perform access.fail_share();
  end if;
  return true;
end
$$;
comment on function access.require_share(uuid) is 'True when a share shows the caller something; else RH404. Called by compiled queries.';

create or replace function access.fail_share() returns void
language sql set search_path = '' as $$
  select rowhouse.fail(404, 'Nothing of this name is shared with you', 'GET …/received-shares lists what is, in this app.', 'not_found')
$$;
comment on function access.fail_share() is 'Raises RH404, the same whether a share is not there, ended, or is for others.';

drop function if exists access.share_columns(data.entities);
create or replace function access.shareable(entity data.entities)
returns table (name text, expression text, type text, sql_type text, kind text, is_given boolean, is_link boolean, schema jsonb)
language sql stable set search_path = '' as $$
  select v.name, v.expression, pg_catalog.format_type(a.atttypid, a.atttypmod), coalesce(f.sql_type, 'text'), coalesce(f.kind, 'string'),
    f.name is null or not f.schema ?| array['x-pii', 'x-mask', 'x-alias'], coalesce(data.is_linked(f.schema), false), f.schema
  from tenancy.apps p, data.view_columns(entity, 't') v
  left join data.fields f on f.entity_id = entity.id and f.name = v.name
  join pg_catalog.pg_attribute a on a.attname = v.name and not a.attisdropped
  where p.id = entity.app_id and a.attrelid = to_regclass(format('%I.%I', p.schema_name, entity.name))
    and v.name <> 'created_by' and not coalesce(f.schema ?| array['x-rollup', 'x-computed'], false)
  order by v."position"
$$;
comment on function access.shareable(data.entities) is
  'The columns of an entity that can be shared, and whether they are where no fields were named: not what x-pii or x-mask protects, '
  'nor other names of fields. Nothing that is computed: it could tell of fields that are not shared.';

create or replace function access.drop_one_view(schema_name text, view_name text, must boolean) returns void
language plpgsql set search_path = '' as $$
declare
  _view text := format('%I.%I', drop_one_view.schema_name, drop_one_view.view_name);
begin
  if to_regclass(_view) is null then
    return;
  end if;
  begin
    set local lock_timeout = '200ms';
    execute format('drop view %s', _view);
  exception when lock_not_available then
    -- Somebody reads it in a transaction that goes on. It shows nothing any more; who comes next drops it.
    if must then
      perform data.lock_tables(array[_view]);
      execute format('drop view %s', _view);
    end if;
  end;
  set local lock_timeout = '5s';
end
$$;
comment on function access.drop_one_view(text, text, boolean) is
  'Drops a view of a share; where somebody holds it, waits for them up to 10 s (RH503 busy) or, where it need not, leaves it there. '
  'Internal.';

create or replace function access.drop_share_view(schema_name text, view_name text, must boolean default true) returns void
language plpgsql set search_path = '' as $$
begin
  perform access.drop_one_view(drop_share_view.schema_name, v, drop_share_view.must)
  from access.order_views(drop_share_view.schema_name, drop_share_view.view_name) v;
  perform access.drop_one_view(drop_share_view.schema_name, drop_share_view.view_name, drop_share_view.must);
  execute format('drop function if exists %1$I.%2$I(), %1$I.%3$I(text, bigint)', drop_share_view.schema_name,
    drop_share_view.view_name || '__rows', drop_share_view.view_name || '_search');
end
$$;
comment on function access.drop_share_view(text, text, boolean) is
  'Drops the view of a share and those of it that have an order, as access.drop_one_view does. Internal.';

create or replace function access.share_views(entity data.entities) returns text[]
language sql stable set search_path = '' as $$
  select coalesce(array_agg(distinct v.oid::regclass::text), '{}')
  from tenancy.apps a, pg_catalog.pg_depend d
  join pg_catalog.pg_rewrite r on r.oid = d.objid
  join pg_catalog.pg_class v on v.oid = r.ev_class
  where a.id = entity.app_id and d.classid = 'pg_catalog.pg_rewrite'::regclass and d.refclassid = 'pg_catalog.pg_class'::regclass
    and d.refobjid = to_regclass(data.storage_table(entity, a.schema_name))
    and v.relkind = 'v' and v.relnamespace <> to_regnamespace(quote_ident(a.schema_name)) and 'security_barrier=true' = any (v.reloptions)
$$;
comment on function access.share_views(data.entities) is
  'The views through which other sites read an entity''s storage, as SQL, to be locked with it; also those that a revocation left to '
  'who comes next.';

create or replace function access.drop_share_views(entity data.entities, left_over boolean default false) returns void
language sql set search_path = '' as $$
  select access.drop_share_view(c.relnamespace::regnamespace::text, c.relname)
  from unnest(access.share_views(entity)) v join pg_catalog.pg_class c on c.oid = to_regclass(v)
  where not left_over or not exists (
    select from access.shares s where s.schema_name = c.relnamespace::regnamespace::text and s.view_name = access.share_of_view(c.relname))
$$;
comment on function access.drop_share_views(data.entities, boolean) is
  'Drops the views through which other sites read an entity''s storage, before that changes, or only those of shares that are no '
  'more. access.build_shares makes them anew. Internal.';

create or replace function access.share_condition(share access.shares, entity data.entities) returns text
language plpgsql stable set search_path = '' as $$
declare
  _where text := 'true';
begin
  if share.condition is not null then
    begin
      _where := access.compile_condition(entity.id, share.condition, 't');
    exception when sqlstate 'RH000' then
      _where := 'false'; -- on a field that the entity no longer has
    end;
  end if;
  return format('(%s)%s', _where, coalesce(' and ' || data.alive_condition(entity, 't'), ''));
end
$$;
comment on function access.share_condition(access.shares, data.entities) is
  'Which records a share shows, as SQL over a storage row t: none where its condition asks for what the entity no longer has.';

create or replace function access.share_select(share access.shares, entity data.entities) returns text
language sql stable set search_path = '' as $$
  select format('select %s from %s t where (select access.open_share(%L)) and %s',
    string_agg(format('%s as %I', case when share.masked ? c.name
        then access.mask_sql(share.masked->>c.name, c.sql_type, '(' || c.expression || ')', entity.site_id)
        else c.expression end, c.name), ', ' order by f.n),
    (select data.storage_table(entity, a.schema_name) from tenancy.apps a where a.id = entity.app_id), share.id,
    access.share_condition(share, entity))
  from unnest(share.fields) with ordinality f (name, n)
  join access.shareable(entity) c on c.name = f.name
  having count(*) > 0
$$;
comment on function access.share_select(access.shares, data.entities) is
  'What the view of a share reads, as SQL; null where the entity has none of its fields any more.';

create or replace function access.build_share(share access.shares) returns void
language plpgsql set search_path = '' as $$
declare
  _entity data.entities;
  _view text := format('%I.%I', share.schema_name, share.view_name);
  _select text;
  _digest text;
begin
  select e.* into _entity from data.entities e where e.id = share.entity_id;
  if jsonb_path_exists(share.masked, '$.* ? (@ == "hash")') then
    insert into access.mask_keys (site_id) values (_entity.site_id) on conflict do nothing;
  end if;
  _select := access.share_select(share, _entity);
  -- Also whether reads are noted: the receiving apps' statements and transactions depend on it.
  _digest := md5(_select || audit.reads_are_on(_entity.schema)
    || coalesce((select string_agg(c.name || c.type, ',') from access.shareable(_entity) c), '')
    || coalesce((select string_agg(o.view_name || ' ' || o.ordering, ',') from access.share_orders(share, _entity) o), ''));
  if _digest is not distinct from share.view_digest and to_regclass(_view) is not null then
    return;
  end if;
  if _select is null then
    perform access.drop_share_view(share.schema_name, share.view_name);
  else
    begin
      -- Where it stands, so that a statement that has begun finds it.
      execute format('create or replace view %s with (security_barrier) as %s', _view, _select);
    exception when invalid_table_definition then
      perform access.drop_share_view(share.schema_name, share.view_name);
      execute format('create view %s with (security_barrier) as %s', _view, _select);
    end;
    execute format('drop function if exists %I.%I()', share.schema_name, share.view_name || '__rows'); -- made before there were barriers
    execute format('grant select on %s to %I', _view, (select s.role_name from tenancy.sites s where s.id = share.to_site_id));
    perform access.comment_share(share);
    perform access.build_share_orders(share, _entity, _select);
    perform access.build_share_search(share, _entity);
  end if;
  update access.shares s set view_digest = _digest where s.id = share.id;
  perform access.publish_shares(share.to_site_id);
end
$$;
comment on function access.build_share(access.shares) is
  'Makes the view of a share anew, where what it reads has changed: of what its entity still has of the shared fields. Internal.';

create or replace function access.publish_shares(site_id uuid) returns void
language sql set search_path = '' as $$
  update tenancy.apps a set definition_version = nextval('tenancy.definition_versions')
  where a.id in (select p.id from tenancy.apps p where p.site_id = publish_shares.site_id order by p.id for update)
$$;
comment on function access.publish_shares(uuid) is
  'Tells the apps of a site that what is shared with it is another: statements and schemas are made anew. Internal.';

create or replace function access.comment_share(share access.shares) returns void
language plpgsql set search_path = '' as $$
declare
  _name text := 'shared_' || share.view_name;
  _column text;
begin
  execute format('comment on view %I.%I is %L', share.schema_name, share.view_name, data.smart_comment(
    array['@primaryKey id', '@singular ' || data.singular(_name), '@plural ' || data.plural(_name),
      '@shared', '@behavior -insert -update -delete -nodeId:resource:update -nodeId:resource:delete'],
    format('What the site %s shares.', (select s.name from tenancy.sites s where s.id = share.site_id))));
  for _column in select k from jsonb_object_keys(share.masked) k where k = any (share.fields) and exists (
    select from pg_catalog.pg_attribute a
    where a.attrelid = to_regclass(format('%I.%I', share.schema_name, share.view_name)) and a.attname = k)
  loop
    execute format('comment on column %I.%I.%I is %L', share.schema_name, share.view_name, _column, data.smart_comment(
      array['@behavior -attribute:filterBy -attribute:orderBy -attribute:groupBy -attribute:aggregate'], 'Masked.'));
  end loop;
end
$$;
comment on function access.comment_share(access.shares) is 'Writes what GraphQL needs to know about the view of a share.';

create or replace function access.build_shares(entity_id uuid) returns void
language sql set search_path = '' as $$
  select access.build_share(s) from access.shares s where s.entity_id = build_shares.entity_id and s.accepted_at is not null order by s.id
$$;
comment on function access.build_shares(uuid) is 'Makes the views of an entity''s shares anew, after a definition. Internal.';

create or replace function access.shares_after_delete() returns trigger
language plpgsql security definer set search_path = '' as $$
declare
  _is_left boolean := exists (select from tenancy.sites s where s.id = old.to_site_id)
    and exists (select from data.entities e where e.id = old.entity_id);
begin
  -- A revocation waits for nobody; what the view stands on or is granted to cannot go without it.
  perform access.drop_share_view(old.schema_name, old.view_name, not _is_left);
  if not exists (select from access.shares s where s.schema_name = old.schema_name)
    and not exists (select from pg_catalog.pg_class c where c.relnamespace = to_regnamespace(quote_ident(old.schema_name)))
  then
    execute format('drop schema if exists %I', old.schema_name);
  end if;
  if old.accepted_at is not null then
    perform access.publish_shares(old.to_site_id);
  end if;
  return null;
end
$$;
comment on function access.shares_after_delete() is
  'Drops the view of a share that is no more, however it ended, and with the last one the schema.';
create or replace trigger shares_after_delete after delete on access.shares for each row execute function access.shares_after_delete();
