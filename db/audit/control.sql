-- The control plane: one statement-level trigger function for all its tables.

-- Names of columns whose values are never written down, whatever table they come with.
create or replace function audit.secret_columns() returns text
language sql immutable parallel safe as $$ select '(password|secret|token|private_key|proof|_hash$)' $$;
comment on function audit.secret_columns() is 'The regular expression of columns that the audit log shows as "***".';

create or replace function audit.watched()
returns table (relation regclass, key text[], unnoticed text[], events text[])
language sql stable set search_path = '' as $$
  select c.oid::regclass,
    array(select a.attname::text from pg_catalog.pg_index i, unnest(i.indkey) with ordinality k (attnum, n), pg_catalog.pg_attribute a
      where i.indrelid = c.oid and i.indisprimary and a.attrelid = c.oid and a.attnum = k.attnum order by k.n),
    array['updated_at'] || case format('%s.%s', n.nspname, c.relname)
      when 'tenancy.apps' then array['definition_version']
      when 'auth.sessions' then array['expires_at'] -- a refresh
      when 'access.shares' then array['view_digest']
      when 'data.operations' then array['step', 'reached', 'records_done', 'records_total', 'started_at', 'seen_at']
      else '{}' end,
    case format('%s.%s', n.nspname, c.relname) when 'auth.sessions' then array['insert', 'update']
      else array['insert', 'update', 'delete'] end
  from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  where c.relkind = 'r' and (n.nspname in ('tenancy', 'access')
    or format('%s.%s', n.nspname,
      c.relname) = any (array['auth.accounts', 'auth.sessions', 'auth.signing_keys', 'data.entities', 'data.operations', 'data.plans']))
    -- What the others are compiled into, and what is a log itself.
    and format('%s.%s', n.nspname,
      c.relname) <> all (array['access.held_roles', 'access.rules', 'access.rule_sources', 'access.versions', 'access.used'])
    and obj_description(c.oid, 'pg_class') is distinct from 'Not audited.'
$$;
comment on function audit.watched() is
  'The tables of the control plane whose changes are recorded, with their key, columns whose change alone is not worth an entry, and events. All of tenancy and access, but what is derived from others and tables with the comment Not audited.';

create or replace function audit.organization_of(site_id uuid) returns uuid
language sql stable set search_path = '' as $$
  select e.organization_id
  from audit.entries e
  where e.site_id = organization_of.site_id and e.organization_id is not null
  order by e.at desc
  limit 1
$$;
comment on function audit.organization_of(uuid) is 'The organization of a site that is gone, as the log knows it. Internal.';

-- Planned once a session: planning it took 1.0 of 1.2 ms.
create or replace function audit.note_rows(object text, key text[], unnoticed text[], old jsonb[], new jsonb[]) returns void
language plpgsql set search_path = '' set plan_cache_mode = 'force_generic_plan' as $$
begin
  with o as (
    select (select string_agg(r->>k.name, '/' order by k.n) from unnest(note_rows.key) with ordinality k (name, n)) as record, r as row
    from unnest(note_rows.old) r
  ), n as (
    select (select string_agg(r->>k.name, '/' order by k.n) from unnest(note_rows.key) with ordinality k (name, n)) as record, r as row
    from unnest(note_rows.new) r
  ), pairs as (
    select record, o.row as old, n.row as new, coalesce(n.row, o.row) as any from o full join n using (record)
  ), changed as (
    select p.record, p.any, case when p.old is null then 'create' when p.new is null then 'delete' else 'update' end as action, c.old, c.new
    from pairs p, lateral (
      select jsonb_object_agg(f,
        case when f ~ audit.secret_columns() and p.old->f <> 'null' then '"***"' else p.old->f end) filter (where p.old ? f) as old,
        jsonb_object_agg(f, case when f ~ audit.secret_columns()
          and p.new->f <> 'null' then '"***"' else p.new->f end) filter (where p.new ? f) as new,
        bool_or(f <> all (note_rows.unnoticed) and p.old->f is distinct from p.new->f) as is_worth
      from jsonb_object_keys(p.any) f
      where p.old is null or p.new is null or p.old->f is distinct from p.new->f or f in ('name', 'email')
    ) c
    where c.is_worth
  ), located as (
    select c.*, coalesce((c.any->>'site_id')::uuid,
      case when note_rows.object = 'tenancy.sites'
      and c.action <> 'delete' then (c.any->>'id')::uuid end) as site_id, -- its end is its organization's
      coalesce((c.any->>'organization_id')::uuid,
        case note_rows.object when 'tenancy.organizations' then (c.any->>'id')::uuid end) as organization_id
    from changed c
  )
  insert into audit.entries (keep, site_id, organization_id, account_id, env, action, object, record, old, new)
  select 84, l.site_id, coalesce(l.organization_id, s.organization_id, case when s.id is null then audit.organization_of(l.site_id) end),
    auth.account_id(), c.env, l.action, note_rows.object, l.record, audit.bounded(l.old), audit.bounded(l.new)
  from (select rowhouse.env() as env offset 0) c, located l left join tenancy.sites s on s.id = l.site_id;
end
$$;
comment on function audit.note_rows(text, text[], text[], jsonb[], jsonb[]) is
  'Records the changes of a control-plane table, by rows as they were and as they are: of an update the fields that changed and what names the row. Internal.';

create or replace function audit.note_change() returns trigger
language plpgsql security definer set search_path = '' as $$
declare
  _object text := tg_table_schema || '.' || tg_table_name;
begin
  case tg_op
    when 'INSERT' then
      perform audit.note_rows(_object, tg_argv[0]::text[], tg_argv[1]::text[], '{}', array(select to_jsonb(w) from written w));
    when 'UPDATE' then
      perform audit.note_rows(_object, tg_argv[0]::text[], tg_argv[1]::text[], array(select to_jsonb(g) from gone g),
        array(select to_jsonb(w) from written w));
    when 'DELETE' then
      perform audit.note_rows(_object, tg_argv[0]::text[], tg_argv[1]::text[], array(select to_jsonb(g) from gone g), '{}');
    else
      perform audit.note_rows(_object, array['table'], '{}', array[jsonb_build_object('table', _object, 'truncated', true)], '{}');
  end case;
  return null;
end
$$;
comment on function audit.note_change() is 'Records what a statement did to a table of the control plane.';

create or replace function audit.watch() returns void
language plpgsql set search_path = '' as $$
declare
  _t record;
  _event text;
begin
  for _t in select * from audit.watched() loop
    foreach _event in array _t.events loop
      execute format('create or replace trigger %I after %s on %s %s for each statement execute function audit.note_change(%L, %L)',
        'audit_' || _event, _event, _t.relation,
        case _event when 'insert' then 'referencing new table as written' when 'delete' then 'referencing old table as gone'
          else 'referencing old table as gone new table as written' end,
        _t.key, _t.unnoticed);
    end loop;
    execute format('create or replace trigger audit_truncate after truncate on %s for each statement execute function audit.note_change()',
      _t.relation);
  end loop;
end
$$;
comment on function audit.watch() is 'Puts the triggers on the tables of audit.watched(). Called at every installation. Internal.';
