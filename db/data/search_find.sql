-- The q of a query: the entity's view joined with what its search function finds.

create or replace function data.compile_match(
  entity data.entities, schema_name text, shape jsonb, is_unfiltered boolean, parameter int,
  out source text, out all_of_them text, out sort jsonb, out columns text[], out shape_left jsonb
)
language plpgsql stable set search_path = '' as $$
declare
  _text text := case when shape->'q' = 'true' then format('$%s::text', parameter) else quote_literal(shape->>'q') end;
  _from constant text := '(select v.*, s.rank as _rank, s.words as _words from %1$I.%2$I(%3$s%4$s) s join %1$I.%5$I v on v.id = s.id)';
  _ranked boolean := coalesce(shape->'sort', 'null') in ('null', '[]');
  _page text := coalesce(shape->>'limit', '20');
  _skipped text := coalesce(shape->>'offset', '0');
  _select jsonb := nullif(shape->'select', 'null');
begin
  perform data.require_searched(entity);
  if shape->'q' <> 'true' and jsonb_typeof(shape->'q') <> 'string' then
    perform data.search_terms(null);
  end if;
  sort := case when _ranked then '[{"field": "_rank", "direction": "desc"}]' else data.normalize_sort(shape->'sort') end;
  all_of_them := format(_from, compile_match.schema_name, entity.name || '_search', _text, '', entity.name);
  -- Only a page of the best is read where nothing else chooses among them. Out of range numbers are refused later.
  source := case when _ranked and is_unfiltered
      and 'null' = all (array[coalesce(shape->'cursor', 'null'), coalesce(shape->'page', 'null')])
      and _page ~ '^\d{1,4}$' and _skipped ~ '^\d{1,10}$'
    then format(_from, compile_match.schema_name, entity.name || '_search', _text, format(', %s', _page::bigint + _skipped::bigint + 1),
      entity.name)
    else all_of_them end;
  columns := array(
    select c.expression from (values ('_rank', 't._rank'), ('_snippets', format('data.search_snippets(%s, t._words, %s) as _snippets',
      data.search_configuration(entity), data.search_texts(entity.id, 't')))) c (name, expression)
    where _select is null or jsonb_typeof(_select) = 'array' and _select ? c.name);
  shape_left := shape - 'q' || case when jsonb_typeof(_select) = 'array' and columns <> '{}'
    then jsonb_build_object('select', coalesce(nullif(_select - '_rank' - '_snippets', '[]'), '["id"]')) else '{}' end;
end
$$;
comment on function data.compile_match(data.entities, text, jsonb, boolean, int) is
  'How q changes a query: where records come from, the sort (by rank unless told), the columns _rank and _snippets, and the query without them. RH400.';
