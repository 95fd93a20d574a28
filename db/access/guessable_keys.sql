-- What is unique and not seen by everybody who writes it.

create or replace function access.guessable_keys(entity data.entities) returns table (fields text[], restricted text[], names text[])
language sql stable set search_path = '' as $$
  with restricted as materialized (
    select r.field from access.restricted(entity, access.field_shows(entity)) r
  ), key (fields) as (
    select array[f.name] from data.fields f where f.entity_id = (entity).id and f.is_unique
    union all
    select s.fields from data.unique_sets((entity).schema) s
  )
  select k.fields, array(select r.field from restricted r where r.field = any (k.fields) order by 1),
    array(
      select distinct n
      from unnest(k.fields) f, unnest(f || access.bases(entity, f)) b, unnest(access.field_names(entity, b)) n order by 1)
  from key k
  where k.fields && array(select r.field from restricted r)
$$;
comment on function access.guessable_keys(data.entities) is
  'What is unique in an entity and holds a field that not everybody sees in full: its fields, those of them, and the names under which a '
  'writer gives it values (what it is computed from, x-alias).';

create or replace function access.unseen_keys(entity data.entities) returns table (fields text[], names text[])
language plpgsql stable set search_path = '' as $$
declare
  _reads boolean;
  _unseen text[];
begin
  if not access.is_special(entity) then
    return;
  end if;
  execute format('select exists (select from unnest((%s(''read''))[1:]) w where w <> 0), %s()', access.rights_function(entity),
    access.unseen_function(entity)) into _reads, _unseen;
  return query select k.fields, k.names from access.guessable_keys(entity) k where not _reads or k.restricted && _unseen;
end
$$;
comment on function access.unseen_keys(data.entities) is
  'Those of access.guessable_keys of which the caller does not see a field in full in every record that is shown, or sees no record at all.';

create or replace function access.unseen_key_names(entity_id uuid) returns text[]
language sql stable security definer set search_path = '' as $$
  select array(
    select distinct n from access.unseen_keys(data.require_known(unseen_key_names.entity_id)) k, unnest(k.names) n order by 1)
$$;
comment on function access.unseen_key_names(uuid) is
  'The fields of an entity by which the caller could find out values of a unique field that it does not see. RH404.';

create or replace function access.guess_check(entity data.entities, records text) returns text
language sql stable set search_path = '' as $$
  select case
    -- What is asked first is cheap, what last is not.
    when not (entity.schema ? 'x-unique' or exists (select from data.fields f where f.entity_id = entity.id and f.is_unique)) then ''
    when not access.is_special(entity) or not exists (select from access.guessable_keys(entity)) then ''
    else format('perform access.check_guesses(%L, %s);', entity.id, guess_check.records) end
$$;
comment on function access.guess_check(data.entities, text) is
  'PL/pgSQL of a function that writes records (SQL of a jsonb) of an entity: access.check_guesses where there is something to guess, else '
  'empty.';

create or replace function access.refuse_telling(entity_id uuid, fields text[]) returns void
language plpgsql stable security definer set search_path = '' as $$
begin
  if refuse_telling.fields <> '{}' then
    perform rowhouse.fail(403,
      format('You do not see %s of %s in full, and so cannot be told which lines have a value that is taken',
        array_to_string(refuse_telling.fields, ', '), access.entity_path(data.require_known(refuse_telling.entity_id))),
      'Import with on_error=stop, all or nothing.', 'field_not_seen',
      (select jsonb_agg(jsonb_build_object('pointer', '/' || f, 'message', 'is, or is unique with, what is masked or hidden for you'))
        from unnest(refuse_telling.fields) f));
  end if;
end
$$;
comment on function access.refuse_telling(uuid, text[]) is
  'Raises RH403 for fields of an entity of which their writer must not be told which values are taken; nothing for none. RH404.';
