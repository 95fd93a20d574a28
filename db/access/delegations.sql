-- A member hands on a part of what they hold, for a time: an internal role with copies of those permissions, assigned for as long
-- as the delegator holds the role it was taken from. A copy goes with the permission it was made of, so it is never more.

create or replace function access.delegate(site text, email text, role text, until timestamptz, permissions text[] default null)
  returns uuid
language plpgsql security definer set search_path = '' as $$
declare
  _site tenancy.sites := tenancy.require_site(delegate.site);
  _account uuid := auth.require_account(delegate.email);
  _source uuid := access.require_role(_site.id, delegate.role);
  _role access.roles;
  _id uuid;
  _copied int;
  _dependent text;
  _missing text;
begin
  if auth.account_id() is null or not access.holds_itself(_site.id, auth.account_id(), _source) then
    perform rowhouse.fail(403, format('You do not hold the role %s yourself', delegate.role),
      'Hand on a role that was assigned to you or to a group of yours, without a condition; what was delegated to you cannot be handed on.',
      'forbidden');
  elsif _account = auth.account_id()
    or not exists (select from tenancy.site_members m where m.site_id = _site.id and m.account_id = _account) then
    perform rowhouse.fail(404, format('%s is not another member of site %L', delegate.email, _site.name),
      'Delegate to somebody who is a member.', 'not_found');
  elsif delegate.until is null or delegate.until <= now() or delegate.until > now() + interval '366 days' then
    perform rowhouse.fail(400, 'A delegation ends', 'until is a time within the next year.', 'invalid_assignment');
  end if;
  perform access.lock_model(_site.id);
  insert into access.roles (site_id, app_id, name, description, is_internal)
  values (_site.id, (select r.app_id from access.roles r where r.id = _source), 'delegated-' || uuidv7(),
    format('%s, delegated', delegate.role), true)
  returning * into _role;
  insert into access.held_roles (role_id, held_id, site_id) values (_role.id, _role.id, _site.id);
  select string_agg(access.permission_text(p), ', ') into _dependent
  from access.held_roles h join access.permissions p on p.role_id = h.held_id
  where h.role_id = _source and (delegate.permissions is null or access.permission_text(p) = any (delegate.permissions))
    and p.condition::text ~ '\$account';
  if _dependent is not null then
    perform rowhouse.fail(409, format('What these permissions allow depends on who has them: %s', _dependent), 'Delegate others.',
      'not_delegable');
  end if;
  select p into _missing from unnest(delegate.permissions) p
  where not exists (select from access.held_roles h join access.permissions x on x.role_id = h.held_id
    where h.role_id = _source and access.permission_text(x) = p)
  limit 1;
  if _missing is not null then
    perform rowhouse.fail(403, format('The role %s has no permission %s', delegate.role, left(_missing, 80)),
      'Delegate permissions exactly as the role has them.', 'forbidden');
  end if;
  insert into access.permissions (site_id, role_id, entity, action, own, condition, fields, source_id)
  select p.site_id, _role.id, p.entity, p.action, false,
    case when p.own then access.both_conditions(p.condition, jsonb_build_object('created_by', auth.account_id())) else p.condition end,
      p.fields, p.id
  from access.held_roles h join access.permissions p on p.role_id = h.held_id
  where h.role_id = _source and p.entity !~ '(^|/)@'
    and (delegate.permissions is null or access.permission_text(p) = any (delegate.permissions))
  on conflict do nothing;
  get diagnostics _copied = row_count;
  if _copied = 0 then
    perform rowhouse.fail(400, 'Nothing would be delegated', 'The role has no permissions on records.', 'invalid_assignment');
  end if;
  insert into access.assignments (site_id, account_id, role_id, valid_until, delegator_id, source_role_id, granted_by)
  values (_site.id, _account, _role.id, delegate.until, auth.account_id(), _source, auth.account_id()) returning id into _id;
  perform access.compile_entities(access.concerned_entities(array[_role.id]));
  return _id;
