-- Which fields the caller does not see in full. What is compared, sorted or computed by must be seen in full in every record that is shown: by a rule without a condition, or
-- by every rule that holds.
create or replace function access.unseen_function(entity data.entities) returns text
language sql stable set search_path = '' as $$
  select format('%I.%I', a.schema_name, (entity).name || '__unseen') from tenancy.apps a where a.id = (entity).app_id
$$;
comment on function access.unseen_function(data.entities) is 'The function that tells which fields of an entity the caller does not see in full, as SQL.';

create or replace function access.words_sql(numbers int[], list text, compare text, joined text) returns text
language sql immutable set search_path = '' as $$
  select string_agg(format('%s[%s] & %s::bigint %s 0', list, w.word, w.bits, compare), joined order by w.word)
  from (select access.word(n) as word, bit_or(access.bit(n)) as bits from unnest(words_sql.numbers) n group by 1) w
$$;
comment on function access.words_sql(int[], text, text, text) is 'The bits of these rules in a list of words, compared with none, as SQL; null for no rules.';

create or replace function access.build_unseen(entity data.entities) returns void
language plpgsql set search_path = '' as $$
declare
  _function text := access.unseen_function(entity);
  _rights text := access.rights_function(entity);
  _shows jsonb := access.field_shows(entity);
  _conditional int[] := array(select r.number from access.rules r
    where r.entity_id = entity.id and r.action = 'read' and r.effect = 'allow' and r.row_condition is not null);
  _branches text;
begin
  select string_agg(format('case when %s then null else %L end', x.seen, x.field), E',\n        ' order by x.field) into _branches
  from (
    select r.field, string_agg(format('(_allowed[1] & %s::bigint <> 0 or %s or (%s))%s', 1::bigint << 60,
      coalesce(access.words_sql(array(select n from unnest(access.shown_by(_shows, b, 'full')) n where n <> all (_conditional)), '_allowed',
        '<>', ' or '), 'false'),
      coalesce(access.words_sql(array(select n::int from jsonb_each(_shows->b) s, jsonb_array_elements_text(s.value) n
        where s.key not in ('full', 'denied')), '_allowed', '=', ' and '), 'true'),
      coalesce(' and ' || access.words_sql(access.shown_by(_shows, b, 'denied'), '_denied', '=', ' and '), '')), ' and ') as seen
    from access.restricted(entity, _shows) r, unnest(r.bases) b group by r.field
  ) x;
  perform rowhouse.create_function($sql$
    create or replace function %1$s() returns text[]
    language plpgsql stable security definer parallel safe set search_path = '' $sql$, $sql$
    declare
      _words constant bigint[] := %2$s('read');
      _allowed constant bigint[] := _words[1:];
      _denied constant bigint[] := array[%3$s]::bigint[];
    begin
      return array_remove(array[
        %4$s
      ]::text[], null);
    end $sql$, _function,
    _rights, coalesce((
      select string_agg(format('_words[%s]', -w), ', ' order by w) from generate_series(1, access.last_word(entity, 'deny')) w), ''),
    coalesce(_branches, 'null'));
  execute format('comment on function %s() is %L', _function,
    E'@behavior -*\nThe fields of ' || entity.name || ' that the caller does not see in full in every record.');
  execute format('revoke all on function %s() from public', _function);
  execute format('grant execute on function %s() to rowhouse_data, %I', _function,
    (select s.role_name from tenancy.sites s where s.id = entity.site_id));
  if _branches is not null then
    insert into access.mask_keys (site_id) values (entity.site_id) on conflict do nothing;
  end if;
end
$$;
comment on function access.build_unseen(data.entities) is 'Generates <entity>__unseen(): the fields that the caller does not see in full in every record that is shown.';

create or replace function access.last_word(entity data.entities, effect text) returns int
language sql stable set search_path = '' as $$
  select access.word(greatest(max(r.number), case last_word.effect when 'allow' then 1 end))
  from access.rules r where r.entity_id = (entity).id and r.action = 'read' and r.effect = last_word.effect
$$;
comment on function access.last_word(data.entities, text) is 'The last word of bits of an entity''s rules for reading; null for none.';

create or replace function access.unseen(entity_id uuid) returns text[]
language plpgsql stable security definer set search_path = '' as $$
declare
  _function text := access.unseen_function(data.require_known(unseen.entity_id));
  _out text[];
begin
  if to_regprocedure(_function || '()') is null then
    return '{}';
  end if;
  execute format('select %s()', _function) into _out;
  return _out;
end
$$;
comment on function access.unseen(uuid) is 'The fields of an entity that the caller does not see in full in every record that is shown. RH404.';

create or replace function access.require_seen(entity_id uuid, fields text[]) returns boolean
language plpgsql stable security definer set search_path = '' as $$
declare
  _unseen text[] := array(select u from unnest(access.unseen(require_seen.entity_id)) u where u = any (require_seen.fields) order by u);
begin
  if _unseen <> '{}' then
    perform rowhouse.fail(403,
      format('You do not see %s of %s in full, and so cannot filter, sort, group or compute by it', array_to_string(_unseen, ', '),
        (select access.entity_path(e) from data.entities e where e.id = require_seen.entity_id)),
      'What you see of it is masked or hidden, in some records at least. A role that unmasks it is needed.', 'field_not_seen',
      (select jsonb_agg(jsonb_build_object('pointer', '/' || u, 'message', 'is masked or hidden for you')) from unnest(_unseen) u));
  end if;
  return true;
end
$$;
comment on function access.require_seen(uuid, text[]) is 
  'True when the caller sees these fields of an entity in full in every record that is shown; else RH403 with those it does not see. RH404.';
