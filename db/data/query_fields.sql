-- Which fields a query filters and sorts by, and which index would serve it.

create or replace function data.filter_conditions(filter jsonb, alternative boolean default false)
returns table (field text, operator text, is_alternative boolean)
language plpgsql immutable set search_path = '' as $$
declare
  _c record;
begin
  for _c in select * from jsonb_each(case jsonb_typeof(filter) when 'object' then filter else '{}' end) loop
    if _c.key in ('$and', '$or') and jsonb_typeof(_c.value) = 'array' then
      return query select f.* from jsonb_array_elements(_c.value) v, data.filter_conditions(v, alternative or _c.key = '$or') f;
    elsif _c.key = '$not' then
      return query select * from data.filter_conditions(_c.value, true);
    elsif jsonb_typeof(_c.value) = 'object' then
      return query select _c.key, o, alternative or o = '$not' from jsonb_object_keys(_c.value) o;
    else
      return query select _c.key, case _c.value when 'null' then '$exists' else '$eq' end, alternative;
    end if;
  end loop;
end
$$;
comment on function data.filter_conditions(jsonb, boolean) is
  'The comparisons of a filter; is_alternative where it stands under $or or $not, so that an index for it alone would not do.';

create or replace function data.entity_indexes(entity data.entities, schema_name text)
returns table (name text, columns text[], is_partial boolean, is_unique boolean, records real)
language sql stable set search_path = '' as $$
  select c.relname::text, array(select coalesce(a.attname::text, '') from unnest(x.indkey::int[]) with ordinality k (n, o)
      left join pg_catalog.pg_attribute a on a.attrelid = x.indrelid and a.attnum = k.n order by o),
    x.indpred is not null, x.indisunique, greatest(t.reltuples, 0)
  from pg_catalog.pg_index x
  join pg_catalog.pg_class c on c.oid = x.indexrelid
  join pg_catalog.pg_class t on t.oid = x.indrelid
  where x.indrelid = to_regclass(data.storage_table(entity, entity_indexes.schema_name)) and x.indisvalid
    -- A column that is being filled holds nothing yet.
    and not exists (select from data.fields f where f.entity_id = entity.id and (f.is_building and not f.is_promoted or f.is_filling)
      and f.name in (select a.attname from pg_catalog.pg_attribute a where a.attrelid = x.indrelid and a.attnum = any (x.indkey::int[])))
$$;
comment on function data.entity_indexes(data.entities, text) is 'The indexes that queries of an entity may use, with their columns.';

create or replace function data.index_words(columns text[]) returns text
language sql immutable set search_path = '' as $$
  select string_agg(c, ', ' order by n)
  from unnest(columns) with ordinality o (c, n)
  where n = 1 or c <> 'id' and not (c = 'created_at' and n = cardinality(columns) - 1)
$$;
comment on function data.index_words(text[]) is 'The columns of an index without those that every index ends with: city of (city, created_at, id).';

create or replace function data.is_indexable(entity_id uuid, field text) returns boolean
language sql stable set search_path = '' as $$
  select field = any (data.system_columns())
    or exists (select from data.fields f
      where f.entity_id = is_indexable.entity_id and f.name = field and field <> 'data' and f.kind not in ('array', 'object', 'any')
      and not data.is_virtual(f.schema)
      and (f.sql_type <> 'numeric'
        or (select p.proleakproof from pg_catalog.pg_proc p where p.oid = 'pg_catalog.numeric_eq(numeric, numeric)'::regprocedure)))
$$;
comment on function data.is_indexable(uuid, text) is
  'Whether an index on a field can serve its filters: a scalar, and decimal only where a superuser installed Rowhouse.';

-- Equal ones in any order, then what is sorted by; an index cannot serve a sort behind a range.
create or replace function data.wanted_fields(entity_id uuid, equal text[], range text[], sort text[]) returns text[]
language sql stable set search_path = '' as $$
  select e || case
    when sort <> '{}' and (select bool_and(data.is_indexable(wanted_fields.entity_id, ltrim(s, '-'))) from unnest(sort) s)
      then array(select s from unnest(sort) with ordinality o (s, n) where not ltrim(s, '-') = any (e) order by n)
    else array(select r from unnest(range) r where data.is_indexable(wanted_fields.entity_id, r) and not r = any (e) order by r limit 1) end
  from (select array(select distinct f from unnest(equal) f where data.is_indexable(wanted_fields.entity_id, f) order by f)) x (e)
$$;
comment on function data.wanted_fields(uuid, text[], text[], text[]) is 'The fields of the index that would serve a query, "-age" for descending.';

create or replace function data.is_served(entity data.entities, schema_name text, equal text[], fields text[]) returns boolean
language sql stable set search_path = '' as $$
  select exists (
    select from data.entity_indexes(entity, is_served.schema_name) i
    where not i.is_partial and (i.is_unique and cardinality(i.columns) = 1 and i.columns[1] = any (n)
      or i.columns[:e] @> n[:e] and n[:e] @> i.columns[:e] and i.columns[e + 1:cardinality(n)] = n[e + 1:]))
  from (select array(select ltrim(f, '-') from unnest(is_served.fields) with ordinality o (f, k) order by k)) x (n),
    lateral (select count(*)::int from unnest(n) f where f = any (equal)) y (e)
$$;
comment on function data.is_served(data.entities, text, text[], text[]) is 'Whether some index begins with these fields; those in equal in any order.';

create or replace function data.index_snippet(fields text[]) returns jsonb
language sql immutable set search_path = '' as $$
  select case when cardinality(fields) = 1 and not ltrim(fields[1], '-') = any (data.system_columns())
    then jsonb_build_object('properties', jsonb_build_object(ltrim(fields[1], '-'), '{"x-index": true}'::jsonb))
    else jsonb_build_object('x-indexes', jsonb_build_array(jsonb_build_object('fields', fields))) end
$$;
comment on function data.index_snippet(text[]) is 'What to write into a definition for an index on these fields.';

create or replace function data.count_words(n numeric) returns text
language sql immutable set search_path = '' as $$ select trim(to_char(round(n), 'FM999,999,999,999,990')) $$;
comment on function data.count_words(numeric) is 'A number as people read it: 200,000.';
