-- What somebody guessed is shown to who manages the site's members, who may end the refusals.

create or replace function access.list_guesses(site text) returns jsonb
language plpgsql stable security definer set search_path = '' as $$
declare
  _site tenancy.sites := access.require_control(list_guesses.site, '@members:manage');
begin
  return jsonb_build_object('data', (
    select coalesce(jsonb_agg(jsonb_strip_nulls(jsonb_build_object('account', a.email,
        'address', case when g.account_id is null then host(g.address) || case masklen(g.address) when 64 then '/64' else '' end end,
        'entity', access.entity_path(e), 'guesses', x.guesses, 'last_at', x.last_at, 'refused_until', access.guesses_end(g.times)))
      order by x.guesses desc, x.last_at desc), '[]')
    from access.guesses g join data.entities e on e.id = g.entity_id left join auth.accounts a on a.id = g.account_id,
      lateral (select count(*) as guesses, max(t) as last_at from unnest(g.times) t where t > now() - interval '1 hour') x
    where g.site_id = _site.id and x.guesses > 0));
end
$$;
comment on function access.list_guesses(text) is
  'Who was told in the last hour that values are taken in unique fields that they do not see: {"data": [{account (email) or address, entity '
  '(crm/people), guesses, last_at, refused_until}]}, most first; refused_until from 20 on. Owners, admins and @members:manage. RH403, RH404.';

create or replace function access.forgive_guesses(site text, who text) returns int
language plpgsql security definer set search_path = '' as $$
declare
  _site tenancy.sites := access.require_control(forgive_guesses.site, '@members:manage');
  _forgiven jsonb[];
begin
  with forgiven as (
    delete from access.guesses g
    where g.site_id = _site.id and case when g.account_id is null
      then pg_input_is_valid(forgive_guesses.who, 'inet') and g.address = access.guess_address(forgive_guesses.who)
      else g.account_id = (select a.id from auth.accounts a where a.email = lower(forgive_guesses.who)) end
    returning g.site_id, g.entity_id, g.account_id, case when g.account_id is null then g.address end as address
  )
  select array_agg(jsonb_strip_nulls(to_jsonb(f))) into _forgiven from forgiven f;
  if _forgiven is null then
    perform rowhouse.fail(404, format('%s has guessed nothing in site %L', left(forgive_guesses.who, 254), _site.name),
      'An email, or the address of who had no account; access.list_guesses lists them.', 'not_found');
  end if;
  perform audit.note_rows('access.guesses', '{entity_id}', '{}', _forgiven, '{}');
  return cardinality(_forgiven);
end
$$;
comment on function access.forgive_guesses(text, text) is
  'Lets an account (email) of a site, or an address that had none, guess anew what is taken in unique fields that they do not see; the number '
  'of entities where it had. Owners, admins and @members:manage. RH403, RH404.';

create or replace function access.forget_guesses() returns void
language sql security definer set search_path = '' as $$
  delete from access.guesses g where g.times[cardinality(g.times)] < now() - interval '1 hour'
$$;
comment on function access.forget_guesses() is 'Deletes guesses that count no more. For the worker.';

-- Entities that a release before has built.
create or replace function access.renew_guess_checks() returns void
language plpgsql set search_path = '' as $$
declare
  _e record;
begin
  for _e in
    select e as entity, a.schema_name
    from data.entities e join tenancy.apps a on a.id = e.app_id
    where case when exists (select from pg_catalog.pg_proc p where p.pronamespace = to_regnamespace(quote_ident(a.schema_name))
        and p.proname = e.name || '_insert' and strpos(p.prosrc, 'access.check_guesses') > 0) then false
      else access.guess_check(e, '') <> '' end
  loop
    perform data.build_write_functions(_e.entity, _e.schema_name);
    perform data.build_batch_functions(_e.entity, _e.schema_name);
    if (_e.entity).schema->'x-soft-delete' = 'true' then
      perform data.build_restore(_e.entity, _e.schema_name);
    end if;
  end loop;
  perform data.build_reference_rule(e, a.schema_name)
  from data.entities e join tenancy.apps a on a.id = e.app_id
  where exists (select from data.relations r where r.entity_id = e.id and r.target_field <> 'id')
    and not exists (select from pg_catalog.pg_proc p where p.pronamespace = to_regnamespace(quote_ident(a.schema_name))
      and p.proname = e.name || '_after_write' and strpos(p.prosrc, 'access.unseen') > 0);
end
$$;
comment on function access.renew_guess_checks() is
  'Builds anew the functions that write what can be guessed, by unique fields and by references, where a release before has built them. '
  'Internal.';
