-- What roles may do by permissions that depend on nothing, as a text in which one looks: ' crm/*:read */posts:update '. The gateway keeps
-- it with the roles and the account's attributes, for as long as nothing has changed (access.change_count), and sets them for a request
-- as rowhouse.rights and rowhouse.attributes.

create or replace function access.plain_rights(site_id uuid, roles uuid[]) returns text
language sql stable security definer set search_path = '' as $$
  select case when length(r.rights) <= 4000 then r.rights end -- more is asked of the tables
  from (
    select ' ' || coalesce(string_agg(distinct p.entity || ':' || a.action, ' ') || ' ', '') as rights
    from access.permissions p,
      unnest(case p.action when '*' then array['create', 'read', 'update', 'delete'] else array[p.action] end) a (action)
    where p.site_id = plain_rights.site_id and p.role_id = any (plain_rights.roles) and p.is_plain and p.entity !~ ' '
  ) r
$$;
comment on function access.plain_rights(uuid, uuid[]) is
  'What roles of a site may do by permissions that depend on nothing, each as app/entity:action between spaces; null where that is longer than 4,000 characters. For the gateway.';

-- As access.role_ids: nobody else's setting is believed.
create or replace function access.rights() returns text
language sql stable parallel safe
return case when session_user = 'rowhouse_gateway' then nullif(current_setting('rowhouse.rights', true), '') end;
comment on function access.rights() is 'The access.plain_rights of the caller, where the gateway knows them; else null.';

create or replace function access.grants_right(rights text, entity text, action text) returns boolean
language sql immutable parallel safe
return strpos(rights, ' *:' || action || ' ') > 0
  or strpos(rights, ' ' || entity || ':' || action || ' ') > 0
  or strpos(rights, ' ' || split_part(entity, '/', 1) || '/*:' || action || ' ') > 0
  or strpos(rights, ' */' || split_part(entity, '/', 2) || ':' || action || ' ') > 0;
comment on function access.grants_right(text, text, text) is
  'Whether access.plain_rights has one for an action on an entity app/entity: by its name or by one of access.patterns.';

create or replace function access.kept_attributes(site_id uuid, account_id uuid) returns text
language sql stable security definer set search_path = '' as $$
  select case when length(a.attributes) <= 2000 then a.attributes end
  from (select coalesce((select a.attributes from access.account_attributes a
    where a.site_id = kept_attributes.site_id and a.account_id = kept_attributes.account_id), '{}')::text) a (attributes)
$$;
comment on function access.kept_attributes(uuid, uuid) is
  'The attributes of an account in a site, a JSON object; null where that is longer than 2,000 characters. For the gateway.';

create or replace function access.known_attributes() returns text
language sql stable parallel safe
return case when session_user = 'rowhouse_gateway' then nullif(current_setting('rowhouse.attributes', true), '') end;
comment on function access.known_attributes() is 'The access.kept_attributes of the caller, where the gateway knows them; else null.';
