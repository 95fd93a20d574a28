-- "x-audit": {"reads": true}: the view asks this once per statement before it shows a record, so that no door goes past it.

create or replace function audit.reads_are_on(schema jsonb) returns boolean
language sql immutable parallel safe as $$ select coalesce(reads_are_on.schema #> '{x-audit,reads}' = 'true', false) $$;
comment on function audit.reads_are_on(jsonb) is 'Whether reads of the records of an entity with this schema are recorded.';

create or replace function audit.notes_reads(app_id uuid) returns boolean
language sql stable security definer set search_path = '' as $$
  select exists (select from data.entities e where e.app_id = notes_reads.app_id and audit.reads_are_on(e.schema))
    or exists (select from tenancy.apps a join access.shares s on s.to_site_id = a.site_id join data.entities e on e.id = s.entity_id
      where a.id = notes_reads.app_id and audit.reads_are_on(e.schema))
$$;
comment on function audit.notes_reads(uuid) is
  'Whether reads of some entity of an app, or of what is shared with its site, are recorded, so that its readers must be able to '
  'write. For the gateway.';

create or replace function audit.noted_views(app_id uuid) returns table (schema text, name text, entity uuid, share uuid)
language sql stable security definer set search_path = '' as $$
  select a.schema_name, e.name, e.id, null::uuid from data.entities e join tenancy.apps a on a.id = e.app_id
  where e.app_id = noted_views.app_id and audit.reads_are_on(e.schema)
  union all
  select s.schema_name, s.view_name, e.id, s.id from tenancy.apps a
  join access.shares s on s.to_site_id = a.site_id
  join data.entities e on e.id = s.entity_id
  where a.id = noted_views.app_id and audit.reads_are_on(e.schema)
$$;
comment on function audit.noted_views(uuid) is
  'The views of an app''s entities whose reads are recorded, and of what is shared with its site of such entities. For the gateway.';

create or replace function audit.note_access(entity_id uuid, action text, "new" jsonb) returns void
language plpgsql security definer set search_path = '' as $$
declare
  _e record;
begin
  select e.name, e.site_id, s.organization_id, audit.months_kept(s.settings) as keep, s.name || '/' || a.name || '/' || e.name as path
  into _e
  from data.entities e join tenancy.apps a on a.id = e.app_id join tenancy.sites s on s.id = e.site_id
  where e.id = note_access.entity_id and audit.reads_are_on(e.schema);
  if not found then
    return;
  elsif current_setting('transaction_read_only') = 'on' then
    perform rowhouse.fail(403, format('Reads of %s are recorded, which a read-only transaction cannot do', _e.name),
      'Read in a transaction that may write.', 'read_only');
  end if;
  insert into audit.entries (site_id, organization_id, keep, account_id, env, action, object, record, new)
  values (_e.site_id, _e.organization_id, _e.keep, auth.account_id(), rowhouse.env(), note_access.action, _e.path,
    case when jsonb_array_length(note_access.new->'records') = 1 then note_access.new->'records'->>0 end, note_access.new);
end
$$;
comment on function audit.note_access(uuid, text, jsonb) is
  'Writes an entry about a read of an entity, where its definition asks for that; of one record, the entry is about that. RH403 in a '
  'read-only transaction. Internal.';

-- Of another site's there is nothing to record: the walls show no record either.
create or replace function audit.is_ours(entity_id uuid) returns boolean
language sql stable security definer set search_path = '' as $$
  select exists (
    select from data.entities e where e.id = is_ours.entity_id
      and (e.site_id = tenancy.site_id() or tenancy.site_id() is null and auth.account_id() is null))
$$;
comment on function audit.is_ours(uuid) is 'Whether an entity is of the site of the claims; to who is no account, the operator, every one is. Internal.';

create or replace function audit.note_read(entity_id uuid) returns boolean
language plpgsql security definer set search_path = '' as $$
begin
  if audit.is_ours(note_read.entity_id) then
    perform audit.note_access(note_read.entity_id, 'read', jsonb_build_object('statement', left(current_query(), 2000)));
  end if;
  return true;
end
$$;
comment on function audit.note_read(uuid) is
  'Records that this statement reads records of an entity whose definition has "x-audit": {"reads": true}; always true. Called by its '
  'view. RH403 in a read-only transaction.';

create or replace function audit.note_kept(entity_id uuid, what text, record uuid default null) returns boolean
language plpgsql security definer set search_path = '' as $$
begin
  if audit.is_ours(note_kept.entity_id) then
    perform audit.note_access(note_kept.entity_id, 'read',
      jsonb_build_object('of', note_kept.what, 'statement', left(current_query(), 2000))
      || case when note_kept.record is null then '{}' else jsonb_build_object('records', array[note_kept.record]) end);
  end if;
  return true;
end
$$;
comment on function audit.note_kept(uuid, text, uuid) is
  'The same for what is kept of records: their history, as_of (what they were), or deleted ones; of one record or of many. Always '
  'true. Called by what shows it. RH403 in a read-only transaction.';

-- Entries hold at most 1,000 ids each: 45 kB, and what the index of ids takes at once.
create or replace function audit.id_batches(ids uuid[]) returns setof uuid[]
language sql immutable parallel safe set search_path = '' as $$
  select k.ids[n:n + 999] from (select array_remove(id_batches.ids, null)) k (ids), generate_series(1, cardinality(k.ids), 1000) n
$$;
comment on function audit.id_batches(uuid[]) is 'Ids, but no nulls, in lists of at most 1,000, as entries of the log hold them.';

create or replace function audit.note_seen(entity_id uuid, ids uuid[], what text) returns text
language plpgsql security definer set search_path = '' as $$
begin
  if cardinality(note_seen.ids) > 0 and audit.is_ours(note_seen.entity_id) then
    perform audit.note_access(note_seen.entity_id, 'seen', jsonb_build_object('of', note_seen.what, 'records', b))
    from audit.id_batches(note_seen.ids) b;
  end if;
  return '';
end
$$;
comment on function audit.note_seen(uuid, uuid[], text) is
  'Records which records of an entity were shown, at most 1,000 an entry; returns nothing that is seen, an empty text. Called by '
  'compiled statements. RH403 in a read-only transaction.';

create or replace function audit.note_share(share uuid, action text, ids uuid[], what text default null) returns text
language plpgsql security definer set search_path = '' as $$
declare
  _s record;
  _by jsonb;
begin
  select s.entity_id, s.view_name, t.name as site into _s
  from access.shares s join tenancy.sites t on t.id = s.to_site_id where s.id = note_share.share;
  if found and access.share_holds(note_share.share) and (note_share.action = 'read' or cardinality(note_share.ids) > 0) then
    _by := jsonb_build_object('share', _s.view_name, 'site', _s.site);
    if note_share.action = 'read' then
      perform audit.note_access(_s.entity_id, 'read', _by || jsonb_build_object('statement', left(current_query(), 2000)));
    else
      perform audit.note_access(_s.entity_id, 'seen', _by || jsonb_build_object('of', note_share.what, 'records', b))
      from audit.id_batches(note_share.ids) b;
    end if;
  end if;
  return '';
end
$$;
comment on function audit.note_share(uuid, text, uuid[], text) is
  'Records in the sharing site''s log who reads what it shares, from which site, and which records a page showed. Called by the '
  'share''s view and by compiled statements. RH403 in a read-only transaction.';

create or replace function audit.seen_sql(entity data.entities, shape jsonb, ids text, what text) returns text
language sql immutable set search_path = '' as $$
  select case
    when not audit.reads_are_on(entity.schema) then ''
    when shape ? '_share' then format(' || audit.note_share(%L, ''seen'', %s, %L)', shape->>'_share', ids, what)
    else format(' || audit.note_seen(%L, %s, %L)', entity.id, ids, what) end
$$;
comment on function audit.seen_sql(data.entities, jsonb, text, text) is
  'What a compiled statement appends to its text to record which records it shows, ids, as SQL; nothing where reads are not recorded.';

create or replace function audit.kept_sql(entity data.entities, what text, before text, record text default null) returns text
language sql immutable set search_path = '' as $$
  select case
    when not audit.reads_are_on(entity.schema) then ''
    when record is null then before || format('(select audit.note_kept(%L, %L))', entity.id, what)
    else before || format('audit.note_kept(%L, %L, %s)', entity.id, what, record) end
$$;
comment on function audit.kept_sql(data.entities, text, text, text) is
  'What a view or function of kept records asks, behind before, to have it recorded that it is read, of one record (SQL) or of many; '
  'nothing where reads are not recorded.';
