-- A change of roles and policies is tried against the tests of the site before anything is installed.

create or replace function access.take_effect(site_id uuid, entities uuid[], failing jsonb, force boolean) returns void
language plpgsql set search_path = '' as $$
declare
  _entities uuid[] := take_effect.entities || access.end_lost_permissions(take_effect.site_id);
begin
  if access.has_tests(take_effect.site_id) then
    begin
      perform access.save_rules(e) from data.entities e where e.id = any (_entities) order by e.id;
      perform access.refuse_broken(take_effect.site_id, take_effect.failing, take_effect.force);
      -- What is installed is compared with what was: with the rules saved already, views kept the fields that they had shown.
      raise exception 'taken back' using errcode = 'RH002'; -- as data.try_definition does
    exception when sqlstate 'RH002' then
      null;
    end;
  end if;
  perform access.compile_entities(_entities);
end
$$;
comment on function access.take_effect(uuid, uuid[], jsonb, boolean) is
  'Puts a change of the roles and policies of a site into effect, unless a test fails that did not before (failing: access.failing_tests as it was) and force is not given. Internal. RH409.';

create or replace function access.has_tests(site_id uuid) returns boolean
language sql stable set search_path = '' as $$ select exists (select from access.tests t where t.site_id = has_tests.site_id) $$;
comment on function access.has_tests(uuid) is 'Whether a site has tests of access.';

-- The rules of an entity are compiled once for all its tests, and those that pass are not explained: 100 tests of an entity
-- with 100 roles and 25 policies took 0.1 s so, and 11 s when each was explained (on a busy machine).
create or replace function access.failing_tests(site_id uuid, entity_id uuid default null, app_id uuid default null) returns jsonb
language plpgsql set search_path = '' as $$
declare
  _of record;
  _test access.tests;
  _r record;
  _out jsonb := '[]';
begin
  for _of in
    select e as entity, p.action, p.in_general, p.of_row
    from (select t.entity_id, array_agg(distinct t.action) as actions from access.tests t
      where t.site_id = failing_tests.site_id and (failing_tests.entity_id is null or t.entity_id = failing_tests.entity_id)
        and (failing_tests.app_id is null or t.app_id = failing_tests.app_id)
      group by t.entity_id) x
    join data.entities e on e.id = x.entity_id, lateral access.predicates(e, x.actions) p
  loop
    for _test in select t.* from access.tests t where t.entity_id = (_of.entity).id and t.action = _of.action loop
      if not access.passes(_test, _of.entity, _of.in_general, _of.of_row) then
        _r := access.run_test(_test);
        if _r.outcome <> _test.expected then
          _out := _out || jsonb_build_object('test', access.test_path(_test), 'expected', _test.expected, 'outcome', _r.outcome,
            'because', _r.because);
        end if;
      end if;
    end loop;
  end loop;
  return (select coalesce(jsonb_agg(t order by t->>'test'), '[]') from jsonb_array_elements(_out) t);
end
$$;
comment on function access.failing_tests(uuid, uuid, uuid) is 'The tests of a site, or of one entity or app, that fail at this moment: [{test (app/name), expected, outcome, because}]. Internal.';

create or replace function access.broken_tests(site_id uuid, failing jsonb, entity_id uuid default null) returns jsonb
language sql set search_path = '' as $$
  select coalesce(jsonb_agg(t), '[]') from jsonb_array_elements(access.failing_tests(broken_tests.site_id, broken_tests.entity_id)) t
  where not exists (select from jsonb_array_elements(broken_tests.failing) f where f->>'test' = t->>'test')
$$;
comment on function access.broken_tests(uuid, jsonb, uuid) is 'The tests that fail now and are not among those that failed before. Internal.';

create or replace function access.refuse_broken(site_id uuid, failing jsonb, force boolean, entity_id uuid default null) returns void
language plpgsql set search_path = '' as $$
declare
  _broken jsonb;
begin
  if coalesce(refuse_broken.force, false) or coalesce(current_setting('rowhouse.break_tests', true), '') = 'on' then
    return;
  end if;
  _broken := access.broken_tests(refuse_broken.site_id, refuse_broken.failing, refuse_broken.entity_id);
  if _broken <> '[]' then
    perform rowhouse.fail(409, format('Tests of access would fail that pass today: %s', (
        select string_agg(b->>'test', ', ') from (select b from jsonb_array_elements(_broken) b limit 10) x (b))),
      'Change the tests first, or force it: force => true; for definitions of entities and roles of groups set rowhouse.break_tests = ''on''.',
      'breaks_tests', (
      select jsonb_agg(jsonb_build_object('pointer', '/tests/' || replace(b->>'test', '/', '~1'),
        'message', format('expected %s, and it would be %s%s', b->>'expected', b->>'outcome',
        -- Who may define roles may not know policies.
        case when access.may_ask(refuse_broken.site_id) then ': ' || (b->>'because') else '' end))) from jsonb_array_elements(_broken) b));
  end if;
end
$$;
comment on function access.refuse_broken(uuid, jsonb, boolean, uuid) is 'Raises RH409 with every test that fails and did not before, unless forced (force, or the setting rowhouse.break_tests = on).';
