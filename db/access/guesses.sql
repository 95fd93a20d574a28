-- A unique field tells who writes to it whether a value is taken. Who does not see the field is told so 20 times an hour, as
-- passwords are tried so often, and not again: a list of addresses could else be held against it.

create or replace function access.guess_limit() returns int language sql immutable parallel safe return 20;
comment on function access.guess_limit() is 'How many taken values of unique fields that it does not see an account is told of in an hour, per entity.';

create or replace function access.guesses_end(times timestamptz[]) returns timestamptz
language sql stable parallel safe
return case when cardinality(times) >= access.guess_limit() and times[1] > clock_timestamp() - interval '1 hour'
  then times[1] + interval '1 hour' end;
comment on function access.guesses_end(timestamptz[]) is 'When somebody who has guessed at these times, the last 20, may guess again; null for now.';

-- Whoever has an address of IPv6 has a network of them. Not SQL: with a constant, the cast is done before the test of it.
create or replace function access.guess_address(address text) returns inet
language plpgsql immutable parallel safe set search_path = '' as $$
declare
  _address inet;
begin
  if pg_input_is_valid(guess_address.address, 'inet') then
    _address := guess_address.address::inet;
  end if;
  return coalesce(network(set_masklen(_address, case family(_address) when 4 then 32 else 64 end))::inet, '::/64');
end
$$;
comment on function access.guess_address(text) is
  'As whose guesses those of an address count that has no account: its own, of IPv6 those of its /64; ::/64 for none.';

create or replace function access.guesser(out account_id uuid, out address inet)
language sql stable set search_path = '' as $$
  select auth.account_id(), case when auth.account_id() is null then access.guess_address(rowhouse.env()->>'ip') else '::/64' end
$$;
comment on function access.guesser() is 'As whose guesses those of the caller count: an account, or an address.';

create or replace function access.refuse_guesses(entity data.entities, ends timestamptz) returns jsonb
language sql stable set search_path = '' as $$
  select auth.problem(429,
    format('Too many values of %s were tried that are taken: values of %s are not written for now', access.entity_path(entity),
      (select string_agg(distinct n, ', ') from access.unseen_keys(entity) k, unnest(k.names) n)),
    'You do not see these fields in full. Wait, then try again; what leaves them out is written. An owner or admin of the site can end this.',
    'too_many_guesses', ceil(extract(epoch from refuse_guesses.ends - clock_timestamp()))::int)
$$;
comment on function access.refuse_guesses(data.entities, timestamptz) is 'The problem 429 of who has guessed too often, until a time.';

-- One look-up for who has not: it stands before every write to an entity that has such a field.
create or replace function access.check_guesses(entity_id uuid, records jsonb default null) returns void
language plpgsql stable security definer set search_path = '' as $$
declare
  _account uuid := auth.account_id();
  _times timestamptz[];
  _ends timestamptz;
  _names text[];
  _problem jsonb;
begin
  if _account is not null then
    select g.times into _times from access.guesses g where g.entity_id = check_guesses.entity_id and g.account_id = _account;
  else
    select g.times into _times from access.guesses g
    where g.entity_id = check_guesses.entity_id and g.account_id is null and g.address = access.guess_address(rowhouse.env()->>'ip');
  end if;
  if _times is null then
    return;
  end if;
  _ends := access.guesses_end(_times);
  if _ends is null then
    return;
  end if;
  _names := access.unseen_key_names(check_guesses.entity_id);
  if records is null and _names <> '{}' or exists (
    select from jsonb_array_elements(case jsonb_typeof(records) when 'array' then records else jsonb_build_array(records) end) r,
      jsonb_each(case jsonb_typeof(r) when 'object' then r else '{}' end) v
    where v.key = any (_names) and v.value <> 'null')
  then
    _problem := access.refuse_guesses(data.require_known(check_guesses.entity_id), _ends)->'problem';
    raise exception using errcode = 'RH429', message = _problem->>'message', hint = _problem->>'hint',
      detail = (_problem - '{status,message,hint}'::text[])::text;
  end if;
end
$$;
comment on function access.check_guesses(uuid, jsonb) is
  'Raises RH429 when the caller has guessed values of an entity''s unique fields too often and these records, or whatever is written where '
  'that is null, give a value to one that it does not see.';

create or replace function access.note_guess("schema" text, "table" text, "constraint" text) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  _entity data.entities;
  _fields text[];
  _by record := access.guesser();
  _was timestamptz[];
  _times timestamptz[];
begin
  select e.* into _entity from tenancy.apps a join data.entities e on e.app_id = a.id
  where a.schema_name = note_guess.schema and a.site_id = tenancy.site_id() and note_guess.table in (e.name || '_jsonb', e.name || '_flat');
  _fields := data.constraint_fields(_entity, note_guess.constraint);
  -- An index of a storage that is being built has another name, so what has none that is known counts.
  if _entity.id is null or not exists (select from access.unseen_keys(_entity) k
    where k.fields = _fields or _fields = '{}' and note_guess.constraint !~ '_pkey$')
  then
    return null;
  end if;
  insert into access.guesses as g (site_id, entity_id, account_id, address, times)
  values (_entity.site_id, _entity.id, _by.account_id, _by.address, array[clock_timestamp()])
  on conflict (entity_id, account_id, address) do update set times = case when access.guesses_end(g.times) is not null then g.times
    else (g.times || clock_timestamp())[greatest(cardinality(g.times) + 2 - access.guess_limit(), 1):] end
  returning old.times, new.times into _was, _times;
  if _was = _times then
    return access.refuse_guesses(_entity, access.guesses_end(_times));
  end if;
  perform audit.note_denied(jsonb_build_array(jsonb_build_object('site', _entity.site_id, 'account', _by.account_id,
    'env', rowhouse.env(), 'method', 'guess',
    'path', (select s.name from tenancy.sites s where s.id = _entity.site_id) || '/' || access.entity_path(_entity),
    'status', 409, 'code', 'not_unique', 'reason', format('A value of %s is taken that the writer does not see: %s of %s in an hour',
      coalesce(nullif(array_to_string(_fields, ', '), ''), note_guess.constraint),
      (select count(*) from unnest(_times) t where t > clock_timestamp() - interval '1 hour'), access.guess_limit()))));
  return null;
end
$$;
comment on function access.note_guess(text, text, text) is
  'Counts a write of the caller that a unique index refused (23505: the schema, table and constraint that PostgreSQL names), when it gave a '
  'value to a field that the caller does not see, and records it in the audit log. Null, or where that was one too many '
  '{"problem": {status 429, message, hint, code, retry_after}}, which is to be said instead. For the gateway, in a transaction of its own '
  'after the write was rolled back.';
