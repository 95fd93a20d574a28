-- Finding records under row-level security, by an index. There the planner uses no index for @@, as its function is not
-- leakproof; only a superuser can say that it is, and not every installer is one. So a function of rowhouse_owner, whom
-- the policies let see every row, asks the index for the places of matching rows, and a function of rowhouse_data reads
-- these places under the policies. Only what it may see comes out, and rank looks at one row and at no other, so hidden
-- rows change neither the order nor the number of what is found. They do cost time, as they do with every index.
-- Of 200,000 records: a word in 877 of them 1.1 ms (1.0 with @@ marked leakproof), in 61,000 85 (49), in 99,000 131 (73);
-- by id instead of place 2.3, 128, 195; without an index 65 to 75, growing with the table and not with what is found.

create or replace function data.search_body(entity data.entities, schema_name text, guard text, condition text) returns text
language plpgsql stable set search_path = '' as $$
declare
  _table text := data.storage_table(entity, search_body.schema_name);
  _candidates text := format('%I.%I', search_body.schema_name, entity.name || '_candidates');
  _ranked constant text := $sql$
      return query
        select s.id, s.rank, %s
        from (
          select t.id, (ts_rank(t._search, _q.exact) + ts_rank(t._search, _q.match))::float8 * _share as rank, t._search as vector
          from %s t where t.ctid = any (array(select %s(_q.match))) and (%s)
          order by 2 desc, 1 desc limit _most
        ) s$sql$;
begin
  return format($sql$
    #variable_conflict use_column
    declare
      _q record := data.search_parse(%1$s, _text);
      _share float8 := 0.5;
    begin
      %5$s
      if numnode(_q.match) = 0 then
        return;
      end if;
      %2$s;
      if found then
        return;
      end if;
      _q := data.search_parse(%1$s, _text, %3$L::pg_catalog.regclass);
      _share := 0.05; -- below what was spelt right, in other entities too
      %4$s;
    end $sql$, data.search_configuration(entity),
    -- What was typed may be told; of what it was replaced with, only what stands in the record.
    format(_ranked, '_q.lexemes || _q.prefixes', _table, _candidates, condition),
    format('%I.%I', search_body.schema_name, entity.name || '__words'),
    format(_ranked, 'array(select w from unnest(tsvector_to_array(s.vector)) w where w = any (_q.lexemes)) || _q.prefixes', _table,
      _candidates, condition),
    guard);
end
$$;
comment on function data.search_body(data.entities, text, text, text) is
  'The body of a function that searches an entity''s records under a condition over t, after a guard: statements.';

create or replace function data.build_search_functions(entity data.entities, schema_name text) returns void
language plpgsql set search_path = '' as $$
declare
  _table text := data.storage_table(entity, build_search_functions.schema_name);
  _search text := format('%I.%I', build_search_functions.schema_name, entity.name || '_search');
  _candidates text := format('%I.%I', build_search_functions.schema_name, entity.name || '_candidates');
  _role name := (select s.role_name from tenancy.sites s where s.id = entity.site_id);
begin
  perform rowhouse.create_function($sql$
    create or replace function %1$s(_query tsquery) returns setof tid
    language sql stable security definer set search_path = '' $sql$, $sql$
      select t.ctid from %2$s t where t._search @@ _query $sql$, _candidates, _table);

  perform rowhouse.create_function($sql$
    create or replace function %1$s(_text text, _most bigint default null) returns table (id uuid, rank float8, words text[])
    language plpgsql stable security definer rows 100 set search_path = '' $sql$, '%2$s', _search,
    data.search_body(entity, build_search_functions.schema_name,
      -- The index holds all searched fields together: what a search finds tells of each of them.
      case when access.is_special(entity) then format('perform access.require_seen(%L, %L);', entity.id,
        array(select (f.field).name from data.search_fields(entity.id) f)) else '' end, 'true'));

  execute format('comment on function %s(text, bigint) is %L', _search,
    E'@behavior -*\nThe records that a text finds, at most so many: id, rank, and the words by which it was found.');
  execute format('comment on function %s(tsquery) is %L', _candidates, E'@behavior -*\nWhere rows are that match, hidden ones too. Internal.');
  execute format('revoke all on function %s(text, bigint), %s(tsquery) from public', _search, _candidates);
  execute format('grant execute on function %s(tsquery) to rowhouse_data', _candidates);
  execute format('grant execute on function %s(text, bigint) to %I, rowhouse_owner', _search, _role);
  execute format('alter function %s(text, bigint) owner to rowhouse_data', _search);
  perform access.build_share_searches(entity);
end
$$;
comment on function data.build_search_functions(data.entities, text) is
  'Generates <entity>_search(text, most): ids, ranks and found words of the records that the caller may see, by the index.';
