-- Relations of an entity with many records: the foreign key is added not valid, so that it holds for what is written from then on, and is
-- validated when the column is full. Validating reads every record while everybody goes on.

create or replace function data.validate_next_reference(operation data.operations, table_name text) returns boolean
language plpgsql set search_path = '' as $$
declare
  _statement text := (
    select s from jsonb_array_elements_text(operation.arguments->'statements') with ordinality o (s, n)
    join pg_catalog.pg_constraint c on c.conrelid = to_regclass(table_name)
      and quote_ident(c.conname) = substring(s from ' validate constraint (\S+)$') and not c.convalidated
    order by n limit 1);
begin
  if _statement is null then
    return false;
  end if;
  begin
    execute _statement;
  exception
    when foreign_key_violation then
      perform data.refuse_orphans(operation.entity_id);
    when check_violation or not_null_violation then
      perform data.refuse_misfits(e, data.misfits(e, a.schema_name))
      from data.entities e join tenancy.apps a on a.id = e.app_id where e.id = operation.entity_id;
      raise;
  end;
  return true;
end
$$;
comment on function data.validate_next_reference(data.operations, text) is
  'Validates the next foreign key, check or not null of an operation; false when all are valid. RH409 when records refer to none or do not fit.';

create or replace function data.unfinished_references(operation data.operations, table_name text) returns text[]
language sql stable set search_path = '' as $$
  select array(
    select a.attname::text from pg_catalog.pg_constraint c
    join pg_catalog.pg_attribute a on a.attrelid = c.conrelid and a.attnum = c.conkey[1]
    join jsonb_array_elements_text(operation.arguments->'statements') s on quote_ident(c.conname) = substring(s from ' validate constraint (\S+)$')
    where c.conrelid = to_regclass(table_name) and c.contype = 'f' order by 1)
$$;
comment on function data.unfinished_references(data.operations, text) is 'The fields whose relations an operation builds.';

