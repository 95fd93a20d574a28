-- Row-level security of one entity may look at the view of another (a condition on company.city): PostgreSQL then drops that
-- view only when those policies are gone. They are taken away and put back as they were, in the transaction that makes the
-- view anew; a policy that does not fit the new definition refuses it.

create or replace function data.looking_policies(schema_name text, entity text) returns table (table_name text, policy name, command text)
language sql stable set search_path = '' as $$
  select p.polrelid::regclass::text, p.polname,
    format('create policy %I on %s%s for %s to %s%s%s', p.polname, p.polrelid::regclass, case when p.polpermissive then '' else ' as restrictive' end,
      case p.polcmd when 'r' then 'select' when 'a' then 'insert' when 'w' then 'update' when 'd' then 'delete' else 'all' end,
      (select string_agg(case r when 0 then 'public' else quote_ident(r::regrole::text) end, ', ') from unnest(p.polroles) r),
      ' using (' || pg_get_expr(p.polqual, p.polrelid) || ')', ' with check (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')')
  from pg_catalog.pg_policy p
  where exists (
    select from pg_catalog.pg_depend d
    where d.classid = 'pg_catalog.pg_policy'::regclass and d.objid = p.oid and d.refclassid = 'pg_catalog.pg_class'::regclass
      and d.refobjid = to_regclass(format('%I.%I', looking_policies.schema_name, looking_policies.entity)))
$$;
comment on function data.looking_policies(text, text) is 'The policies whose expressions read an entity''s view, with the table each is on and the statement that creates it.';

create or replace function data.release_policies(schema_name text, entity text) returns text[]
language plpgsql set search_path = '' as $$
declare
  _out text[] := '{}';
  _p record;
begin
  for _p in select * from data.looking_policies(release_policies.schema_name, release_policies.entity) loop
    _out := array_append(_out, _p.command);
    execute format('drop policy %I on %s', _p.policy, _p.table_name);
  end loop;
  return _out;
end
$$;
comment on function data.release_policies(text, text) is 'Drops the policies that read an entity''s view; returns the statements with which data.restore_policies puts them back.';

create or replace function data.restore_policies(entity text, commands text[]) returns void
language plpgsql set search_path = '' as $$
declare
  _command text;
begin
  foreach _command in array restore_policies.commands loop
    begin
      execute _command;
    exception when undefined_column or undefined_function or datatype_mismatch then
      perform rowhouse.fail(409, format('Access rules of %s look at %s and do not fit its new definition', split_part(split_part(_command, ' on ', 2), ' ', 1), restore_policies.entity),
        'Change those rules first.', 'still_referenced');
    end;
  end loop;
end
$$;
comment on function data.restore_policies(text, text[]) is 'Puts back the policies that data.release_policies took away. RH409 when the entity''s new definition lacks a field that they read.';
