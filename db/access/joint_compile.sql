-- How joint rules come into an entity's write rule, and into what else says what is wrong with a record.

create or replace function access.joint_guards(entity data.entities, restricted text[]) returns jsonb
language sql stable set search_path = '' as $$
  with guarded (name) as (
    select n from unnest(restricted) n where n <> all (data.link_names((entity).schema)) -- what is kept of them is no part of a record
  )
  select coalesce(jsonb_agg(jsonb_build_object(
    'label', case j.kind when 'computed' then format('%s is computed from both', j.label)
      when 'schema' then format('%s of the definition', j.label)
      when 'unique' then format('%s must be unique', j.label)
      when 'index' then format('%s are indexed, and long', j.label)
      when 'search' then 'both are searched, and long'
      else j.label end,
    'fields', (select jsonb_object_agg(f, coalesce(data.kind((entity).schema->'properties'->f), 'any')) from unnest(j.fields) f),
    'guarded', (select jsonb_agg(g.name order by g.name) from guarded g where g.name = any (j.fields)),
    'timed', j.timed, 'longer', j.longer) order by j.kind, j.label, j.fields), '[]')
  from access.joint_rules(entity) j
  where exists (select from guarded)
    and exists (select from guarded g where g.name = any (j.fields))
$$;
comment on function access.joint_guards(data.entities, text[]) is
  'The joint rules of an entity that read a field which some writers do not see (restricted), as access.check_joint takes them; [] for '
  'none.';

create or replace function access.own_restricted(entity data.entities, shows jsonb) returns text[]
language sql stable set search_path = '' as $$
  select array(
    select r.field from access.restricted(entity, own_restricted.shows) r
    where r.bases = array[r.field] and r.field <> all (data.computed_names((entity).schema)) order by 1)
$$;
comment on function access.own_restricted(data.entities, jsonb) is
  'The fields that some readers of an entity do not see in full and that are written: neither computed nor another name; shows is '
  'access.field_shows.';

create or replace function access.unseen_sql(entity data.entities, shows jsonb, alias text) returns text
language sql stable set search_path = '' as $$
  select coalesce(string_agg(format('case when %s then null else %L end', access.seen_sql(entity, shows, array[f], unseen_sql.alias), f),
    ', ' order by f), '')
  from unnest(access.own_restricted(entity, unseen_sql.shows)) f
$$;
comment on function access.unseen_sql(data.entities, jsonb, text) is
  'The elements of a list of the fields of a storage row (alias) that the caller does not see, null for those that it sees, as SQL; '
  'shows is access.field_shows.';

create or replace function access.entity_guards(entity data.entities) returns jsonb
language sql stable set search_path = '' as $$
  select case when access.checks_fields(entity) then access.joint_guards(entity, access.own_restricted(entity, access.field_shows(entity)))
    else '[]' end
$$;
comment on function access.entity_guards(data.entities) is
  'The joint rules of an entity that read a field which some do not see, as access.check_joint takes them; [] for none.';

-- To look at the rules for every change took 110 µs a record; to ask first whether it touches one of their fields, nothing that shows.
create or replace function access.compile_joint_check(entity data.entities, guards jsonb, source text) returns text
language sql stable set search_path = '' as $$
  select format($sql$
        if _unseen <> '{}'%1$s then
          perform access.check_joint(%2$L, %3$L, new.data, %4$s, _names, _unseen);
        end if;$sql$,
    case when not bool_or(g->'timed' = 'true')
      then format(' and (_names && %1$L or new.data - %2$L::text[] is distinct from %3$s - %2$L::text[])', f.checked,
        array(select p from jsonb_object_keys((entity).schema->'properties') p where p <> all (f.checked)), source)
      else '' end,
    (entity).name, guards, source)
  from jsonb_array_elements(guards) g,
    lateral (select array(select distinct k from jsonb_array_elements(guards) x, jsonb_object_keys(x->'fields') k order by k)) f (checked)
  group by f.checked
$$;
comment on function access.compile_joint_check(data.entities, jsonb, text) is
  'PL/pgSQL that checks a change by the joint rules guards (access.joint_guards); source is the data before, as SQL.';

-- A reference that on delete set null takes away is a change of whoever deletes. What is restored is checked anew, and with time.
create or replace function access.compile_other_checks(entity data.entities, guards jsonb, unseen text, source text) returns text
language sql stable set search_path = '' as $$
  select coalesce((
    select format($sql$
      if _names is null and (%1$s) and (auth.account_id() is not null or not data.is_expiring()) then
        _names := array_remove(array[%2$s]::text[], null);
        _unseen := array_remove(array[%3$s]::text[], null);
        begin
          perform access.check_joint(%4$L, %5$L, new.data, %6$s, _names, _unseen);
        exception when sqlstate 'RH403' then
          if data.is_expiring() then
            raise restrict_violation; -- the expired record stays, as it would if it might not go
          end if;
          raise;
        end;
      end if;$sql$,
      string_agg(format('new.%1$I is null and old.%1$I is not null', r.field), ' or ' order by r.field),
      string_agg(format('case when new.%1$I is null and old.%1$I is not null then %1$L end', r.field), ', ' order by r.field),
      compile_other_checks.unseen, (entity).name, guards, compile_other_checks.source)
    from data.relations r
    where r.entity_id = (entity).id and r.on_delete = 'set null' and guards @? '$[*]' having count(*) > 0), '')
  || coalesce((
    select format($sql$
    elsif data.is_restoring() then
      perform access.check_joint(%L, %L, '{}', '{}', '{}', %s());$sql$, (entity).name, jsonb_agg(g order by n),
      access.unseen_function(entity))
    from jsonb_array_elements(guards) with ordinality x (g, n)
    where g->'timed' = 'true' and (entity).schema->'x-soft-delete' = 'true' having count(*) > 0), '')
