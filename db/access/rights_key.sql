create or replace function access.rights_key(site_id uuid, entities text[], action text) returns text
language sql stable parallel safe set search_path = '' as $$
  select string_agg(case when access.allows(rights_key.site_id, e.name, rights_key.action) then 'y' else 'n' end, '' order by e.n)
    || case when access.any_special(rights_key.site_id, rights_key.entities) then gen_random_uuid()::text else '' end
  from unnest(rights_key.entities) with ordinality e (name, n)
$$;
comment on function access.rights_key(uuid, text[], text) is
  'What the account of the claims may do to entities (app/entity) of a site, as a text: those who have the same text see the same records and fields. Where conditions or masks make them differ, no two texts are the same.';

create or replace function access.any_special(site_id uuid, entities text[]) returns boolean
language sql stable security definer parallel safe set search_path = '' as $$
  select exists (
    select from data.entities e join tenancy.apps a on a.id = e.app_id
    where a.site_id = any_special.site_id and tenancy.knows_site(a.site_id)
      and a.name || '/' || e.name = any (any_special.entities) and access.is_special(e))
$$;
comment on function access.any_special(uuid, text[]) is 'Whether any of these entities (app/entity) has rules beyond plain permissions.';
