-- As installed, so that what is read without a lock is asked the same question as what is locked.
create or replace function data.update_rights(entity_id uuid) returns text
language sql stable security definer set search_path = '' as $$
  select access.installed_predicates(update_rights.entity_id) #>> '{may_update,using}'
$$;
comment on function data.update_rights(uuid) is
  'Which storage rows of an entity its caller may update, as SQL over the row by the table''s name; raises RH403 where that is none.';

create or replace function data.build_upsert_function(entity data.entities, schema_name text) returns void
language plpgsql set search_path = '' as $$
declare
  _record text := data.record_source(entity, 't');
  _defaults jsonb;
  _is_same text;
  _guarded boolean := access.checks_fields(entity);
begin
  select coalesce(jsonb_object_agg(f.name, f.schema->'default'), '{}') into _defaults
  from data.fields f where f.entity_id = entity.id and f.schema ? 'default';
  -- Through the view's types where one value has several spellings, so that 12:00Z and 12:00+00:00 are the same.
  select case
    -- Whether what is kept is still valid would tell of it.
    when access.has_timed_guards(entity)
      then format($sql$n.data = n.old or n.data - array(select jsonb_object_keys(%1$L)) = '{}' and (
        select bool_and(access.is_same(f.value, n.data->f.key, n.old->f.key)) from jsonb_each_text(%1$L) f)$sql$,
        (select jsonb_object_agg(f.name, f.kind) from data.fields f where f.entity_id = entity.id))
    when exists (select from data.fields f where f.entity_id = entity.id and f.kind in ('date-time', 'date', 'uuid', 'decimal'))
    then format($sql$case when n.data = n.old then true when %1$s(n.data) <> '[]' then false
      else to_jsonb(jsonb_populate_record(null::%2$s, n.data)) = to_jsonb(jsonb_populate_record(null::%2$s, n.old)) end$sql$,
      format('%I.%I', schema_name, entity.name || '_violations'), format('%I.%I', schema_name, entity.name))
    else 'n.data = n.old' end
  into _is_same;

  perform rowhouse.create_function($sql$
    create or replace function %1$s(_records jsonb, _key text[], _return boolean) returns text
    language plpgsql security definer set search_path = '' $sql$, $sql$
    declare
      _list constant jsonb := case jsonb_typeof(_records) when 'object' then jsonb_build_array(_records) else _records end;
      _parts constant jsonb := (select jsonb_agg(%5$L::jsonb->k order by k) from (select distinct unnest(_key)) x (k));
      -- Values of their own, of as many rows as there are: under row security an index is used for nothing that must first be
      -- taken out of JSON, and a table of 10,000 would be read for one record.
      _input constant text := format('(select r.*, %%s from jsonb_array_elements($1) with ordinality r (value, n) where r.n = any ($2) limit %%s) r',
        (select string_agg(format('%%s as k%%s', p.value->>'value', p.n), ', ')
          from jsonb_array_elements(_parts) with ordinality p (value, n)),
        case jsonb_typeof(_list) when 'array' then jsonb_array_length(_list) end);
      _match constant text := (select string_agg(format('%%s = r.k%%s', p.value->>'column', p.n), ' and ')
        from jsonb_array_elements(_parts) with ordinality p (value, n));
      _key_of constant text := array_to_string(array(select distinct k from unnest(_key) k order by k), ',');
      _may_update constant text := data.update_rights(%10$L);
      _left bigint[];
      _changed bool := true;
      _ns bigint[];
      _ids uuid[];
      _all_ns bigint[] := '{}';
      _all_ids uuid[] := '{}';
      _errors jsonb;
      _count int;
      _inserted int := 0;
      _updated int := 0;
      _unchanged int := 0;
    begin
      if _parts is null or _parts @> 'null' then
        perform rowhouse.fail(400, format('%%s is not a field of %%s that can be a key',
            coalesce((select quote_literal(left(k, 80)) from unnest(_key) k where not %5$L::jsonb ? coalesce(k, '') limit 1), 'Nothing'),
            %4$L),
          'Name what identifies a record, best something unique: ' || array_to_string(%9$L::text[], ' or ') || '.', 'invalid_key');
      end if;
      %17$s
      perform data.check_batch(%4$L, _list);
      perform data.refuse_keys(%4$L, _list, _parts, _records);
      %24$s
      -- Where no index says that there is one record only, those who upsert take turns.
      if _key_of <> all (%9$L::text[]) then
        perform pg_advisory_xact_lock(hashtextextended('data.upsert/' || %10$L, 0));
      end if;
      _left := array(select generate_series(1, jsonb_array_length(_list)));
      begin
        -- What is there already as it is sent is read and not locked: 1,000,000 such records took 61 s of CPU, 32 so.
        -- Who may not change a record is refused nevertheless.
        if _key_of = any (%9$L::text[]) and _may_update <> '' then
          execute format($q$
            select coalesce(array_agg(s.n) filter (where s.is_same), '{}'), coalesce(array_agg(s.id) filter (where s.is_same), '{}'),
              count(*) filter (where s.is_same is not true) > 0
            from (
              select r.n, t.id, (%19$s)%20$s and coalesce(r.value->>'version', t.version::text) = t.version::text as is_same
              from %%s join (select * from %3$s where %%s) t on %%s,
                lateral (select o.old, %21$s from (select %22$s offset 0) o (old) offset 0) n (old, data)) s$q$,
            _input, _may_update, _match)
          into _all_ns, _all_ids, _changed using _list, _left;
          _unchanged := cardinality(_all_ns);
          _left := array(select unnest(_left) except select unnest(_all_ns));
        end if;
        -- What another transaction inserted meanwhile is found the next time; what then is still taken, by another unique
        -- property or out of sight, is an error.
        for _attempt in 1 .. 3 loop
          exit when _left = '{}';
          if _changed or _attempt > 1 then
            execute format($q$
              select coalesce(array_agg(l.n), '{}'), coalesce(array_agg(l.id), '{}'),
                jsonb_agg(jsonb_build_object('pointer', format('/%%%%s/version', l.n - 1),
                  'message', format('is not the current one: %%%%s', l.version)) order by l.n)
                  filter (where l.wanted <> l.version::text)
              from (select r.n, t.id, t.version, r.value->>'version' as wanted from %%s join %3$s t on %%s
                order by t.id for update of t) l$q$, _input, _match)
            into _ns, _ids, _errors using _list, _left;
            if _errors is not null then
              perform rowhouse.fail(409, format('A record of %%s was changed in the meantime', %4$L),
                'Nothing was written. errors lists them by JSON pointer into the list of records.', 'version_conflict',
                data.errors_of(_errors, _records));
            elsif cardinality(_ns) > (select count(distinct n) from unnest(_ns) n) then
              select jsonb_agg(jsonb_build_object('pointer', format('/%%s/%%s', n - 1, _parts #>> '{0,name}'),
                'message', 'is the key of more than one record') order by n)
              into _errors from (select n from unnest(_ns) n group by n having count(*) > 1) x;
              perform rowhouse.fail(409, format('More than one record of %%s has this key', %4$L),
                'Name a unique property as the key.', 'ambiguous_key', data.errors_of(_errors, _records));
            end if;
            _all_ns := _all_ns || _ns;
            _all_ids := _all_ids || _ids;
            with changed as materialized (
              select m.id, r.value from unnest(_ns, _ids) m (n, id)
              join (select * from jsonb_array_elements(_list) with ordinality limit jsonb_array_length(_list)) r (value, n) on r.n = m.n
              join %3$s t on t.id = m.id, lateral (select o.old, %12$s from (select %14$s offset 0) o (old) offset 0) n (old, data)
              where not (%6$s)%16$s
            ), changing as (
              update %3$s t set data = %11$s || %15$s(c.value) from changed c where t.id = c.id returning 1
            )
            select count(*) into _count from changing;
            _updated := _updated + _count;
            _unchanged := _unchanged + cardinality(_ns) - _count;
            _left := array(select unnest(_left) except select unnest(_ns));
            exit when _left = '{}';
          end if;
          execute format($q$
            with new as materialized (
              select r.n, coalesce((r.value->>'id')::uuid, uuidv7()) as id, r.value - 'id' - 'version' as data, row_number() over (order by %%s) as place from %%s
            ), inserting as (
              insert into %3$s as t (id, data) select n.id, n.data from new n order by n.place %%s returning t.id
            )
            select coalesce(array_agg(n.n), '{}'), coalesce(array_agg(n.id), '{}') from inserting i join new n on n.id = i.id$q$,
            (select string_agg('r.k' || n, ', ') from generate_series(1, jsonb_array_length(_parts)) n), _input, case when _attempt < 3 then 'on conflict do nothing' else '' end)
          into _ns, _ids using _list, _left;
          _all_ns := _all_ns || _ns;
          _all_ids := _all_ids || _ids;
          _inserted := _inserted + cardinality(_ns);
          _left := array(select unnest(_left) except select unnest(_ns));
        end loop;
      exception when sqlstate 'RH422' then
        %23$s
        execute format($q$
          select jsonb_agg(x._e || jsonb_build_object('pointer', '/' || (r.n - 1) || (x._e->>'pointer')) order by r.n, x._i)
          from %%s left join %3$s t on %%s,
            jsonb_array_elements(%7$s(%13$s)) with ordinality x (_e, _i)$q$, _input, _match)
        into _errors using _list, array(select generate_series(1, jsonb_array_length(_list)));
        if _errors is null then
          raise;
        end if;
        perform data.refuse_batch('A record of ' || %4$L || ' is not valid: ', data.errors_of(_errors, _records));
      when insufficient_privilege then
        perform access.refuse_unseen(%18$L, 'upsert');
      end;
      return '{' || case when _return then '"data":[' || coalesce((select string_agg(row_to_json(v.*)::text, ',' order by x.n)
          from unnest(_all_ns, _all_ids) x (n, id) join %2$s v on v.id = x.id), '') || '],' else '' end
        || format('"meta":{"inserted":%%s,"updated":%%s,"unchanged":%%s}}', _inserted, _updated, _unchanged);
    end $sql$,
    format('%I.%I', schema_name, entity.name || '_upsert'), format('%I.%I', schema_name, entity.name),
    data.storage_table(entity, schema_name), entity.name, data.key_parts(entity)::text, _is_same,
    format('%I.%I', schema_name, entity.name || '_violations'), _defaults::text,
    data.unique_keys(entity)::text, entity.id::text, _record,
    data.computed_call(entity, schema_name, 'data.without_nulls(o.old || data.record_data(r.value))'),
    replace(data.computed_call(entity, schema_name, format('data.without_nulls(case when t.id is null then %L::jsonb || (r.value - ''id'' - ''version'') else %s || data.record_data(r.value) end)',
      _defaults, _record)), '%', '%%'), -- it stands within a format
    data.with_linked_lists(entity, _record, 't'),
    case when _guarded then 'access.named' else 'data.record_data' end,
    -- Who does not see a field must not learn that it has a value already.
    case when _guarded then format(' or r.value ?| (select access.unseen(%L))', entity.id) else '' end,
    case when _guarded then format('perform access.require_seen(%L, _key);', entity.id) else '' end, access.entity_path(entity),
    replace(_is_same, '%', '%%'), case when _guarded then format(' and not r.value ?| (select access.unseen(%L))', entity.id) else '' end,
    replace(data.computed_call(entity, schema_name, 'data.without_nulls(o.old || data.record_data(r.value))'), '%', '%%'),
    replace(data.with_linked_lists(entity, _record, 't'), '%', '%%'),
    access.compile_list_check(entity, 't', 'r.value', 'unnest(_all_ns, _all_ids) m (n, id) join jsonb_array_elements(_list) '
      || 'with ordinality r (value, n) on r.n = m.n join ' || data.storage_table(entity, schema_name) || ' t on t.id = m.id'),
    access.guess_check(entity, '_list'));
end
$$;
comment on function data.build_upsert_function(data.entities, text) is
  'Generates the function that inserts or updates a list of records of an entity, matched by what is unique.';
