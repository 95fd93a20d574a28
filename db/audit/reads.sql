-- "x-audit": {"reads": true}: the view asks this once per statement before it shows a record, so that no door goes past it.

create or replace function audit.reads_are_on(schema jsonb) returns boolean
language sql immutable parallel safe as $$ select coalesce(reads_are_on.schema #> '{x-audit,reads}' = 'true', false) $$;
comment on function audit.reads_are_on(jsonb) is 'Whether reads of the records of an entity with this schema are recorded.';

create or replace function audit.notes_reads(app_id uuid) returns boolean
language sql stable security definer set search_path = '' as $$
  select exists (select from data.entities e where e.app_id = notes_reads.app_id and audit.reads_are_on(e.schema))
$$;
comment on function audit.notes_reads(uuid) is 'Whether reads of some entity of an app are recorded, so that its readers must be able to write. For the gateway.';

create or replace function audit.note_read(entity_id uuid) returns boolean
language plpgsql security definer set search_path = '' as $$
declare
  _e record;
begin
  select e.name, e.site_id, s.organization_id, audit.months_kept(s.settings) as keep, s.name || '/' || a.name || '/' || e.name as path into _e
  from data.entities e join tenancy.apps a on a.id = e.app_id join tenancy.sites s on s.id = e.site_id
  where e.id = note_read.entity_id and audit.reads_are_on(e.schema) and (e.site_id = tenancy.site_id() or tenancy.site_id() is null);
  if not found then
    return true; -- nothing of this site's to record: the walls show no record either
  elsif current_setting('transaction_read_only') = 'on' then
    perform rowhouse.fail(403, format('Reads of %s are recorded, which a read-only transaction cannot do', _e.name), 'Read in a transaction that may write.', 'read_only');
  end if;
  insert into audit.entries (site_id, organization_id, keep, account_id, env, action, object, new)
  values (_e.site_id, _e.organization_id, _e.keep, auth.account_id(), rowhouse.env(), 'read', _e.path, jsonb_build_object('statement', left(current_query(), 2000)));
  return true;
end
$$;
comment on function audit.note_read(uuid) is
  'Records that this statement reads records of an entity whose definition has "x-audit": {"reads": true}; always true. Called by its view. RH403 in a read-only transaction.';
