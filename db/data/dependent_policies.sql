-- Row-level security of one entity may look at the view of another (a condition on company.city), and so do the views of its
-- deleted records and former states: PostgreSQL then drops that view only when those are gone. They are taken away and put back
-- as they were, in the transaction that makes the view anew; what does not fit the new definition refuses it.

create or replace function data.looking_policies(schema_name text, entity text) returns table (table_name text, policy name, command text)
language sql stable set search_path = '' as $$
  select p.polrelid::regclass::text, p.polname,
    format('create policy %I on %s%s for %s to %s%s%s', p.polname, p.polrelid::regclass,
      case when p.polpermissive then '' else ' as restrictive' end,
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

create or replace function data.looking_kept(schema_name text, entity text) returns table (entity_id uuid, view_name text)
language sql stable set search_path = '' as $$
  select e.id, d.objid::regclass::text
  from (
    select distinct r.ev_class as objid
    from pg_catalog.pg_depend d join pg_catalog.pg_rewrite r on d.classid = 'pg_catalog.pg_rewrite'::regclass and r.oid = d.objid
    where d.refclassid = 'pg_catalog.pg_class'::regclass
      and d.refobjid = to_regclass(format('%I.%I', looking_kept.schema_name, looking_kept.entity))
      and r.ev_class <> d.refobjid
  ) d
  join pg_catalog.pg_class c on c.oid = d.objid
  join tenancy.apps a on a.schema_name = c.relnamespace::regnamespace::text
  join data.entities e on e.app_id = a.id and e.name <> looking_kept.entity and c.relname in (e.name || '__deleted', e.name || '__former')
$$;
comment on function data.looking_kept(text, text) is
  'The views of deleted records and former states of other entities whose conditions read an entity''s view, and whose they are.';

-- To lock a view is to lock what it reads, too, by the rights of the view's owner; MAINTAIN is the least that suffices.
create or replace function data.lockable_relations(schema_name text, entity text) returns text[]
language plpgsql set search_path = '' as $$
declare
  _kept text;
begin
  for _kept in
    select c.oid::regclass::text
    from data.looking_kept(lockable_relations.schema_name, lockable_relations.entity) k
    join data.entities e on e.id = k.entity_id
    join pg_catalog.pg_class c on c.relnamespace = lockable_relations.schema_name::regnamespace
      and c.relname in (e.name || '__deleted_records', e.name || '__history', e.name || '__gone')
    where not has_table_privilege('rowhouse_data', c.oid, 'MAINTAIN')
  loop
    execute format('grant maintain on %s to rowhouse_data', _kept);
  end loop;
  return array(
    select p.table_name from data.looking_policies(lockable_relations.schema_name, lockable_relations.entity) p
    union
    select k.view_name from data.looking_kept(lockable_relations.schema_name, lockable_relations.entity) k);
end
$$;
comment on function data.lockable_relations(text, text) is
  'The tables and views whose rules of access read an entity''s view, as SQL, after making sure that data.lock_tables can lock them. Internal.';

drop function if exists data.release_policies(text, text), data.restore_policies(text, text[]);
create or replace function data.release_rules(schema_name text, entity text) returns text[]
language plpgsql set search_path = '' as $$
declare
  _out text[] := '{}';
  _p record;
  _e data.entities;
begin
  for _p in select * from data.looking_policies(release_rules.schema_name, release_rules.entity) loop
    _out := array_append(_out, _p.command);
    execute format('drop policy %I on %s', _p.policy, _p.table_name);
  end loop;
  for _e in
    select e.* from data.entities e
    where e.id in (select k.entity_id from data.looking_kept(release_rules.schema_name, release_rules.entity) k) order by e.id
  loop
    _out := array_append(_out, format('select data.build_kept(e, %L) from data.entities e where e.id = %L',
      release_rules.schema_name, _e.id));
    perform data.drop_kept_front(_e, release_rules.schema_name);
  end loop;
  return _out;
end
$$;
comment on function data.release_rules(text, text) is
  'Drops the policies, and the views of kept records, that read an entity''s view; returns the statements with which data.restore_rules puts them back.';

create or replace function data.restore_rules(entity text, commands text[]) returns void
language plpgsql set search_path = '' as $$
declare
  _command text;
begin
  foreach _command in array restore_rules.commands loop
    begin
      execute _command;
    exception when undefined_column or undefined_function or datatype_mismatch then
      perform rowhouse.fail(409, format('Access rules of %s look at %s and do not fit its new definition',
        coalesce(substring(_command from '^create policy \S+ on (\S+)'), 'an entity'), restore_rules.entity),
        'Change those rules first.', 'still_referenced');
    end;
  end loop;
end
$$;
comment on function data.restore_rules(text, text[]) is
  'Puts back what data.release_rules took away. RH409 when the entity''s new definition lacks a field that rules read.';
