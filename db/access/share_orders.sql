-- PostgreSQL takes no order from within a security barrier, but one that stands there it keeps, and reads from an index. So a share
-- has beside its view one for each of its fields that an index holds, and direction, the same but for its order: the first 20 of
-- 200,000 take 3.9 ms, by the view alone 252 (load 13). The query around it has a limit and no order of its own: with one, PostgreSQL
-- plans the view as if all of it were read, and sorts. Nothing in it runs in parallel, as the view notes its reads: so the order stays.

create or replace function access.share_orders(share access.shares, entity data.entities)
  returns table (field text, direction text, view_name text, ordering text)
language sql stable set search_path = '' as $$
  select c.name, d.direction, share.view_name || '__' || f.n || left(d.direction, 1),
    format('%1$s %2$s, t.id %2$s', c.expression, d.direction)
  from unnest(share.fields) with ordinality f (name, n)
  join access.shareable(entity) c on c.name = f.name
  cross join (values ('asc'), ('desc')) d (direction)
  where not share.masked ? c.name
    and (c.name in ('id', 'created_at') or c.schema->'x-index' = 'true' or c.schema->'x-unique' = 'true' or c.schema ? 'x-relation'
      or c.name in (select ltrim(n #>> '{}', '-') from jsonb_path_query(entity.schema, '$."x-indexes"[*]."fields"[0]') n))
    and not c.is_link
  order by f.n, d.direction
$$;
comment on function access.share_orders(access.shares, data.entities) is
  'The fields of a share that an index holds, in both directions, with the name of the view that has this order and the order as SQL.';

create or replace function access.order_views(schema_name text, view_name text) returns setof text
language sql stable set search_path = '' as $$
  select c.relname::text from pg_catalog.pg_class c
  where c.relnamespace = to_regnamespace(quote_ident(order_views.schema_name)) and c.relkind = 'v'
    and starts_with(c.relname, order_views.view_name || '__') and access.share_of_view(c.relname) = order_views.view_name
$$;
comment on function access.order_views(text, text) is 'The views of a share that have an order. Internal.';

create or replace function access.share_of_view(name text) returns text
language sql immutable parallel safe set search_path = '' as $$ select regexp_replace(share_of_view.name, '__\d+[ad]$', '') $$;
comment on function access.share_of_view(text) is 'The name of the share that a view is of, with an order or without. Internal.';

create or replace function access.build_share_orders(share access.shares, entity data.entities, "select" text) returns void
language plpgsql set search_path = '' as $$
declare
  _o record;
  _view text;
  _role name := (select s.role_name from tenancy.sites s where s.id = share.to_site_id);
begin
  for _o in
    select v as view_name from access.order_views(share.schema_name, share.view_name) v
    where v not in (select o.view_name from access.share_orders(share, entity) o)
  loop
    perform access.drop_one_view(share.schema_name, _o.view_name, true);
  end loop;
  for _o in select o.* from access.share_orders(share, entity) o loop
    _view := format('%I.%I', share.schema_name, _o.view_name);
    begin
      execute format('create or replace view %s with (security_barrier) as %s order by %s', _view, "select", _o.ordering);
    exception when invalid_table_definition then
      perform access.drop_one_view(share.schema_name, _o.view_name, true);
      execute format('create view %s with (security_barrier) as %s order by %s', _view, "select", _o.ordering);
    end;
    execute format('grant select on %s to %I', _view, _role);
  end loop;
end
$$;
comment on function access.build_share_orders(access.shares, data.entities, text) is
  'Makes the views of a share that have an order, of what its view reads, and drops those that are not wanted any more. Internal.';

create or replace function access.ordered_view(share access.shares, entity data.entities, sort jsonb) returns text
language sql stable set search_path = '' as $$
  select o.view_name from access.share_orders(share, entity) o
  where jsonb_array_length(sort) = 1 and o.field = sort #>> '{0,field}' and o.direction = coalesce(sort #>> '{0,direction}', 'asc')
    and to_regclass(format('%I.%I', share.schema_name, o.view_name)) is not null
$$;
comment on function access.ordered_view(access.shares, data.entities, jsonb) is
  'The view of a share that has the order of a sort; null where no index would serve it.';
