-- An upgrade makes anew what guards masked fields and was built by a release before; entities that have none are not touched.

create or replace function access.renew_views() returns void
language plpgsql set search_path = '' as $$
begin
  perform access.build_seen_views(e, a.schema_name)
  from data.entities e join tenancy.apps a on a.id = e.app_id
  where exists (
    select from pg_catalog.pg_class c
    where c.relnamespace = to_regnamespace(quote_ident(a.schema_name)) and c.relkind = 'v'
      and starts_with(c.relname, e.name || '__seen_') and pg_catalog.pg_get_viewdef(c.oid) !~ 'access\.plan_seen');
  perform data.build_link_views(e, a.schema_name)
  from data.entities e join tenancy.apps a on a.id = e.app_id
  where exists (
    select from data.links l join pg_catalog.pg_class c on c.relname = data.link_view(e.name, l.field)
    where l.entity_id = e.id and c.relnamespace = to_regnamespace(quote_ident(a.schema_name))
      and pg_catalog.pg_get_viewdef(c.oid) !~ '__rights' and l.field = any (access.maskable_fields(e)));
end
$$;
comment on function access.renew_views() is
  'Builds anew the views by which masked fields are found, and of the links of masked lists, that a release before has built. Internal.';
