-- What is shared with a site is read as its own records are: data.compile's statements over the view of a share. The fields of
-- the shared entity that are not shared are not even named in an error.

create or replace function access.received_share(app_id uuid, name text) returns access.shares
language sql stable security definer set search_path = '' as $$
  select s from access.shares s join tenancy.apps a on a.site_id = s.to_site_id join access.roles r on r.id = s.role_id
  where a.id = received_share.app_id and s.view_name = received_share.name and access.share_holds(s.id)
    and (r.app_id is null or r.app_id = a.id)
$$;
comment on function access.received_share(uuid, text) is
  'The share of this name that the caller reads in an app: by a role of that app or of the site; null where there is none. Internal.';

create or replace function access.readable_fields(share access.shares) returns text[]
language sql stable set search_path = '' as $$
  select array(select a.attname::text from pg_catalog.pg_attribute a
    where a.attrelid = to_regclass(format('%I.%I', share.schema_name, share.view_name)) and a.attnum > 0 and not a.attisdropped
    order by a.attnum)
$$;
comment on function access.readable_fields(access.shares) is 'The fields that a share shows now. Internal.';

create or replace function access.filter_keys(filter jsonb, depth int default 0) returns setof text
language plpgsql immutable set search_path = '' as $$
declare
  _key text;
  _value jsonb;
begin
  if depth > 20 or jsonb_typeof(filter) is distinct from 'object' then
    return; -- data.compile_filter refuses it
  end if;
  for _key, _value in select * from jsonb_each(filter) loop
    if _key in ('$and', '$or') and jsonb_typeof(_value) = 'array' then
      return query select k from jsonb_array_elements(_value) f, access.filter_keys(f, depth + 1) k;
    elsif _key = '$not' then
      return query select access.filter_keys(_value, depth + 1);
    elsif _key not like '$%' then
      return next _key;
    end if;
  end loop;
end
$$;
comment on function access.filter_keys(jsonb, int) is
  'The fields and paths that a filter names at its own level; what it says of related records is under them.';

create or replace function access.check_share_query(share access.shares, entity data.entities, shape jsonb, sorts boolean) returns void
language plpgsql stable set search_path = '' as $$
declare
  _fields text[] := access.readable_fields(share);
  _unknown text;
  _unseen text;
begin
  if shape ?| array['expand', 'deleted', 'as_of'] then
    perform rowhouse.fail(400, 'What is shared has no relations to expand, no deleted records and no former states',
      'Use q, filter, sort, select, limit, offset, page, cursor and count. Other entities are shared each for itself.', 'invalid_query');
  end if;
  with used (path, shows) as (
    select access.filter_keys(shape->'filter'), false
    union all
    select s->>'field', false from jsonb_array_elements(case when sorts then data.normalize_sort(shape->'sort') else '[]' end) s
    union all
    select g.path, false from data.group_terms(shape->'group', null) g
    union all
    select a.path, false from data.aggregate_terms(shape->'aggregate') a where shape->'aggregate' is not null and a.path is not null
    union all
    select v #>> '{}', true from jsonb_array_elements(case jsonb_typeof(shape->'select') when 'array' then shape->'select' else '[]' end) v
    where not (shape ? 'q' and v in ('"_rank"', '"_snippets"'))
  ), named as (
    select u.path, u.shows, split_part(u.path, '.', 1) as field from used u
  )
  select min(n.path) filter (where n.field <> all (_fields) or not n.shows and c.is_link
      or n.path like '%.%' and (c.name is null or c.kind not in ('object', 'any'))),
    min(n.field) filter (where not n.shows and share.masked ? n.field)
  into _unknown, _unseen
  from named n left join access.shareable(entity) c on c.name = n.field;
  if _unknown is not null then
    perform rowhouse.fail(400, format('%L is not a field of %s', left(_unknown, 120), share.view_name),
      'Fields: ' || array_to_string(_fields, ', ') || '.', 'unknown_field');
  elsif _unseen is not null then
    perform rowhouse.fail(403,
      format('You do not see %s of %s in full, and so cannot filter, sort, group or compute by it', _unseen, share.view_name),
      'It is shared under a mask.', 'field_not_seen', data.violation('/' || _unseen, 'is masked for you'));
  end if;
end
$$;
comment on function access.check_share_query(access.shares, data.entities, jsonb, boolean) is
  'Raises RH400 for a query by what is not shared, RH403 for one that compares, sorts or computes by what is masked.';

create or replace function access.compile_share(app text, name text, operation text, shape jsonb) returns jsonb
language plpgsql stable security definer set search_path = '' as $$
declare
  _app tenancy.apps;
  _share access.shares;
  _entity data.entities;
  _fields text[];
  _shape jsonb := compile_share.shape;
  _ordered text;
  _searches boolean;
  _out jsonb;
