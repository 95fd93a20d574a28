-- The moment in which a converted storage takes the place of the old one.

create or replace function data.switch_storage(entity data.entities, target data.entities, schema_name text) returns void
language plpgsql set search_path = '' as $$
declare
  _old text := data.storage_table(entity, schema_name);
  _new text := data.storage_table(target, schema_name);
  _entity data.entities;
  _referrer data.entities;
  _statement text;
  _statements text[];
  _equal boolean;
begin
  perform data.lock_tables(array[format('%I.%I', schema_name, entity.name), _old, _new]
    || array(select distinct format('%I.%I', schema_name, e.name) from data.links l join data.entities e on e.id = l.entity_id
      where l.target_id = entity.id and e.id <> entity.id)
      || access.share_views(entity),
    array(select distinct c.conrelid::regclass::text from pg_catalog.pg_constraint c
      where c.confrelid = to_regclass(_old) and c.conrelid <> to_regclass(_old)));
  execute format('select (select count(*) from %s) = (select count(*) from %s)', _old, _new) into _equal;
  if not _equal then
    raise exception 'The new storage of % does not hold as many records as the old one', entity.name using errcode = 'data_corrupted';
  end if;
  _statements := data.repoint_statements(_old, _new);
  execute format('drop trigger %I on %s', entity.name || '_convert', _old);
  execute format('drop function %I.%I()', schema_name, entity.name || '_convert');
  foreach _statement in array _statements loop
    execute _statement;
  end loop;
  update data.entities e set storage = target.storage, version = e.version + 1, oldest_version = e.version + 1, updated_at = now(),
    schema = e.schema || jsonb_build_object('x-storage', target.storage)
  where e.id = entity.id returning e.* into _entity;
  insert into data.entity_versions (entity_id, version, site_id, schema, created_by)
  values (_entity.id, _entity.version, _entity.site_id, _entity.schema, auth.account_id());
  perform data.save_fields(_entity);
  -- A view that is replaced where it stands is found by statements that have begun.
  perform data.switch_search(_entity, schema_name);
  perform access.guard(_entity, _new);
  perform data.build_front(_entity, schema_name);
  -- Views look lists of links up in the old storage until now.
  for _referrer in select e.* from data.entities e where e.id <> _entity.id and exists (
    select from data.links l where l.entity_id = e.id and l.target_id = _entity.id)
  loop
    perform data.build_front(_referrer, schema_name);
  end loop;
  perform access.drop_share_views(entity);
  execute format('drop table %s', _old);
  -- Their rules look references up in this storage.
  for _referrer in select e.* from data.entities e where e.id <> _entity.id and exists (
    select from data.relations r where r.entity_id = e.id and r.target_id = _entity.id)
  loop
    perform data.build_reference_rule(_referrer, schema_name);
  end loop;
  perform data.publish_definition(_entity.app_id);
end
$$;
comment on function data.switch_storage(data.entities, data.entities, text) is
  'Puts a new storage in the old one''s place: view, write functions, write rule and the foreign keys that refer to it. Fails when the two do not hold as many records.';

create or replace function data.repoint_statements(old text, new text) returns text[]
language sql stable set search_path = '' as $$
  select coalesce(array_agg(s.statement order by s.n, s.oid), '{}')
  from pg_catalog.pg_constraint c,
    lateral (values
      (1, c.oid, format('alter table %s drop constraint %I', c.conrelid::regclass, c.conname)),
      (2, c.oid, format('alter table %s add constraint %I %s not valid', c.conrelid::regclass, c.conname,
        regexp_replace(replace(pg_catalog.pg_get_constraintdef(c.oid), ' REFERENCES ' || repoint_statements.old || '(',
          ' REFERENCES ' || repoint_statements.new || '('),
          ' NOT VALID$', '')))) s (n, oid, statement)
  where c.contype = 'f' and c.confrelid = to_regclass(repoint_statements.old) and c.conrelid <> to_regclass(repoint_statements.old)
$$;
comment on function data.repoint_statements(text, text) is
  'The statements that make other tables'' foreign keys refer to a new table, to be validated later.';
