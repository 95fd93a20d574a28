create or replace function access.assign(site_id uuid, account_id uuid, role text) returns void
language sql set search_path = '' as $$
  insert into access.assignments (site_id, account_id, role_id, granted_by)
  values (assign.site_id, assign.account_id, access.require_role(assign.site_id, assign.role), auth.account_id())
  on conflict do nothing
$$;
comment on function access.assign(uuid, uuid, text) is 'Assigns a role. Internal: callers check rights.';

drop function if exists access.assign_role(text, text, text);
create or replace function access.assign_role(
  site text, email text, role text, valid_from timestamptz default null, valid_until timestamptz default null, condition jsonb default null
)
returns void
language plpgsql security definer set search_path = '' as $$
declare
  _site tenancy.sites := access.require_control(assign_role.site, '@roles:assign');
  _account uuid := auth.require_account(assign_role.email);
begin
  if not exists (select from tenancy.site_members m where m.site_id = _site.id and m.account_id = _account) then
    perform rowhouse.fail(404, format('%s is not a member of site %L', assign_role.email, assign_role.site),
      'Add them first: tenancy.add_member(site, email, role).', 'not_found');
  end if;
  perform access.save_assignment(_site.id, _account, null, access.require_role(_site.id, assign_role.role), assign_role.valid_from,
    assign_role.valid_until, assign_role.condition);
end
$$;
comment on function access.assign_role(text, text, text, timestamptz, timestamptz, jsonb) is
  'Gives a member of a site a role, from and until a time, or only while a condition on the account and the environment holds ({"$env.ip": {"$cidr": "10.0.0.0/8"}}, or its text); again, with other terms. Owners, admins, and who has @roles:assign for roles that they hold themselves. RH400, RH403, RH404.';

create or replace function access.save_assignment(
  site_id uuid, account_id uuid, group_id uuid, role_id uuid, valid_from timestamptz, valid_until timestamptz, condition jsonb
)
returns void
language plpgsql set search_path = '' as $$
#variable_conflict use_column
declare
  _condition jsonb := access.condition_of(save_assignment.site_id, save_assignment.condition, '/condition');
  _role access.roles;
begin
  select r.* into _role from access.roles r where r.id = save_assignment.role_id;
  perform access.require_holding(save_assignment.site_id, _role.id);
  perform access.refuse_own_assignment(save_assignment.site_id, save_assignment.account_id, save_assignment.group_id, _role.id);
  if save_assignment.valid_until <= coalesce(save_assignment.valid_from, now()) then
    perform rowhouse.fail(400, 'The assignment would end before it begins', 'valid_until is later than valid_from and than now.',
      'invalid_assignment');
  elsif _role.system and _role.name in ('authenticated', 'anonymous') then
    perform rowhouse.fail(409, format('%s is held without being assigned', _role.name),
      'Give it permissions: access.grant_permission(site, role, permission).', 'system_role');
  elsif _condition is not null
    and (access.condition_uses(_condition) && '{record,action}' or _condition::text ~ '\$account\.(roles|groups)') then
    perform rowhouse.fail(400, 'An assignment cannot depend on records, on the action or on roles and groups',
      'Its condition speaks of $account.attributes, $account.email and $env; put the rest into the role''s permissions.',
      'invalid_condition');
  end if;
  insert into access.assignments (site_id, account_id, group_id, role_id, valid_from, valid_until, condition, condition_sql, granted_by)
  values (save_assignment.site_id, save_assignment.account_id, save_assignment.group_id, _role.id, save_assignment.valid_from,
    save_assignment.valid_until, _condition,
    case when _condition is not null then access.compile_condition(null, _condition, null, '$1', '$2') end, auth.account_id())
  on conflict (account_id, group_id, site_id, role_id) do update set valid_from = excluded.valid_from, valid_until = excluded.valid_until,
    condition = excluded.condition, condition_sql = excluded.condition_sql, granted_by = excluded.granted_by;
end
$$;
comment on function access.save_assignment(uuid, uuid, uuid, uuid, timestamptz, timestamptz, jsonb) is
  'Assigns a role to an account or a group. Internal: callers check who may. RH400, RH403, RH409.';

create or replace function access.revoke_role(site text, email text, role text) returns void
language plpgsql security definer set search_path = '' as $$
declare
  _site tenancy.sites := access.require_control(revoke_role.site, '@roles:assign');
  _role uuid := access.require_role(_site.id, revoke_role.role);
begin
  perform access.require_holding(_site.id, _role);
  perform access.refuse_own_assignment(_site.id, auth.require_account(revoke_role.email), null, _role);
  delete from access.assignments a
  where a.site_id = _site.id and a.account_id = auth.require_account(revoke_role.email) and a.role_id = _role;
end
$$;
comment on function access.revoke_role(text, text, text) is
  'Takes a role from a member, from their next statement on. Owners, admins, and who has @roles:assign for roles that they hold themselves. RH403, RH404.';
