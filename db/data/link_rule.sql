-- How links are written: the write rule takes the lists out of a record and notes them in _links under the version it makes;
-- after the statement, a trigger makes rows of all of them at once. A record can only be linked to one that its writer may
-- see, else it fails as for a missing one; links that the writer may not see stay.

create or replace function data.links_written(links jsonb, record jsonb, version int, names text[]) returns jsonb
language sql immutable parallel safe set search_path = '' as $$
  select coalesce(links_written.links, '{}') || coalesce(jsonb_object_agg(n, jsonb_build_object('v', links_written.version, 'ids', (
    select coalesce(jsonb_agg(i.id order by i.o), '[]') from (
      select lower(e.id) as id, min(e.o) as o
      from jsonb_array_elements_text(links_written.record->n) with ordinality e (id, o)
      group by 1) i))), '{}')
  from unnest(names) n where links_written.record ? n
$$;
comment on function data.links_written(jsonb, jsonb, int, text[]) is
  'What _links is after a write of record: {property: {"v": the version that wrote it, "ids"}}, properties not in record as before.';

-- null for a list is the empty one, and must be seen before nulls are taken out.
create or replace function data.compile_null_links(entity data.entities) returns text
language sql stable set search_path = '' as $$
  select coalesce(string_agg(format('if new.data->%1$L = ''null'' then new.data := new.data || ''{"%1$s": []}''; end if;', n), E'\n    '),
    '')
  from unnest(data.link_names(entity.schema)) n
$$;
comment on function data.compile_null_links(data.entities) is 'PL/pgSQL that makes an empty list of links of null.';

create or replace function data.compile_take_links(entity data.entities) returns text
language sql stable set search_path = '' as $$
  select case names when '{}' then ''
    else format(E'if new.data ?| %1$L::text[] then\n      new._links := data.links_written(new._links, new.data, new.version, %1$L);\n      new.data := new.data - %1$L::text[];\n    end if;\n    ',
    names::text) end
  from data.link_names(entity.schema) names
$$;
comment on function data.compile_take_links(data.entities) is 'PL/pgSQL that takes lists of links out of a record that is written, and notes them in _links.';

-- Each list is looked up id by id, with offset 0: a plan made for a large batch would read the whole other entity for one record.
create or replace function data.compile_link(entity data.entities, schema_name text, link data.links) returns text
language sql stable set search_path = '' as $$
  select format($sql$
    if exists (select from written n where n._links #>> '{%1$s,v}' = n.version::text) then
      if not data.is_restoring() and exists (
        select from written n, jsonb_array_elements_text(n._links #> '{%1$s,ids}') e (id)
        left join lateral (select true as found from %2$s t where t.id = e.id::uuid offset 0) t on true
        where n._links #>> '{%1$s,v}' = n.version::text and t.found is null)
      then
        raise foreign_key_violation using constraint = %4$L, table = %5$L, detail = 'Key is not present in table "%6$s".',
          message = 'insert or update on table "%5$s" violates foreign key constraint "%4$s"';
      end if;
      if tg_op = 'UPDATE' then
        delete from %3$s l using written n
        where l.source_id = n.id and n._links #>> '{%1$s,v}' = n.version::text and not n._links #> '{%1$s,ids}' ? l.target_id::text
          and exists (select from %2$s t where t.id = l.target_id);
      end if;
      insert into %3$s as l (source_id, target_id, position)
        select n.id, t.id, e.position from written n, jsonb_array_elements_text(n._links #> '{%1$s,ids}') with ordinality e (id, position),
          lateral (select t.id from %2$s t where t.id = e.id::uuid offset 0) t
        where n._links #>> '{%1$s,v}' = n.version::text
        on conflict (source_id, target_id) do update set position = excluded.position where l.position <> excluded.position;
    end if; $sql$, link.field, data.storage_table(t, compile_link.schema_name), data.link_table(entity, compile_link.schema_name, link.field),
    data.index_name(entity, link.field, 'fkey'), data.storage_name(entity), data.storage_name(t))
  from data.entities t where t.id = link.target_id
$$;
comment on function data.compile_link(data.entities, text, data.links) is 'PL/pgSQL that makes the links of a property those that a statement wrote (transition table written).';

create or replace function data.build_link_rule(entity data.entities, schema_name text) returns void
language plpgsql set search_path = '' as $$
declare
  _function text := format('%I.%I', build_link_rule.schema_name, entity.name || '_link');
  _storage text := data.storage_table(entity, build_link_rule.schema_name);
  _event text;
  _table text;
begin
  foreach _event in array array['insert', 'update'] loop
    execute format('drop trigger if exists %I on %s', entity.name || '_link_' || _event, _storage);
  end loop;
  if data.link_names(entity.schema) = '{}' then
    execute format('drop function if exists %s()', _function);
    return;
  end if;
  perform rowhouse.create_function($sql$
    create or replace function %1$s() returns trigger language plpgsql set search_path = '' $sql$, $sql$
    begin
    %2$s
    return null;
    end $sql$, _function, (select string_agg(data.compile_link(entity, build_link_rule.schema_name, l), '' order by l.field) from data.links l where l.entity_id = entity.id));
  execute format('revoke all on function %s() from public', _function);
  foreach _event in array array['insert', 'update'] loop
    execute format('create trigger %I after %s on %s referencing new table as written for each statement when (not data.is_maintenance()) execute function %s()',
      entity.name || '_link_' || _event, _event, _storage, _function);
  end loop;
  for _table in select data.link_table(entity, build_link_rule.schema_name, n) from unnest(data.link_names(entity.schema)) n loop
    execute format('grant select, insert, update, delete on %s to rowhouse_data', _table);
    execute format('comment on table %s is %L', _table, E'@behavior -*\nLinks of an entity.');
    execute format('alter table %s enable row level security, force row level security', _table);
    execute format('drop policy if exists owner_all on %s', _table);
    execute format('create policy owner_all on %s to rowhouse_owner using (true) with check (true)', _table);
    -- Only what the platform generated reaches the table: triggers of records that were allowed to be written, and views that ask
    -- for both records, whatever rules hold for them.
    execute format('drop policy if exists may_link on %s', _table);
    execute format('create policy may_link on %s to rowhouse_data using (true) with check (true)', _table);
  end loop;
end
$$;
comment on function data.build_link_rule(data.entities, text) is 'Generates the trigger that makes links of what is written, and the row-level security of the tables of links, which only generated code may use.';
