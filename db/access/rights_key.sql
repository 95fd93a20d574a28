create or replace function access.rights_key(site_id uuid, entities text[], action text) returns text
language sql stable parallel safe set search_path = '' as $$
  select string_agg(case when access.allows(rights_key.site_id, e.name, rights_key.action) then 'y' else 'n' end, '' order by e.n)
  from unnest(rights_key.entities) with ordinality e (name, n)
$$;
comment on function access.rights_key(uuid, text[], text) is
  'What the account of the claims may do to entities (app/entity) of a site, as a text: those who have the same text see the same records and fields. A rule that lets people of the same permissions see different things (a condition on $account, a mask) must become a part of it, at the least by the account''s id.';
