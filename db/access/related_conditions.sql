-- Conditions on the record that one refers to: {"company.city": "Oslo"}. It is read from its view, under its own row-level
-- security, so that a rule never tells of records that the reader may not see; what is hidden is unknown, and an unknown
-- comparison is not true, negated or not. PostgreSQL refuses policies that lead back to themselves only when they run.

create or replace function access.reaches(from_id uuid, to_id uuid) returns boolean
language sql stable set search_path = '' as $$
  with recursive reached (id) as (
    select from_id
    union
    select e.id
    from reached r
    join data.entities o on o.id = r.id
    join tenancy.apps a on a.id = o.app_id
    join pg_catalog.pg_policy p on p.polrelid = to_regclass(data.storage_table(o, a.schema_name))
    join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_policy'::regclass and d.objid = p.oid
      and d.refclassid = 'pg_catalog.pg_class'::regclass
    join pg_catalog.pg_class c on c.oid = d.refobjid and c.relkind = 'v'
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    join tenancy.apps b on b.schema_name = n.nspname
    join data.entities e on e.app_id = b.id and e.name = c.relname
  )
  select exists (select from reached where id = to_id)
$$;
comment on function access.reaches(uuid, uuid) is 'Whether the row-level security of an entity, as installed, looks (through others) at another, or they are the same.';

create or replace function access.compile_related_leaf(leaf jsonb, entity data.entities, source text, context jsonb) returns text
language plpgsql stable set search_path = '' as $$
declare
  _name text := leaf->>'name';
  _level int := coalesce((context->>'related')::int, 0) + 1;
  _root uuid := coalesce((context->>'root')::uuid, entity.id);
  _alias text := 'related_' || _level;
  _r record;
  _key text;
  _inner text;
begin
  if _name !~ '\.' then
    perform rowhouse.fail(400, format('%s is a relation and is no value to compare with', _name),
      format('Name a field of the related record: {"%s.name": "…"}.', _name), 'invalid_condition');
  elsif _level > 2 then
    perform rowhouse.fail(400, 'A condition follows at most 2 relations', 'Keep what rules depend on with the record.',
      'invalid_condition');
  end if;
  _r := data.path_relation(entity.id, _name);
  if access.reaches(_r.id, _root) then
    perform rowhouse.fail(400,
      format('The rules of %s would lead back to themselves by %s', (select e.name from data.entities e where e.id = _root), _name),
      'Records of related entities are read under their own rules: these must not depend on this entity again.', 'recursive_condition');
  end if;
  _key := case when _level > 1 then format('%s.%I', source, _r.own) else (access.stored_field(entity, _r.own, source)).expression end;
  _inner := access.compile_leaf(leaf || jsonb_build_object('name', _r.rest), (select e from data.entities e where e.id = _r.id), _alias,
    context || jsonb_build_object('related', _level, 'root', _root));
  return (
    select format('(%sexists (select from %I.%I %s where %s.%I = %s and %s))',
      case when (leaf->>'negated')::boolean then format('%s is null or ', _key) else '' end,
      a.schema_name, _r.entity, _alias, _alias, _r.other, _key, _inner)
    from tenancy.apps a where a.id = entity.app_id);
end
$$;
comment on function access.compile_related_leaf(jsonb, data.entities, text, jsonb) is
  'A comparison of a field of the record that one refers to, as an exists over its view. RH400 for a relation to many, more than 2 relations, and rules that would lead back to themselves.';
