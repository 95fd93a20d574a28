-- Joined into the gateway's statement (tenancy.open_requests), too. Two branches, so that each has its index: with one condition
-- for both, a request in a site of 10,000 assignments read them all, 850 µs of 900.
create or replace view access.holdings as
select a.site_id, a.account_id, a.role_id, a.condition is not null
  or a.delegator_id is not null as depends, a.condition, a.condition_sql, a.delegator_id, a.source_role_id
from access.assignments a
where (a.valid_from is null or a.valid_from <= now()) and (a.valid_until is null or a.valid_until > now())
union all
select g.site_id, g.account_id, a.role_id, a.condition is not null
  or a.delegator_id is not null, a.condition, a.condition_sql, a.delegator_id, a.source_role_id
from access.group_members g
join access.assignments a on a.group_id = g.group_id
where (a.valid_from is null or a.valid_from <= now()) and (a.valid_until is null or a.valid_until > now());
comment on view access.holdings is
  'Which roles are assigned to an account or to a group it is in, at this time; depends says whether a condition or a delegator is to be asked.';
