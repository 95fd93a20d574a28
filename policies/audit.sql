-- The schema and its tables are rowhouse_auditor's: db/auditor.sql.

do $$
declare
  _function regprocedure;
begin
  -- Those of rowhouse_auditor are not ours to grant.
  for _function in select p.oid from pg_catalog.pg_proc p
    where p.pronamespace = 'audit'::regnamespace and p.proowner = 'rowhouse_owner'::regrole loop
    execute format('revoke all on function %s from public', _function);
  end loop;
end
$$;

grant execute on function audit.search(text, jsonb), audit.search_organization(text, jsonb), audit.verify(text, text),
  audit.verify_organization(text, text),
  audit.note_read(uuid), audit.note_kept(uuid, text, uuid), audit.note_seen(uuid, uuid[], text), audit.note_share(uuid, text, uuid[], text),
  audit.reads_are_on(jsonb), audit.seen_sql(data.entities, jsonb, text, text), audit.seen_of_sql(data.entities[], text, text, text),
  audit.reached(uuid, text[]), audit.embedded(uuid, jsonb), audit.note_reached(uuid, uuid[]), audit.note_embedded(uuid, jsonb, text[]),
  audit.related_seen_sql(uuid, jsonb, jsonb, text), audit.union_seen_sql(uuid[], text[], text, text)
to rowhouse_account;
grant execute on function audit.note_kept(uuid, text, uuid) to rowhouse_data;
grant execute on function audit.note_denied(jsonb), audit.notes_reads(uuid), audit.noted_views(uuid) to rowhouse_gateway;

select audit.watch();

-- What is kept of records of entities that were defined before reads of it were recorded.
select data.build_kept(e, a.schema_name)
from data.entities e join tenancy.apps a on a.id = e.app_id
where audit.reads_are_on(e.schema) and data.keeps_records(e.schema) and not exists (
  select from pg_catalog.pg_views v where v.schemaname = a.schema_name and v.viewname in (e.name || '__deleted', e.name || '__former')
    and v.definition like '%note_kept%')
order by e.id;
