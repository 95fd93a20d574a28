-- Shares as those see them who give or receive them.

create or replace function access.described_share(share access.shares, site_id uuid) returns jsonb
language sql stable set search_path = '' as $$
  select jsonb_strip_nulls(jsonb_build_object(
      'direction', case when g.gives then 'given' else 'received' end, 'site', f.name, 'to_site', t.name,
      'entity', case when g.gives then access.entity_path(e) end, 'role', access.role_path(r),
      'view', share.schema_name || '.' || share.view_name, 'name', share.view_name,
      'fields', to_jsonb(share.fields), 'masked', nullif(share.masked, '{}'), 'condition', case when g.gives then share.condition end,
      'until', share.valid_until, 'accepted_at', share.accepted_at))
    || jsonb_build_object('state', case when share.accepted_at is null then 'waiting'
      when share.valid_until <= statement_timestamp() then 'ended' else 'open' end)
  from (select share.site_id = described_share.site_id) g (gives), tenancy.sites f, tenancy.sites t, access.roles r, data.entities e
  where f.id = share.site_id and t.id = share.to_site_id and r.id = share.role_id and e.id = share.entity_id
$$;
comment on function access.described_share(access.shares, uuid) is 'A share as the site of this id sees it.';

create or replace function access.list_shares(site text) returns jsonb
language plpgsql stable security definer set search_path = '' as $$
declare
  _sharer boolean := access.may_control((tenancy.require_site(list_shares.site)).id, '@shares', 'define');
  _site tenancy.sites := access.require_control(list_shares.site, case when _sharer then '@shares:define' else '@policies:define' end);
begin
  return jsonb_build_object('data', (
    select coalesce(jsonb_agg(access.described_share(s, _site.id) order by f.name, s.view_name), '[]')
    from access.shares s join tenancy.sites f on f.id = s.site_id where _site.id in (s.site_id, s.to_site_id)));
end
$$;
comment on function access.list_shares(text) is
  'What a site shares and what is shared with it: {"data": [{direction, site, to_site, role, view, name, fields, masked, until, '
  'accepted_at, state (waiting, open, ended), and to who shares entity and condition}]}. Owners, admins, who has @shares:define or '
  '@policies:define. RH403, RH404.';

create or replace function access.get_share(site text, to_site text, name text) returns jsonb
language plpgsql stable security definer set search_path = '' as $$
declare
  _site tenancy.sites := access.require_control(get_share.site, '@shares:define');
  _out jsonb;
begin
  select access.described_share(s, _site.id) into _out from access.shares s join tenancy.sites t on t.id = s.to_site_id
  where s.site_id = _site.id and t.name = get_share.to_site and s.view_name = get_share.name;
  if _out is null then
    perform access.fail_given(_site, get_share.to_site, get_share.name);
  end if;
  return _out;
end
$$;
comment on function access.get_share(text, text, text) is
  'One share that a site has given, as access.list_shares describes it. RH403, RH404.';
