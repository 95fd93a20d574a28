-- Whether the log still says what it said. Who may write to every table as a superuser can make a chain anew; but not one
-- that contains a head which somebody wrote down elsewhere.

create or replace function audit.chain_entries(chain uuid) returns setof audit.entries
language sql stable rows 100000 set search_path = '' as $$
  select e.* from audit.entries e where e.site_id = chain_entries.chain
  union all
  select e.* from audit.entries e where e.site_id is null and audit.chain(null, e.organization_id) = chain_entries.chain
$$;
comment on function audit.chain_entries(uuid) is 'The entries of a chain. Internal.';

create or replace function audit.is_expired(keep smallint, month date) returns boolean
language sql stable parallel safe set search_path = '' as $$
  select (is_expired.month + interval '1 month') at time zone 'UTC' + make_interval(months => is_expired.keep) < now()
$$;
comment on function audit.is_expired(smallint, date) is 'Whether the entries of a month need not be kept any more.';

create or replace function audit.chain_problems(chain uuid, head text) returns table (seal bigint, entry uuid, at timestamptz, problem text)
language sql stable set search_path = '' as $$
  with seals as (
    select s.*, lag(s.hash, 1, sha256('')) over w as before, row_number() over w as place
    from audit.seals s where s.chain = chain_problems.chain window w as (order by s.n)
  ), listed as (
    select s.n, i.id, i.digest from audit.sealed s, unnest(s.ids, s.digests) i (id, digest) where s.chain = chain_problems.chain
  ), found as (
    select e.id, e.at, e.keep, e.tx, audit.digest(e) as digest from audit.chain_entries(chain_problems.chain) e
  )
  select s.n, null::uuid, null::timestamptz, case
      when s.n <> s.place then 'a seal before this one is missing'
      when s.previous <> s.before then 'does not follow from the seal before it'
      else 'its hash is not that of its content' end
  from seals s where s.n <> s.place or s.previous <> s.before
    or s.hash <> audit.seal_hash(s.previous, s.chain, s.n, s.keep, s.month, s.entries, s.content)
  union all
  select h.n, null, null, 'the last seal is not the one that was made last'
  from audit.heads h left join seals s on s.n = (select max(x.n) from seals x)
  where h.chain = chain_problems.chain and (s.n, s.hash) is distinct from (h.n, h.hash)
  union all
  select null, null, null, 'the place of the last seal is lost'
  where exists (select from seals) and not exists (select from audit.heads h where h.chain = chain_problems.chain)
  union all
  select split_part(chain_problems.head, ':', 1)::bigint, null, null, 'the chain does not contain the head that was written down'
  where chain_problems.head is not null
    and not exists (select from seals s where s.n || ':' || encode(s.hash, 'hex') = chain_problems.head)
  union all
  select s.n, null, null, 'what this seal covers is lost or changed'
  from seals s left join audit.sealed l on l.chain = s.chain and l.n = s.n
  where not (l.n is null and audit.is_expired(s.keep, s.month))
    and (l.n is null or cardinality(l.ids) <> s.entries or audit.content_hash(l.ids, l.digests) <> s.content)
  union all
  select l.n, coalesce(l.id, f.id), f.at,
    case when f.id is null then 'an entry was removed' when l.id is null then 'an entry was added to what was sealed'
    else 'an entry was changed' end
  from listed l full join found f on f.id = l.id
  where f.digest is distinct from l.digest
    and not (l.id is null
      and (f.tx >= (select s.sealed_to from audit.sealing s)
      or audit.is_expired(f.keep, date_trunc('month', f.at at time zone 'UTC')::date)))
$$;
comment on function audit.chain_problems(uuid, text) is 'Where a chain is broken. Internal.';

create or replace function audit.verify_chain(chain uuid, head text default null) returns jsonb
language plpgsql stable set search_path = '' as $$
declare
  _problems jsonb;
  _out jsonb;
begin
  if verify_chain.head !~ '^[0-9]{1,15}:[0-9a-f]{64}$' then
    perform rowhouse.fail(400, 'This is not the head of a chain', 'Take it as audit.verify gave it: "12:9f86d0…".', 'invalid_head');
  end if;
  select coalesce(jsonb_agg(jsonb_strip_nulls(to_jsonb(p)) order by p.seal nulls last), '[]') into _problems
  from (select * from audit.chain_problems(verify_chain.chain, verify_chain.head) c order by c.seal nulls last limit 100) p;
  select jsonb_build_object('intact', _problems = '[]',
      'seals', (select count(*) from audit.seals s where s.chain = verify_chain.chain),
      'sealed', (select coalesce(sum(s.entries), 0) from audit.seals s where s.chain = verify_chain.chain),
      'sealed_at', (select max(s.sealed_at) from audit.seals s where s.chain = verify_chain.chain),
      'unsealed', (select count(*) from audit.chain_entries(verify_chain.chain) e where e.tx >= (select s.sealed_to from audit.sealing s)),
      'head', (select h.n || ':' || encode(h.hash, 'hex') from audit.heads h where h.chain = verify_chain.chain),
      'problems', _problems)
  into _out;
  return _out;
end
$$;
comment on function audit.verify_chain(uuid, text) is 'What audit.verify returns, of any chain. Internal.';

create or replace function audit.verify(site text default null, head text default null) returns jsonb
language plpgsql stable security definer set search_path = '' as $$
begin
  if verify.site is null and not auth.is_operator() then
    perform rowhouse.fail(403, 'Only the operator may verify the platform''s own log', 'Name a site: audit.verify(''acme'').', 'forbidden');
  end if;
  return audit.verify_chain(case when verify.site is null then audit.chain(null, null)
    else (access.require_control(verify.site, '@audit:read')).id end, verify.head);
end
$$;
comment on function audit.verify(text, text) is
  'Recomputes a site''s audit log: {"intact", "seals", "sealed" (entries), "sealed_at", "unsealed" (entries not covered yet), "head", "problems": [{seal, entry, at, problem}] (the first 100)}. head is one from before, written down elsewhere: the chain must still contain it. Without a site, what belongs to none. Site owners and admins, who has @audit:read, the operator. RH400, RH403, RH404.';

create or replace function audit.verify_organization(organization text, head text default null) returns jsonb
language sql stable security definer set search_path = '' as $$
  select audit.verify_chain(tenancy.require_organization(verify_organization.organization, array['owner', 'admin']),
    verify_organization.head)
$$;
comment on function audit.verify_organization(text, text) is
  'The same for what concerns an organization and none of its sites (its members, sites that were dropped). Organization owners and admins. RH400, RH403, RH404.';
