-- x-audit: a statement-level trigger on an entity's storage records what was written, whatever the door.

create or replace function audit.is_on(schema jsonb) returns boolean
language sql immutable parallel safe as $$ select coalesce(is_on.schema->'x-audit', 'false') <> 'false' $$;
comment on function audit.is_on(jsonb) is 'Whether changes of the records of an entity with this schema are recorded.';

create or replace function audit.secret_fields(schema jsonb) returns text[]
language sql immutable parallel safe set search_path = '' as $$
  select coalesce(array_agg(p.key), '{}') from jsonb_each(secret_fields.schema->'properties') p
  where jsonb_typeof(p.value) = 'object' and (p.value->'writeOnly' = 'true' or p.value->>'format' = 'password')
$$;
comment on function audit.secret_fields(jsonb) is 'The fields of an entity whose values are not written down: writeOnly, or of the format password.';

create or replace function audit.hide(record jsonb, fields text[]) returns jsonb
language sql immutable parallel safe set search_path = '' as $$
  select hide.record || coalesce((select jsonb_object_agg(f, '***') from unnest(hide.fields) f where hide.record ? f), '{}')
$$;
comment on function audit.hide(jsonb, text[]) is 'A record with *** in place of the values of fields.';

create or replace function audit.written_down(entity data.entities, source text) returns text
language sql immutable parallel safe set search_path = '' as $$
  select format(case when s.fields = '{}' then 'audit.bounded(%s)' else 'audit.bounded(audit.hide(%s, %L))' end, written_down.source,
    s.fields)
  from audit.secret_fields(entity.schema) s (fields)
$$;
comment on function audit.written_down(data.entities, text) is 'The SQL of what is written down of a record that the SQL expression source gives.';

create or replace function audit.months_kept(settings jsonb) returns smallint
language sql immutable parallel safe as $$ select coalesce((months_kept.settings #>> '{audit,keep_months}')::smallint, 12::smallint) $$;
comment on function audit.months_kept(jsonb) is 'For how many months entries about the records of a site with these settings are kept: audit.keep_months, 12 unless set.';

create or replace function audit.build_function(entity data.entities, schema_name text) returns void
language plpgsql set search_path = '' as $$
declare
  _function text := format('%I.%I', build_function.schema_name, entity.name || '_note_changes');
  _object text := (select s.name || '/' || a.name || '/' || entity.name from tenancy.apps a join tenancy.sites s on s.id = a.site_id
    where a.id = entity.app_id);
  _write text := (select format($sql$
        insert into audit.entries (site_id, organization_id, keep, account_id, env, action, object, record, old, new, reason)
        select %L, %L, %s, auth.account_id(), c.env, %%s from (select rowhouse.env() as env offset 0) c, %%s;$sql$,
      s.id, s.organization_id, audit.months_kept(s.settings)) from tenancy.sites s where s.id = entity.site_id);
begin
  perform rowhouse.create_function($sql$
    create or replace function %1$s() returns trigger language plpgsql security definer set search_path = '' $sql$, $sql$
    begin
      if tg_op = 'INSERT' then%2$s
      elsif tg_op = 'UPDATE' then%3$s
      else%4$s
      end if;
      return null;
    end $sql$, _function,
    format(_write, format('%L, %L, w.id::text, null, %s, null', 'create', _object,
      audit.written_down(entity, data.record_source(entity, 'w'))), 'written w'),
    format(_write, format('%L, %L, w.id::text, %s, %s, null', 'update', _object, audit.written_down(entity, 'd.old'),
      audit.written_down(entity, 'd.new')),
      format('written w join gone g on g.id = w.id, lateral (select %s as old, %s as new offset 0) r, lateral (
            select jsonb_object_agg(f, r.old->f) filter (where r.old ? f) as old, jsonb_object_agg(f, r.new->f) filter (where r.new ? f) as new
            from jsonb_object_keys(r.old || r.new) f where r.old->f is distinct from r.new->f having count(*) > 0) d',
        data.record_source(entity, 'g'), data.record_source(entity, 'w'))),
    format(_write, format('%L, %L, g.id::text, %s, null, case when data.is_expiring() then %L end', 'delete', _object,
      audit.written_down(entity, data.record_source(entity, 'g')), 'expired'),
      'gone g'));
  execute format('revoke all on function %s() from public', _function);
end
$$;
comment on function audit.build_function(data.entities, text) is 'Generates the trigger function that records changes of an entity''s records.';

create or replace function audit.build(entity data.entities, schema_name text) returns void
language plpgsql set search_path = '' as $$
declare
  _storage text := data.storage_table(entity, build.schema_name);
  _function text := format('%I.%I', build.schema_name, entity.name || '_note_changes');
  _event text;
begin
  foreach _event in array array['insert', 'update', 'delete'] loop
    execute format('drop trigger if exists %I on %s', entity.name || '_note_changes_' || _event, _storage);
  end loop;
  if not audit.is_on(entity.schema) then
    execute format('drop function if exists %s()', _function);
    return;
  end if;
  perform audit.build_function(entity, build.schema_name);
  foreach _event in array array['insert', 'update', 'delete'] loop
    execute format('create trigger %I after %s on %s %s for each statement when (not data.is_maintenance()) execute function %s()',
      entity.name || '_note_changes_' || _event, _event, _storage,
      case _event when 'insert' then 'referencing new table as written' when 'delete' then 'referencing old table as gone'
        else 'referencing old table as gone new table as written' end, _function);
  end loop;
end
$$;
comment on function audit.build(data.entities, text) is 'Makes changes of an entity''s records be recorded, when it has x-audit; else no longer.';

create or replace function audit.sites_after_settings() returns trigger
language plpgsql set search_path = '' as $$
begin
  perform audit.build_function(e, a.schema_name) from data.entities e join tenancy.apps a on a.id = e.app_id
    where e.site_id = new.id and audit.is_on(e.schema);
  return null;
end
$$;
comment on function audit.sites_after_settings() is 'How long entries are kept stands in the trigger functions: they are made anew.';

create or replace trigger sites_after_settings after update of settings on tenancy.sites
for each row when (old.settings->'audit' is distinct from new.settings->'audit') execute function audit.sites_after_settings();
