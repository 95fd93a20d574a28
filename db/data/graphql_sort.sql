-- GraphQL's sort in the words of every other door, so that their limits are its limits.

create or replace function data.graphql_sort(sort jsonb) returns jsonb
language plpgsql immutable set search_path = '' as $$
declare
  _fields jsonb;
  _relations int;
begin
  with recursive way (place, path, value, relations) as (
    select s.place, f.key, f.value, 0 from jsonb_array_elements(sort) with ordinality s (value, place), jsonb_each(s.value) f
    union all
    select w.place, w.path || '.' || f.key, f.value, w.relations + 1
    from way w, jsonb_each(case jsonb_typeof(w.value) when 'object' then w.value else '{}' end) f
    where w.relations < 5 -- enough to be too many
  )
  select jsonb_agg(jsonb_build_object('field', w.path, 'direction', lower(w.value #>> '{}')) order by w.place)
      filter (where jsonb_typeof(w.value) = 'string'),
    max(w.relations)
  into _fields, _relations
  from way w;
  perform data.check_relations(_relations);
  return data.normalize_sort(_fields);
end
$$;
comment on function data.graphql_sort(jsonb) is
  'A sort as GraphQL has it, [{"company": {"city": "ASC"}}, {"name": "DESC"}], as a query has it: [{"field": "company.city", "direction": '
  '"asc"}, …]. RH400 for more fields, or relations to follow, than those may have.';
