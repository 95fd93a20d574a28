-- "May I?" for a page full of buttons: many questions in one call, each answered by access.allows.

create or replace function access.check_questions(questions jsonb) returns void
language plpgsql stable set search_path = '' as $$
declare
  _most constant int := 200;
begin
  if jsonb_typeof(check_questions.questions) is distinct from 'array' or jsonb_array_length(check_questions.questions) > _most then
    perform rowhouse.fail(400, format('questions is a list of at most %s', _most),
      '[{"entity": "crm/posts", "action": "update", "id": "…"}]; without id: with any record.', 'invalid_questions');
  end if;
  perform rowhouse.fail(400, format('Question %s is not one', q.n), 'A question has entity, action and perhaps id, all texts.',
    'invalid_questions', jsonb_build_array(jsonb_build_object('pointer', '/questions/' || q.n - 1, 'message', 'is no question')))
  from jsonb_array_elements(check_questions.questions) with ordinality q (value, n)
  where jsonb_typeof(q.value) <> 'object' or not q.value ?& array['entity', 'action']
    or q.value->>'entity' !~ '^([^/]+/)?[^/]+$' or exists (
    select from jsonb_each(case jsonb_typeof(q.value) when 'object' then q.value else '{}' end) m
    where m.key not in ('entity', 'action', 'id') or jsonb_typeof(m.value) <> 'string' and (m.key, m.value) <> ('id', 'null'));
end
$$;
comment on function access.check_questions(jsonb) is 'Raises RH400 unless this is a list of at most 200 questions {entity, action, id}.';

create or replace function access.answer_questions(site text, questions jsonb, app text) returns jsonb
language sql stable set search_path = '' as $$
  select coalesce(jsonb_agg(q.value || jsonb_build_object('allowed',
    access.allows(concat_ws('/', answer_questions.site, case when e.name !~ '/' then answer_questions.app end, e.name),
      q.value->>'action', q.value->>'id')) order by q.n), '[]')
  from jsonb_array_elements(answer_questions.questions) with ordinality q (value, n), lateral (select q.value->>'entity') e (name)
$$;
comment on function access.answer_questions(text, jsonb, text) is
  'Questions {entity, action, id}, each with "allowed", for the account of the claims. Internal. RH400, RH404.';

create or replace function access.allows_each(site text, questions jsonb, account text default null, app text default null) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  _before jsonb := access.claims();
  _site tenancy.sites;
  _account uuid := auth.account_id();
  _out jsonb;
begin
  if allows_each.site is null then
    select s.* into _site from tenancy.sites s where s.id = tenancy.site_id();
  else
    _site := tenancy.require_site(allows_each.site);
  end if;
  perform access.check_questions(allows_each.questions);
  if allows_each.account is not null then
    _account := access.asked_account(_site.id, allows_each.account);
  end if;
  perform access.claim(case when _site.id = tenancy.site_id() then _before else _before - '{roles,rights,attributes}'::text[] end
    || jsonb_build_object('site', _site.id));
  _out := access.answer_questions(_site.name, allows_each.questions, allows_each.app);
  if _account is distinct from auth.account_id() then
    if exists (select from tenancy.site_members m where m.site_id = _site.id and m.account_id = _account) then
      perform access.claim(jsonb_build_object('account', _account, 'site', _site.id));
      _out := access.answer_questions(_site.name, allows_each.questions, allows_each.app);
    else
      _out := (select coalesce(jsonb_agg(a || '{"allowed": false}'), '[]') from jsonb_array_elements(_out) a);
    end if;
  end if;
  perform access.claim(_before);
  return jsonb_build_object('data', _out);
end
$$;
comment on function access.allows_each(text, jsonb, text, text) is
  'Whether one may: {"data": [{entity, action, id, allowed}]} for at most 200 questions [{"entity": "crm/posts", "action": "update", "id"}] '
  'about a site (null: that of the claims), in their order; without id whether with any record. For oneself by access.allows; owners, '
  'admins and @policies:define also for the account with an email. Entities without an app are those of app. RH400, RH403, RH404.';