end
$$;
comment on function access.delegate(text, text, text, timestamptz, text[]) is
  'Hands a role that one holds oneself, or some of its permissions, to another member until a time; own means the delegator''s own records. It ends with that time, by access.revoke_delegation, or when the delegator loses the role or the role the permission, its own or one that it inherits; it cannot be handed on. Denials are asked of the delegate. Returns its id. RH400, RH403, RH404, RH409 a permission that depends on who has it.';

-- What the role was taken from may inherit no more what a copy was made of.
create or replace function access.end_lost_permissions(site_id uuid) returns uuid[]
language sql set search_path = '' as $$
  with lost as (
    delete from access.permissions c
    using access.assignments a, access.permissions s
    where a.site_id = end_lost_permissions.site_id and a.delegator_id is not null and c.role_id = a.role_id and s.id = c.source_id
      and not exists (select from access.held_roles h where h.role_id = a.source_role_id and h.held_id = s.role_id)
    returning c.entity
  )
  select coalesce(array_agg(distinct e.id), '{}')
  from lost l
  join tenancy.apps a on a.site_id = end_lost_permissions.site_id
  join data.entities e on e.app_id = a.id and l.entity = any (access.patterns(a.name || '/' || e.name))
$$;
comment on function access.end_lost_permissions(uuid) is
  'Takes from delegations of a site what the delegated roles no longer inherit, and returns the entities for which that has to be put into effect. Internal.';

create or replace function access.end_delegation(delegation access.assignments) returns void
language plpgsql set search_path = '' as $$
declare
  _entities uuid[];
begin
  perform access.lock_model(delegation.site_id);
  _entities := access.concerned_entities(array[delegation.role_id]);
  delete from access.roles r where r.id = delegation.role_id;
  perform access.compile_entities(_entities);
end
$$;
comment on function access.end_delegation(access.assignments) is 'Ends a delegation. Internal: callers check who may.';

-- A site a step, so that who defines something there waits for one recompilation at most.
create or replace function access.end_delegations(after uuid default '00000000-0000-0000-0000-000000000000') returns uuid
language plpgsql security definer set search_path = '' set lock_timeout = '2s' set client_min_messages = warning as $$
declare
  _most constant int := 100;
  _site uuid;
  _roles uuid[];
  _entities uuid[];
begin
  select x.site_id, array_agg(x.id) into _site, _roles
  from (
    select r.site_id, r.id from access.roles r
    where r.is_internal and r.site_id > end_delegations.after
      and not exists (select from access.assignments a where a.role_id = r.id and a.valid_until > now())
    order by r.site_id, r.id limit _most
  ) x
  group by x.site_id order by x.site_id limit 1;
  if _site is null then
    return null;
  end if;
  begin
    perform access.lock_model(_site);
    _entities := access.concerned_entities(_roles);
    delete from access.roles r where r.id = any (_roles);
    perform access.compile_entities(_entities);
  exception when others then
    -- One site that is busy or broken does not keep the others waiting: it is met again in an hour.
    raise warning 'Delegations of site % were not ended: % %', _site, sqlstate, sqlerrm;
    return _site;
  end;
  return case when cardinality(_roles) = _most then end_delegations.after else _site end;
end
$$;
comment on function access.end_delegations(uuid) is
  'Deletes what is left of delegations that have ended by time, membership or account, up to 100 of the next site, and returns what to '
  'call it with next, or null when none are left. For the worker.';

create or replace function access.revoke_delegation(id uuid) returns void
language plpgsql security definer set search_path = '' as $$
declare
  _a access.assignments;
begin
  select a.* into _a from access.assignments a where a.id = revoke_delegation.id and a.delegator_id is not null;
  if _a.id is null or not (auth.is_operator() or auth.account_id() in (_a.delegator_id, _a.account_id)
    or access.may_control(_a.site_id, '@roles', 'assign'))
    or tenancy.site_id() <> _a.site_id
  then
    perform rowhouse.fail(404, 'There is no such delegation that you may end', 'access.assignments lists them.', 'not_found');
  end if;
  perform access.end_delegation(_a);
end
$$;
comment on function access.revoke_delegation(uuid) is 'Ends a delegation, from the delegate''s next statement on. Delegator, delegate, owners, admins and @roles:assign. RH404.';