begin
  select a.* into _app from tenancy.apps a where a.site_id = tenancy.site_id() and compile_share.app in (a.name, a.id::text);
  _share := access.received_share(_app.id, compile_share.name);
  if _share.id is null then
    perform access.fail_share();
  end if;
  _fields := access.readable_fields(_share);
  if 'id' <> all (_fields) then
    perform access.fail_share(); -- made when an id need not be shared
  elsif compile_share.operation <> all (array['find', 'get', 'aggregate']) then
    perform rowhouse.fail(405, 'What another site shares is only read', 'Allowed: GET, HEAD.', 'method_not_allowed');
  end if;
  perform data.refuse_unknown_query(_shape, compile_share.operation);
  select e.* into _entity from data.entities e where e.id = _share.entity_id;
  _searches := coalesce(_shape->'q', 'null') <> 'null';
  if _searches and not access.is_share_searched(_share) then
    perform access.fail_share_search(_share);
  elsif not _searches then
    _shape := _shape - 'q';
  end if;
  if coalesce(_shape->'sort', 'null') in ('null', '[]') and compile_share.operation = 'find' and not _searches
    and 'created_at' <> all (_fields)
  then
    _shape := _shape || '{"sort": [{"field": "id", "direction": "desc"}]}'; -- ids are made in the order of time
  end if;
  perform access.check_share_query(_share, _entity, _shape,
    compile_share.operation = 'find' and not (_searches and coalesce(_shape->'sort', 'null') in ('null', '[]')));
  _shape := _shape || jsonb_build_object('_share', _share.id)
    || case when coalesce(_shape->'select', 'null') = 'null' then
      jsonb_build_object('select', _fields || case when _searches then '{_rank,_snippets}'::text[] else '{}' end) else '{}' end
    || case when _shape->>'count' = 'estimated' then '{"count": "exact"}'::jsonb else '{}' end;
  _entity.name := _share.view_name;
  case compile_share.operation
    when 'find' then
      -- A count reads all there is, and needs no order.
      if coalesce(_shape->>'count', 'none') = 'none' and not _searches then
        _ordered := access.ordered_view(_share, _entity, data.normalize_sort(_shape->'sort'));
        _entity.name := coalesce(_ordered, _share.view_name);
        _shape := _shape || case when _ordered is not null then '{"_ordered": true}'::jsonb else '{}' end;
      end if;
      _out := data.compile_find(_entity, _share.schema_name, _shape);
    when 'aggregate' then
      _out := data.compile_entity_aggregate(_entity, _share.schema_name, _shape - 'select');
    else
      _out := jsonb_build_object('params', 1, 'sql', format(
        'select row_to_json(r.*)::text%s as body, %s as version from %I.%I v, lateral (select %s) r where %sv.id = $1::uuid',
        audit.seen_sql(_entity, _shape, 'array[v.id]', 'record'),
        case when 'version' = any (_fields) then 'v.version::text' else 'null' end,
        _share.schema_name, _share.view_name, data.parse_select(_entity.id, _shape->'select', 'v'),
        access.seen_condition(_entity.id, _shape)));
  end case;
  return _out || jsonb_build_object('version', _app.definition_version, 'app', _app.id);
end
$$;
comment on function access.compile_share(text, text, text, jsonb) is
  'The statement for find, get or aggregate on what is shared under a name with the site of the claims, in one of its apps, as '
  'data.compile returns it. RH400, RH403 what is masked, RH404, RH405.';

create or replace function access.my_shares(app text) returns jsonb
language sql stable security definer set search_path = '' as $$
  select jsonb_build_object('data', coalesce(jsonb_agg(jsonb_strip_nulls(jsonb_build_object(
    'name', s.view_name, 'site', f.name, 'view', s.schema_name || '.' || s.view_name,
    'fields', access.readable_fields(s), 'masked', nullif(s.masked, '{}'), 'until', s.valid_until)) order by s.view_name), '[]'))
  from tenancy.apps a
  join access.shares s on s.to_site_id = a.site_id
  join tenancy.sites f on f.id = s.site_id
  where a.site_id = tenancy.site_id() and my_shares.app in (a.name, a.id::text)
    and (access.received_share(a.id, s.view_name)).id is not null
$$;
comment on function access.my_shares(text) is
  'What other sites share with the caller in an app of the site of the claims: {"data": [{name, site, view, fields, masked, until}]}.';

-- Names of GraphQL that would meet leave the share that came later to REST and psql: a stranger must not break an app's schema.
create or replace function access.graphql_shares(app_id uuid) returns setof text
language sql stable security definer set search_path = '' as $$
  with offered as (
    select s.id, format('%I.%I', s.schema_name, s.view_name) as view,
      array[rowhouse.camel(data.singular(n)), rowhouse.camel(data.plural(n)), rowhouse.upper_camel(data.singular(n))] as names
    from tenancy.apps a
    join access.shares s on s.to_site_id = a.site_id
    join access.roles r on r.id = s.role_id
    cross join lateral (select 'shared_' || s.view_name) x (n)
    where a.id = graphql_shares.app_id and s.accepted_at is not null and (r.app_id is null or r.app_id = a.id)
      and 'id' = any (access.readable_fields(s)) and s.view_name !~ '__'
  )
  select o.view from offered o
  where not exists (select from offered b where b.id < o.id and b.names && o.names)
    and not exists (
      select from data.graphql_names(graphql_shares.app_id) g, unnest(o.names) n
      where lower(g.name) = lower(n) or starts_with(g.name, o.names[3]))
    and not exists (
      select from data.entities e where e.app_id = graphql_shares.app_id and starts_with(rowhouse.upper_camel(e.name), o.names[3]))
  order by o.view
$$;
comment on function access.graphql_shares(uuid) is 'The views of shares that the GraphQL schema of an app shows, as SQL. For the gateway.';
