-- Tests of access, stored with the app: who may do what, as it was promised.

create or replace function access.define_test(app text, test jsonb) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  _site tenancy.sites := access.require_control(split_part(define_test.app, '/', 1), '@policies:define');
  _app tenancy.apps := tenancy.require_app(define_test.app);
begin
  perform access.lock_model(_site.id);
  return access.test_result(access.save_test(_app, define_test.test));
end
$$;
comment on function access.define_test(text, jsonb) is
  'Keeps a test of an app, or replaces the one of that name: {"name", "account": an email, null for somebody not logged in, or {"roles", "groups", "attributes", "email"} of nobody in particular, "entity", "action", "record": an id, or values of one that nobody has written ("$account.id" in them is the account''s), "expected": "allow" or "deny"}. Runs it and returns {test, expected, outcome (allow, deny, depends on the record where none is given, or error), because}. Owners, admins and @policies:define. RH400 lists what is wrong by JSON pointer; RH403, RH404, RH409 more than 1,000 tests.';

create or replace function access.drop_test(app text, name text) returns void
language plpgsql security definer set search_path = '' as $$
declare
  _site tenancy.sites := access.require_control(split_part(drop_test.app, '/', 1), '@policies:define');
  _app tenancy.apps := tenancy.require_app(drop_test.app);
begin
  delete from access.tests t where t.app_id = _app.id and t.name = drop_test.name;
  if not found then
    perform rowhouse.fail(404, format('The app %s has no test %L', _app.name, left(drop_test.name, 80)), 'access.tests lists them.',
      'not_found');
  end if;
end
$$;
comment on function access.drop_test(text, text) is 'Drops a test of access. Owners, admins and @policies:define. RH403, RH404.';

create or replace function access.test(app text) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  _site tenancy.sites := access.require_control(split_part(test.app, '/', 1), '@policies:define');
  _app tenancy.apps := tenancy.require_app(test.app);
  _failing jsonb := access.failing_tests(_site.id, null, _app.id);
begin
  return jsonb_build_object('passed', (select count(*) from access.tests t where t.app_id = _app.id) - jsonb_array_length(_failing),
    'failed', (select coalesce(jsonb_agg((f - 'test') || jsonb_build_object('name', substr(f->>'test', length(_app.name) + 2))
      order by f->>'test'), '[]') from jsonb_array_elements(_failing) f));
end
$$;
comment on function access.test(text) is
  'Runs the tests of an app: {"passed": how many, "failed": [{name, expected, outcome, because}]}; because names the decisive role, permission, policy and condition. Owners, admins and @policies:define. RH403, RH404.';

create or replace function access.test_path(test access.tests) returns text
language sql stable set search_path = '' as $$ select a.name || '/' || (test).name from tenancy.apps a where a.id = (test).app_id $$;
comment on function access.test_path(access.tests) is 'What a test is called within its site: crm/authors see their drafts.';

create or replace function access.test_result(test access.tests) returns jsonb
language sql set search_path = '' as $$
  select jsonb_build_object('test', access.test_path(test), 'expected', (test).expected, 'outcome', r.outcome, 'because', r.because)
  from access.run_test(test) r
$$;
comment on function access.test_result(access.tests) is 'What came of a test: {test, expected, outcome, because}. Internal.';

create or replace function access.run_test(test access.tests, out outcome text, out because text)
language plpgsql set search_path = '' as $$
declare
  _entity data.entities;
  _email text := case jsonb_typeof(test.account) when 'string' then test.account #>> '{}' end;
  _account uuid;
  _exists boolean := true;
  _o record;
