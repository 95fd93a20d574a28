create or replace function tenancy.site_id() returns uuid
language sql stable parallel safe as $$
  select nullif(current_setting('rowhouse.site', true), '')::uuid
$$;
comment on function tenancy.site_id() is 'The site of this transaction''s claims, or null.';
