-- A view, so that it is a part of the gateway's prepared statement: 14 µs a request, where a function that asks the
-- same costs 33.
drop view if exists tenancy.open_requests;
create view tenancy.open_requests as
select e.id as session_id, e.account_id, s.id as site_id, s.name as site_name, s.role_name::text as role_name,
  a.id as app_id, a.name as app_name, a.schema_name::text as schema_name, a.definition_version,
  k.role_ids as held_role_ids, k.changes,
  case when k.until is not null then least(e.expires_at, k.until) end as until
from auth.sessions e
join tenancy.site_members m on m.account_id = e.account_id
join tenancy.sites s on s.id = m.site_id
join tenancy.apps a on a.site_id = s.id
left join access.known_roles k on k.site_id = m.site_id and k.account_id = m.account_id
where e.ended_at is null and e.expires_at > now() and (e.site_id is null or e.site_id = s.id);
comment on view tenancy.open_requests is
  'Which live session may open which app: its account is a member of the site, and the session was not made for another site; with the roles that the account holds there, where they are remembered (else access.remember_roles says which), and for how long all of this holds: while access.change_count says changes, and until a moment. For the gateway.';
