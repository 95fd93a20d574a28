-- What another site shares, exported as one's own records are: by a COPY of the share's view, which filters and masks, and with its
-- ids noted in the log of the site that shares. compile_share says what may be asked of a share.

create or replace function access.own_app(app text) returns tenancy.apps
language sql stable security definer set search_path = '' as $$
  select a from tenancy.apps a join tenancy.sites s on s.id = a.site_id
  where a.site_id = tenancy.site_id()
    and (own_app.app in (a.name, a.id::text) or own_app.app = s.name || '/' || a.name)
$$;
comment on function access.own_app(text) is
  'An app of the site of the claims, by its name or UUID, or as site/app; null where there is none. Internal.';

create or replace function access.shared_query(app text, name text, query jsonb, parameters text[])
  returns table (share uuid, entity_id uuid, relation text, shape jsonb, condition text, sorted text, is_noted boolean)
language plpgsql stable security definer set search_path = '' as $$
declare
  _share access.shares := access.received_share((access.own_app(shared_query.app)).id, shared_query.name);
  _entity data.entities;
  _fields text[];
  _sorts boolean := coalesce(query->'sort', 'null') not in ('null', '[]');
begin
  if _share.id is null then
    perform access.fail_share();
  end if;
  _fields := access.readable_fields(_share);
  if 'id' <> all (_fields) then
    perform access.fail_share();
  end if;
  select e.* into _entity from data.entities e where e.id = _share.entity_id;
  perform access.check_share_query(_share, _entity, query, _sorts);
  share := _share.id;
  entity_id := _entity.id;
  relation := format('%I.%I', _share.schema_name, _share.view_name);
  shape := query || jsonb_build_object('_share', _share.id)
    || case when coalesce(query->'select', 'null') = 'null' then jsonb_build_object('select', _fields) else '{}' end;
  condition := data.export_source(_entity, shape, shared_query.parameters, false);
  sorted := data.export_source(_entity, shape, shared_query.parameters, true);
  is_noted := audit.reads_are_on(_entity.schema);
  return next;
end
$$;
comment on function access.shared_query(text, text, jsonb, text[]) is
  'What an export of a share reads: its view, the query with its fields, what stands after where, without and with an order, over v, and '
  'whether the log tells of it. '
  'RH400 by what is not shared, RH403 by what is masked, RH404.';

create or replace function access.export_share(app text, name text, format text, query jsonb, parameters text[], noted boolean)
  returns text
language plpgsql stable security definer set search_path = '' as $$
declare
  _q record;
  _where text;
begin
  select q.* into _q from access.shared_query(export_share.app, export_share.name, query, export_share.parameters) q;
  _where := _q.sorted;
  if not export_share.noted and _q.is_noted then
    _where := pg_catalog.format('(select data.note_export(%L, %L, %L) is not null) and ',
      export_share.app || '/received-shares/' || export_share.name, query, export_share.parameters) || _where;
  end if;
  return data.export_copy(_q.entity_id, _q.relation, _q.shape->'select', export_share.format, _where);
end
$$;
comment on function access.export_share(text, text, text, jsonb, text[], boolean) is
  'data.export_statement of what is shared under a name with the site of the claims, in one of its apps. RH400, RH403, RH404.';