begin
  outcome := 'error';
  select e.* into _entity from data.entities e where e.id = test.entity_id;
  select a.id into _account from auth.accounts a join tenancy.site_members m on m.account_id = a.id
  where m.site_id = test.site_id and a.email = lower(_email) and a.deleted_at is null;
  if _email is not null and _account is null then
    because := format('%s is not a member of this site', _email);
    return;
  end if;
  begin
    if jsonb_typeof(test.record) = 'string' then
      execute format('select exists (select from %s s)', access.record_source(_entity, test.record)) into _exists;
    end if;
    if not _exists then
      because := format('there is no record %s', test.record #>> '{}');
      return;
    end if;
    _o := access.outcome(_entity, _account, test.action, test.record, case jsonb_typeof(test.account) when 'object' then test.account end);
    outcome := _o.outcome;
    because := _o.because;
  exception when sqlstate 'RH000' or data_exception or syntax_error_or_access_rule_violation then
    because := sqlerrm;
  end;
end
$$;
comment on function access.run_test(access.tests) is 'What a test comes to at this moment: allow, deny, depends or error, and because of what. Internal.';

create or replace function access.passes(test access.tests, entity data.entities, in_general text, of_row text) returns boolean
language plpgsql set search_path = '' as $$
declare
  _subject jsonb := case jsonb_typeof(test.account) when 'object' then test.account end;
  _id uuid;
  _roles uuid[];
  _account jsonb;
  _outcome text;
  _before jsonb := access.claims();
begin
  if _subject is null and test.account is not null then
    _id := access.require_member_account(entity.site_id, test.account #>> '{}');
  end if;
  perform access.claim(jsonb_build_object('account', _id, 'site', entity.site_id));
  _roles := case when _subject is null then access.roles_of(entity.site_id, _id) else access.imagined_roles(entity.site_id, _subject) end;
  _account := case when _subject is null then access.account() else access.imagined_account(_roles, _subject) end;
  execute case when test.record is null then format('select %s from (select $1 as _roles, $2 as _account, $3 as _env) s', passes.in_general)
    else format('select case when %s then ''allow'' else ''deny'' end from (select $1 as _roles, $2 as _account, $3 as _env) s, %s t',
      passes.of_row,
      access.record_source(entity, access.record_of(test.record, _account))) end
  into _outcome using _roles, _account, access.env();
  perform access.claim(_before);
  return coalesce(_outcome = test.expected, false);
exception when sqlstate 'RH000' or data_exception or syntax_error_or_access_rule_violation then
  return false;
end
$$;
comment on function access.passes(access.tests, data.entities, text, text) is 'Whether a test passes, by the compiled rules of its entity and action (access.predicates). Internal; why it does not, access.run_test says.';

create or replace function access.test_violations(test jsonb) returns jsonb
language sql immutable set search_path = '' as $$
  with t (t) as (select case jsonb_typeof(test) when 'object' then test else '{}' end)
  select coalesce(jsonb_agg(jsonb_build_object('pointer', x.pointer, 'message', x.message) order by x.pointer), '[]')
  from (
    select '' as pointer, 'must be an object of at most 100,000 characters' as message
    where jsonb_typeof(test) is distinct from 'object' or length(test::text) > 100000
    union all
    select '/' || left(k, 80), 'is not known; a test has name, account, entity, action, record and expected' from t, jsonb_object_keys(t) k
    where k not in ('name', 'account', 'entity', 'action', 'record', 'expected')
    union all
    select '/name', 'must be a text of 1 to 200 characters without control characters' from t
    where jsonb_typeof(t->'name') is distinct from 'string' or t->>'name' !~ '^[^\x01-\x1f\x7f]{1,200}$'
    union all
    select '/account', 'must be an email, null, or {"roles": [names], "groups": [names], "attributes": {}, "email"}' from t
    where not case jsonb_typeof(coalesce(t->'account', 'null')) when 'null' then true when 'string' then true
      when 'object' then (t->'account') - 'roles' - 'groups' - 'attributes' - 'email' = '{}'
        and not exists (select from unnest(array['roles', 'groups']) k
          where t->'account' ? k
          and (jsonb_typeof(t->'account'->k) <> 'array' or jsonb_path_exists(t->'account'->k, 'strict $[*] ? (@.type() != "string")')))
        and coalesce(jsonb_typeof(t->'account'->'attributes'), 'object') = 'object'
          and coalesce(jsonb_typeof(t->'account'->'email'), 'string') = 'string'
      else false end
    union all
    select '/entity', 'must be the name of an entity of the app' from t where jsonb_typeof(t->'entity') is distinct from 'string'
    union all
    select '/action', 'must be create, read, update or delete'
    from t
    where coalesce(t->>'action', '') not in ('create', 'read', 'update', 'delete')
    union all
    select '/record', 'must be an id, or an object of values' from t
    where not case jsonb_typeof(coalesce(t->'record', 'null')) when 'null' then true when 'object' then true
      when 'string' then pg_input_is_valid(t->>'record', 'uuid') else false end
    union all
    select '/expected', 'must be allow or deny' from t where coalesce(t->>'expected', '') not in ('allow', 'deny')
  ) x
$$;
comment on function access.test_violations(jsonb) is 'What is wrong with the form of a test: a JSON array of {pointer, message}.';

create or replace function access.save_test(app tenancy.apps, test jsonb) returns access.tests
language plpgsql set search_path = '' as $$
#variable_conflict use_column
declare
  _errors jsonb := access.test_violations(save_test.test);
  _entity uuid := (select e.id from data.entities e where e.app_id = (save_test.app).id and e.name = save_test.test->>'entity');
  _test access.tests;
begin
  if _errors <> '[]' then
    perform rowhouse.fail(400, format('The test is not valid: %s %s', _errors #>> '{0,pointer}', _errors #>> '{0,message}'),
      '{"name": "authors see their drafts", "account": {"roles": ["author"]}, "entity": "posts", "action": "read", "record": {"status": "draft", "created_by": "$account.id"}, "expected": "allow"}',
      'invalid_test', _errors);
  elsif _entity is null then
    perform rowhouse.fail(404, format('The app %s has no entity %L', (save_test.app).name, left(save_test.test->>'entity', 80)),
      'entity is its name without the app.', 'not_found');
  elsif (select count(*) from access.tests t where t.app_id = (save_test.app).id and t.name <> save_test.test->>'name') >= 1000 then
    perform rowhouse.fail(409, 'An app has at most 1,000 tests', 'Drop some first: access.drop_test(app, name).', 'too_many');
  end if;
  insert into access.tests (site_id, app_id, entity_id, name, account, action, record, expected)
  values ((save_test.app).site_id, (save_test.app).id, _entity, save_test.test->>'name', nullif(save_test.test->'account', 'null'),
    save_test.test->>'action',
    nullif(save_test.test->'record', 'null'), save_test.test->>'expected')
  on conflict (app_id, name) do update set entity_id = excluded.entity_id, account = excluded.account, action = excluded.action,
  record = excluded.record, expected = excluded.expected
  returning * into _test;
  return _test;
end
$$;
comment on function access.save_test(tenancy.apps, jsonb) is 'Writes a test. Internal: callers check who may. RH400, RH404, RH409.';

create or replace function access.test_definition(test access.tests) returns jsonb
language sql stable set search_path = '' as $$
  select jsonb_build_object('name', (test).name, 'account', (test).account,
    'entity', (select e.name from data.entities e where e.id = (test).entity_id), 'action', (test).action,
    'expected', (test).expected) || access.member('record', (test).record)
$$;
comment on function access.test_definition(access.tests) is 'A test as access.define_test takes it.';
