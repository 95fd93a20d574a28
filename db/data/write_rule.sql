-- The one rule for writes to an entity, as triggers on its storage: every door passes here.

create or replace function data.build_violations(entity data.entities, schema_name text) returns void
language plpgsql set search_path = '' as $$
declare
  _violations text := format('%I.%I', build_violations.schema_name, entity.name || '_violations');
begin
  perform rowhouse.create_function($sql$
    create or replace function %1$s(_v0 jsonb) returns jsonb language plpgsql %3$s $sql$, $sql$
    declare
      _e jsonb := '[]'; _t text; _n numeric; _k text;
      _v1 jsonb; _v2 jsonb; _v3 jsonb; _v4 jsonb; _v5 jsonb; _v6 jsonb; _v7 jsonb; _v8 jsonb; _v9 jsonb; _v10 jsonb;
      _i1 bigint; _i2 bigint; _i3 bigint; _i4 bigint; _i5 bigint; _i6 bigint; _i7 bigint; _i8 bigint; _i9 bigint;
    begin
    %2$s
    return _e;
    end $sql$, _violations, data.compile_record(entity.schema), data.rules_volatility(entity.schema));
  execute format('revoke all on function %s(jsonb) from public', _violations);
  execute format('grant execute on function %s(jsonb) to rowhouse_data', _violations);
  execute format('comment on function %s(jsonb) is %L', _violations, E'@behavior -*\nWhat is wrong with a record''s data.');
  perform data.build_computed(entity, build_violations.schema_name);
end
$$;
comment on function data.build_violations(data.entities, text) is 'Generates <entity>_violations(data), which lists what is wrong with a record as [{pointer, message}].';

create or replace function data.build_write_rule(entity data.entities, schema_name text) returns void
language plpgsql set search_path = '' as $$
declare
  _table text := data.storage_table(entity, build_write_rule.schema_name);
  _violations text := format('%I.%I', build_write_rule.schema_name, entity.name || '_violations');
  _trigger text := format('%I.%I', build_write_rule.schema_name, entity.name || '_before_write');
  _defaults jsonb := data.default_values(entity.id);
  _promote text := (select string_agg(format('new.%I := %s;', k.name, k.expression), E'\n    ')
    from data.stored_columns(entity, 'new.data') k);
  _unset text;
