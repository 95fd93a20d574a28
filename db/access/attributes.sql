-- What is known of a site's members beyond their roles, for conditions: attributes, by a schema that the site declares.

create or replace function access.attribute_errors(schema jsonb, attributes jsonb) returns jsonb
language sql stable set search_path = '' as $$
  select data.validate('{"additionalProperties": false, "type": "object"}' || attribute_errors.schema, attribute_errors.attributes, true)
$$;
comment on function access.attribute_errors(jsonb, jsonb) is 'What is wrong with attributes by a schema of attributes, which must declare them all unless it says otherwise.';

create or replace function access.set_attribute_schema(site text, schema jsonb) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  _site tenancy.sites := tenancy.require_site(set_attribute_schema.site, array['owner', 'admin']);
  _schema jsonb := set_attribute_schema.schema;
  _errors jsonb;
begin
  if jsonb_typeof(_schema) is distinct from 'object' or coalesce(_schema->>'type', 'object') <> 'object'
    or jsonb_typeof(_schema->'properties') is distinct from 'object' or length(_schema::text) > 100000 then
    perform rowhouse.fail(400, 'A schema of attributes is a JSON Schema of an object, with properties',
      '{"type": "object", "properties": {"region": {"type": "string"}}}', 'invalid_schema');
  end if;
  _errors := data.unsupported_keywords(_schema, true);
  if _errors <> '[]' then
    perform rowhouse.fail(400, format('The schema cannot be used: %s %s', _errors #>> '{0,pointer}', _errors #>> '{0,message}'),
      'errors lists every problem by JSON pointer.', 'invalid_schema', _errors);
  end if;
  insert into access.attribute_schemas as s (site_id, schema, updated_by) values (_site.id, _schema, auth.account_id())
  on conflict (site_id) do update set schema = excluded.schema, updated_at = now(), updated_by = excluded.updated_by;
  select jsonb_agg(x.e) into _errors
  from (
    select jsonb_build_object('pointer', '/' || data.pointer_part(c.email) || (e->>'pointer'), 'message', e->'message') as e
    from access.account_attributes a
    join auth.accounts c on c.id = a.account_id, jsonb_array_elements(access.attribute_errors(_schema, a.attributes)) e
    where a.site_id = _site.id
    order by c.email, e->>'pointer' limit 20) x;
  if _errors is not null then
    perform rowhouse.fail(409, 'Attributes that accounts have do not fit this schema',
      'errors names up to 20 of them, by account. Change these with access.set_attributes(site, email, attributes) first.',
      'attributes_violate', _errors);
  end if;
  return _schema;
end
$$;
comment on function access.set_attribute_schema(text, jsonb) is
  'Declares which attributes the accounts of a site can have, by a JSON Schema; conditions compare them as $account.attributes.region. Site owners and admins only. RH400, RH403, RH404, RH409 with the accounts whose attributes do not fit.';

create or replace function access.attribute_schema(site text) returns jsonb
language plpgsql stable security definer set search_path = '' as $$
declare
  _site tenancy.sites := tenancy.require_site(attribute_schema.site);
begin
  return (select s.schema from access.attribute_schemas s where s.site_id = _site.id);
end
$$;
comment on function access.attribute_schema(text) is 'The JSON Schema of the attributes of a site''s accounts, or null. Members only. RH404.';

create or replace function access.require_member(site tenancy.sites, email text) returns uuid
language plpgsql stable set search_path = '' as $$
declare
  _account uuid;
begin
  select m.account_id into _account from tenancy.site_members m join auth.accounts a on a.id = m.account_id
  where m.site_id = site.id and a.email = lower(require_member.email);
  if _account is null then
    perform rowhouse.fail(404, format('%s is not a member of site %L', left(require_member.email, 80), site.name),
      'Add them first: tenancy.add_member(site, email, role).', 'not_found');
  end if;
  return _account;
end
$$;
comment on function access.require_member(tenancy.sites, text) is 'The account of a site''s member. RH404.';

create or replace function access.set_attributes(site text, email text, attributes jsonb) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  _site tenancy.sites := tenancy.require_site(set_attributes.site, array['owner', 'admin']);
  _account uuid := access.require_member(_site, set_attributes.email);
  _schema jsonb;
  _errors jsonb;
begin
  if jsonb_typeof(set_attributes.attributes) is distinct from 'object' or length(set_attributes.attributes::text) > 20000 then
    perform rowhouse.fail(400, 'Attributes are a JSON object of at most 20,000 characters', '{"region": "north"}', 'invalid_attributes');
  end if;
  select s.schema into _schema from access.attribute_schemas s where s.site_id = _site.id for share;
  if _schema is null then
    perform rowhouse.fail(409, format('Site %L has not declared which attributes its accounts have', _site.name),
      'access.set_attribute_schema(site, schema) does.', 'no_attribute_schema');
  end if;
  _errors := access.attribute_errors(_schema, set_attributes.attributes);
  if _errors <> '[]' then
    perform rowhouse.fail(422, 'The attributes do not fit the site''s schema of attributes', 'errors lists every problem by JSON pointer.',
      'validation_failed', _errors);
  end if;
  insert into access.account_attributes (site_id, account_id, attributes, updated_by) values (_site.id, _account, set_attributes.attributes,
    auth.account_id())
  on conflict (site_id, account_id) do update set attributes = excluded.attributes, updated_at = now(), updated_by = excluded.updated_by;
  return set_attributes.attributes;
end
$$;
comment on function access.set_attributes(text, text, jsonb) is
  'Sets all attributes of a site''s member, from their next statement on. Site owners and admins only. RH400, RH403, RH404, RH409 without a schema, RH422 when they do not fit it.';

create or replace function access.attributes(site text, email text) returns jsonb
language plpgsql stable security definer set search_path = '' as $$
declare
  _site tenancy.sites := tenancy.require_site(attributes.site);
  _account uuid;
begin
  if not exists (select from auth.accounts a where a.id = auth.account_id() and a.email = lower(attributes.email)) then
    _site := tenancy.require_site(attributes.site, array['owner', 'admin']);
  end if;
  _account := access.require_member(_site, attributes.email);
  return coalesce((select a.attributes from access.account_attributes a where a.site_id = _site.id and a.account_id = _account), '{}');
end
$$;
comment on function access.attributes(text, text) is
  'The attributes of a site''s member, {} for none. One''s own; those of others for site owners and admins. RH403, RH404.';