$$;
comment on function access.compile_other_checks(data.entities, jsonb, text, text) is
  'PL/pgSQL that checks joint rules (guards) where a change was not sent: a reference that was taken away (unseen: access.unseen_sql, '
  'source: the data before), a record that is restored.';

-- Under two names a value is sent twice, and which of the two is a change would tell what is there.
create or replace function access.compile_name_check(entity data.entities) returns text
language sql stable set search_path = '' as $$
  select coalesce(string_agg(format($sql$if tg_op = 'UPDATE' and (
      select count(distinct coalesce(new.data->n, 'null')) > 1 from unnest(%1$L::text[]) n where new.data->'@' ? n) and not (%2$s) then
      perform access.refuse_names(%1$L);
    end if;$sql$, access.field_names(entity, f), access.seen_sql(entity, s, array[f], 'old')), E'\n    ' order by f), '')
  from access.field_shows(entity) s, unnest(access.own_restricted(entity, s)) f
  where access.checks_fields(entity) and cardinality(access.field_names(entity, f)) > 1
$$;
comment on function access.compile_name_check(data.entities) is
  'PL/pgSQL that refuses different values under several names of a field that their writer does not see; empty where there is none.';

create or replace function access.compile_told_errors(entity data.entities) returns text
language plpgsql stable set search_path = '' as $$
declare
  _own text[];
begin
  if not access.checks_fields(entity) then
    return '';
  end if;
  _own := access.own_restricted(entity, access.field_shows(entity));
  return case when entity.schema->'x-soft-delete' = 'true' and _own <> '{}' then format($sql$
        if data.is_restoring() and %s() <> '{}' then
          _errors := access.told_errors(_errors, '{*}');
        end if;$sql$, access.unseen_function(entity)) else '' end
    || case when access.joint_guards(entity, _own) <> '[]' then $sql$
        if tg_op = 'UPDATE' then
          _errors := access.told_errors(_errors, array(select u from unnest(_unseen) u where u <> all (_names)));
        end if;$sql$ else '' end;
end
$$;
comment on function access.compile_told_errors(data.entities) is
  'PL/pgSQL that says of fields that their writer neither sees nor wrote only that something is wrong with them; empty where that '
  'cannot be.';

create or replace function access.has_timed_guards(entity data.entities) returns boolean
language sql stable set search_path = '' as $$ select access.entity_guards(entity) @> '[{"timed": true}]' $$;
comment on function access.has_timed_guards(data.entities) is
  'Whether what an entity''s definition asks of a field that some do not see changes with time.';

-- What is wrong with a list is said of all its records at once: first it is asked whether that may be said.
create or replace function access.compile_list_check(entity data.entities, alias text, changes text, source text) returns text
language sql stable set search_path = '' as $$
  select case when g <> '[]' then format('perform access.check_joint(%L, %L, %s || data.without_aliases(data.record_data(%s), %7$L), %3$s,
          access.own_names(array(select jsonb_object_keys(data.record_data(%4$s))), %7$L), array_remove(array[%5$s]::text[], null))
        from %6$s;', (entity).name, g, data.record_source(entity, compile_list_check.alias), compile_list_check.changes,
    access.unseen_sql(entity, access.field_shows(entity), compile_list_check.alias), compile_list_check.source,
    data.aliases((entity).schema))
    else '' end
  from access.entity_guards(entity) g
$$;
comment on function access.compile_list_check(data.entities, text, text, text) is
  'PL/pgSQL that raises RH403 as access.check_joint does for changes (a jsonb expression) of storage rows (alias) in source, a '
  'from-item; empty where no joint rule reads what some do not see.';

create or replace function access.renew_write_rules() returns void
language plpgsql set search_path = '' as $$
begin
  perform data.build_front(e, a.schema_name)
  from data.entities e
  join tenancy.apps a on a.id = e.app_id
  join pg_catalog.pg_proc p on p.pronamespace = to_regnamespace(quote_ident(a.schema_name)) and p.proname = e.name || '_before_write'
  where access.is_special(e) and (p.prosrc !~ 'access\.told_errors' and access.compile_told_errors(e) <> ''
    or p.prosrc !~ 'access\.refuse_names' and access.compile_name_check(e) <> '');
end
$$;
comment on function access.renew_write_rules() is
  'Builds anew the write rules by which a release before let writers try what fields hold that they do not see. Internal.';