begin
  perform data.build_violations(entity, build_write_rule.schema_name);
  select string_agg(format('if new.%1$I is null and old.%1$I is not null then new.data := new.data - %1$L; end if;', f.name), E'\n      ')
      filter (where exists (select from data.relations r where r.entity_id = f.entity_id and r.field = f.name and r.on_delete = 'set null'))
  into _unset
  from data.fields f where f.entity_id = entity.id;

  perform rowhouse.create_function($sql$
    create or replace function %1$s() returns trigger language plpgsql set search_path = '' $sql$, $sql$
    declare
      _errors jsonb;
      _names text[];
      _closed text[];
      _unseen text[];
      _shown jsonb;
    begin
    if tg_op = 'UPDATE' then
      %2$s
    end if;
    %13$s
    %14$s
    %12$s tg_op = 'INSERT' then
      %9$s
      new.version := 1;
      new.created_at := now();
      new.updated_at := new.created_at;
      new.created_by := auth.account_id();
    else
      new.id := old.id;
      new.version := old.version + 1;
      new.created_at := old.created_at;
      new.updated_at := now();
      new.created_by := old.created_by;
    end if;
    new._schema_version := %8$s;
    %11$s
    if (%10$s) is not true then
      if jsonb_path_exists(new.data, '$.* ? (@ == null)') then
        new.data := case tg_op when 'INSERT' then %3$L::jsonb else '{}' end || data.without_nulls(new.data);
      end if;
      _errors := %4$s(new.data);
      if _errors <> '[]' then
        if tg_op = 'INSERT' then
          perform %7$s; -- those who may not write learn that first
        end if;%15$s
        perform rowhouse.fail(422, %5$L || ltrim((_errors #>> '{0,pointer}') || ' ' || (_errors #>> '{0,message}')),
          'errors lists every problem by JSON pointer.', 'validation_failed', _errors);
      end if;
    end if;
    %6$s
    return new;
    end $sql$, _trigger, data.compile_before_update(entity, coalesce(_unset, 'null;')), _defaults::text, _violations,
    format('This record of %s is not valid: ', entity.name),
    data.compile_take_links(entity) || coalesce(_promote, '') || E'\n    ' || data.compile_expiry_rule(entity, build_write_rule.schema_name)
      || access.compile_new_check(entity, 'check') || case entity.storage when 'flat' then E'\n    new.data := null;' else '' end,
    access.right_predicate(entity, 'create', true), entity.version::text,
    access.compile_new_check(entity, 'names')
      || case when _defaults <> '{}' then format(' new.data := %L::jsonb || new.data;', _defaults) else '' end,
    coalesce(data.record_check(entity, 'new.data'), 'false'),
    data.compile_computed(entity, build_write_rule.schema_name, _defaults),
    case when entity.schema->'x-soft-delete' = 'true' then E'if data.is_restoring() then\n      null;\n    elsif' else 'if' end,
    concat_ws(E'\n    ', nullif(access.compile_name_check(entity), ''), data.compile_null_links(entity), data.compile_aliases(entity)),
    access.compile_field_check(entity), access.compile_told_errors(entity));
  execute format('alter table %s alter _schema_version set default 0', _table);
  execute format('
    create or replace trigger %I before insert on %s
    for each row when (new._schema_version = 0 and not data.is_maintenance()) execute function %s()',
    entity.name || '_before_insert', _table, _trigger);
  execute format('create or replace trigger %I before update on %s for each row when (not data.is_maintenance()) execute function %s()',
    entity.name || '_before_write', _table, _trigger);
  execute format('revoke all on function %s() from public', _trigger);
  perform data.build_reference_rule(entity, build_write_rule.schema_name);
end
$$;
comment on function data.build_write_rule(data.entities, text) is
  'Generates an entity''s validation and its before-write trigger (upgrade, defaults, stamps, promoted columns).';

-- Nobody but rowhouse_owner writes to a storage past its write rule, so a forged setting opens nothing.
create or replace function data.is_maintenance() returns boolean
language sql stable parallel safe
return current_user = 'rowhouse_owner' and coalesce(current_setting('rowhouse.maintenance', true), '') = 'on';
comment on function data.is_maintenance() is 'Whether the platform itself is rearranging stored records, which changes neither their version nor their time.';

-- on delete set null comes as a change of the column alone.
create or replace function data.compile_before_update(entity data.entities, unset text) returns text
language sql stable set search_path = '' as $$
  select case
    when entity.storage = 'flat' and (data.computed_names(entity.schema) <> '{}' or data.pending_defaults(entity) <> '{}'
      or data.is_retyping(entity))
    then
      format('if new.data is null then new.data := %s; end if;', data.record_source(entity, 'new'))
    when entity.storage = 'flat' then $sql$if new.data is null then
        new.version := old.version + 1;
        new.updated_at := now();
        return new;
      end if;$sql$
    when data.record_source(entity, 't') <> 't.data' then format($sql$if old._schema_version <> %1$s then
        select case when new.data = old.data then u.data else new.data end, u.dropped into new.data, new._dropped
        from %2$I.%3$I(old.data, old._dropped, old._schema_version) u;
      end if;
      %4$s$sql$, entity.version, a.schema_name, entity.name || '_upgraded', unset)
    else unset
  end
  from tenancy.apps a where a.id = entity.app_id
$$;
comment on function data.compile_before_update(data.entities, text) is
  'PL/pgSQL that prepares an update: what a foreign key unset leaves data too, and a record of an earlier definition is upgraded.';

-- Foreign keys are checked with row security off: a record could point to one its writer may not see. This check runs
-- under row security and fails like the foreign key does, so that hidden and missing look the same.
create or replace function data.build_reference_rule(entity data.entities, schema_name text) returns void
language plpgsql set search_path = '' as $$
declare
  _function text := format('%I.%I', build_reference_rule.schema_name, entity.name || '_after_write');
  _table text := data.storage_table(entity, build_reference_rule.schema_name);
  _inserted text;
  _updated text;
  _event text;
begin
  select string_agg(format(x.check, ''), '' order by r.field),
    -- What a record referred to before stays, seen or not.
    string_agg(format(x.check, format(' and not exists (select from former o where o.id = n.id and o.%1$I = n.%1$I)', r.field)), '' order by r.field)
  into _inserted, _updated
  from data.relations r join data.entities t on t.id = r.target_id,
    lateral (select format($sql$
      if exists (select from written n
        where n.%1$I is not null and not exists (select from %2$s t where t.%3$I = n.%1$I%7$s)%%s) then
        raise foreign_key_violation using constraint = %4$L, table = %5$L, detail = 'Key is not present in table "%6$s".',
          message = 'insert or update on table "%5$s" violates foreign key constraint "%4$s"';
      end if; $sql$,
      r.field, data.storage_table(t, build_reference_rule.schema_name), r.target_field,
      data.index_name(entity, r.field, 'fkey'), data.storage_name(entity), data.storage_name(t),
      -- Who does not see a field does not refer by it: that it finds a record would tell its value.
      case when r.target_field <> 'id' then format(' and not (select %L = any (access.unseen(%L)))', r.target_field, r.target_id)
        else '' end)) x ("check")
  where r.entity_id = entity.id;

  foreach _event in array array['insert', 'update'] loop
    execute format('drop trigger if exists %I on %s', entity.name || '_after_' || _event, _table);
  end loop;
  if _inserted is null then
    execute format('drop function if exists %s()', _function);
    return;
  end if;
  perform rowhouse.create_function($sql$
    create or replace function %1$s() returns trigger language plpgsql set search_path = '' $sql$, $sql$
    begin
    if auth.account_id() is null and tenancy.site_id() is null and not data.hides_records(%3$L::uuid[]) then
      return null;
    end if;
    if tg_op = 'INSERT' then
      %2$s
    else
      %4$s
    end if;
    return null;
    end $sql$, _function, _inserted,
    (select array_agg(distinct r.target_id) from data.relations r where r.entity_id = entity.id)::text, _updated);
  execute format('revoke all on function %s() from public', _function);
  foreach _event in array array['insert', 'update'] loop
    execute format('create trigger %I after %s on %s referencing%s new table as written for each statement
        when (not data.is_maintenance()) execute function %s()',
      entity.name || '_after_' || _event, _event, _table, case _event when 'update' then ' old table as former' else '' end, _function);
  end loop;
end
$$;
comment on function data.build_reference_rule(data.entities, text) is
  'Generates the statement-level trigger that refuses references to records the writer may not see, and by fields it does not see.';

create or replace function data.drop_write_rule(entity data.entities, schema_name text) returns void
language plpgsql set search_path = '' as $$
begin
  execute format('
    drop function if exists %1$I.%2$I(jsonb), %1$I.%3$I(), %1$I.%4$I(), %1$I.%5$I(jsonb, jsonb, int), %1$I.%6$I(jsonb)',
    drop_write_rule.schema_name,
    entity.name || '_violations', entity.name || '_before_write', entity.name || '_after_write',
    entity.name || '_upgraded', entity.name || '_computed');
  execute format('drop function if exists %I.%I(jsonb)', drop_write_rule.schema_name, entity.name || '_make_room');
end
$$;
comment on function data.drop_write_rule(data.entities, text) is 'Drops the functions that data.build_write_rule and data.build_upgrade made.';
