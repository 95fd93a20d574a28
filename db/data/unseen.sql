-- Create without read: who may write a record and not see it. PostgreSQL lets nobody have RETURNING who may not SELECT the row,
-- so these records are written without it, and what their writer may see of them is asked afterwards.

create or replace function data.sees_function(entity data.entities, schema_name text) returns text
language sql immutable set search_path = '' as $$ select format('%I.%I()', sees_function.schema_name, (entity).name || '__sees') $$;
comment on function data.sees_function(data.entities, text) is 'The function that tells whether the caller may read every record of an entity, as SQL.';

create or replace function access.sees_all(entity data.entities) returns text
language sql stable set search_path = '' as $$
  select case when not access.is_special(entity) then format('access.allows(%s, ''read'')', data.access_arguments(entity)) else (
    select '(' || string_agg(format('%s(''read'', %s) & %s <> 0', f, w, b), ' or ') || ')'
      || coalesce((select string_agg(format(' and %s(''read'', %s) = 0', f, -d), '') from unnest(access.words(entity, 'read', 'deny')) d),
        '')
    from access.rights_function(entity) f, unnest(access.words(entity, 'read', 'allow')) w, lateral (
      select case w when 1 then 1 else 0 end | coalesce((select bit_or(access.bit(r.number)) from access.rules r
        where r.entity_id = (entity).id and r.action = 'read' and r.effect = 'allow' and r.row_condition is null
          and access.word(r.number) = w), 0)) x (b)
    group by f) end
$$;
comment on function access.sees_all(data.entities) is 'Whether the caller may read every record of an entity, whatever it holds, as SQL.';

-- With the policies: which rules ask nothing of the record changes only as they do.
create or replace function data.build_sees(entity data.entities, schema_name text) returns void
language plpgsql set search_path = '' as $$
declare
  _function text := data.sees_function(entity, build_sees.schema_name);
begin
  perform rowhouse.create_function('create or replace function %1$s returns boolean language sql stable parallel safe', ' select %2$s ',
    _function, access.sees_all(entity));
  execute format('comment on function %s is %L', _function,
    E'@behavior -*\nWhether the caller may read every record of ' || entity.name || '.');
  execute format('revoke all on function %s from public', _function);
  execute format('grant execute on function %s to rowhouse_data', _function);
end
$$;
comment on function data.build_sees(data.entities, text) is 'Generates <entity>__sees(): whether the caller may read every record of an entity.';

create or replace function data.build_unseen(entity data.entities, schema_name text) returns void
language plpgsql set search_path = '' as $$
declare
  _view text := format('%I.%I', build_unseen.schema_name, entity.name);
  _function text := format('%I.%I(jsonb)', build_unseen.schema_name, entity.name || '_insert_unseen');
begin
  perform data.build_sees(entity, build_unseen.schema_name);
  perform rowhouse.create_function($sql$
    create or replace function %1$s(_records jsonb) returns setof %2$s
    language plpgsql set search_path = '' $sql$, $sql$
    declare
      _ids uuid[] := array(
        select coalesce((r.value->>'id')::uuid, uuidv7()) from jsonb_array_elements(_records) with ordinality r (value, n) order by r.n);
    begin
      insert into %3$s as t (id, data)
        select _ids[r.n], r.value - 'id' from jsonb_array_elements(_records) with ordinality r (value, n) order by r.n;
      return query
        select o.* from unnest(_ids) with ordinality i (id, n)
        left join (select %4$s from %3$s t where t.id = any (_ids)) v on v.id = i.id
        cross join lateral (
          select v.* where v.id is not null
          union all
          select p.* from jsonb_populate_record(null::%2$s, jsonb_build_object('id', i.id)) p where v.id is null) o
        order by i.n;
    end $sql$,
    format('%I.%I', build_unseen.schema_name, entity.name || '_insert_unseen'), _view,
    data.storage_table(entity, build_unseen.schema_name), data.column_list(entity, 't'));
  execute format('comment on function %s is %L', _function,
    E'@behavior -*\nInserts a list of records of ' || entity.name || ' for somebody who may not read them all.');
  execute format('revoke all on function %s from public', _function);
  execute format('alter function %s owner to rowhouse_data', _function);
end
$$;
comment on function data.build_unseen(data.entities, text) is
  'Generates <entity>_insert_unseen(records), which inserts a list and returns the records in its order: whole where their writer may read them, else only their ids.';

create or replace function data.drop_unseen(entity data.entities, schema_name text) returns void
language plpgsql set search_path = '' as $$
begin
  execute format('drop function if exists %I.%I(jsonb)', drop_unseen.schema_name, entity.name || '_insert_unseen');
  execute format('drop function if exists %s', data.sees_function(entity, drop_unseen.schema_name));
end
$$;
comment on function data.drop_unseen(data.entities, text) is 'Drops what data.build_unseen made.';

-- A record without a version is one that its writer may not see.
create or replace function data.written_json(record text) returns text
language sql immutable set search_path = '' as $$
  select format('case when %1$s.version is null then json_build_object(''id'', %1$s.id) else row_to_json(%1$s.*) end', record)
$$;
comment on function data.written_json(text) is 'A record that was just inserted (alias record) as JSON, as SQL: only its id where its writer may not see it.';
