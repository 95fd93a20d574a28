create or replace function tenancy.add_domain(site text, domain text, app text default null) returns tenancy.domains
language plpgsql security definer set search_path = '' as $$
#variable_conflict use_column
declare
  _site tenancy.sites := tenancy.require_site(add_domain.site, array['owner', 'admin']);
  _domain tenancy.domains;
  _app uuid;
begin
  if lower(add_domain.domain) !~ '^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,63}$' or length(add_domain.domain) > 253 then
    perform rowhouse.fail(400, format('%L is not a domain name', left(add_domain.domain, 80)), 'For example app.example.com.',
      'invalid_domain');
  end if;
  if add_domain.app is not null then
    _app := (tenancy.require_app(_site.name || '/' || add_domain.app)).id;
  end if;
  insert into tenancy.domains (site_id, app_id, domain, proof)
  values (_site.id, _app, lower(add_domain.domain), 'rowhouse-' || encode(extensions.gen_random_bytes(16), 'hex'))
  on conflict (site_id, domain) do update set app_id = excluded.app_id
  returning * into _domain;
  return _domain;
end
$$;
comment on function tenancy.add_domain(text, text, text) is
  'Claims a domain for a site (or one app). It routes only after a DNS TXT record _rowhouse.<domain> with the returned proof was seen. RH400, RH403, RH404.';

create or replace function tenancy.list_unverified_domains(out id uuid, out domain text) returns setof record
language sql stable security definer set search_path = '' as $$
  select d.id, d.domain from tenancy.domains d where d.verified_at is null and d.created_at > now() - interval '30 days'
$$;
comment on function tenancy.list_unverified_domains() is
  'Claimed domains whose proof is still looked for: those of the last 30 days. For the worker.';

create or replace function tenancy.verify_domain(domain_id uuid, txt_records text[]) returns boolean
language plpgsql security definer set search_path = '' as $$
begin
  update tenancy.domains d set verified_at = now()
  where d.id = verify_domain.domain_id and d.proof = any (verify_domain.txt_records) and d.verified_at is null;
  return found;
exception when unique_violation then
  return false;
end
$$;
comment on function tenancy.verify_domain(uuid, text[]) is
  'Marks a claimed domain as verified when its proof is among the TXT records found; false when it is not, or another site proved it first. For the worker.';

create or replace function tenancy.site_of_host(host text) returns text
language sql stable security definer set search_path = '' as $$
  select s.name || coalesce('/' || a.name, '')
  from tenancy.domains d
  join tenancy.sites s on s.id = d.site_id
  left join tenancy.apps a on a.id = d.app_id
  where d.domain = lower(site_of_host.host) and d.verified_at is not null
$$;
comment on function tenancy.site_of_host(text) is 'site or site/app served at a verified domain, or null.';
