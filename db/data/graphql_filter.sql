-- Filters and records as GraphQL spells them, in the words of the data functions: one filter language behind both.

create or replace function data.like_pattern(value text, before text, after text) returns text
language sql immutable parallel safe
return before || regexp_replace(value, '([\\%_])', '\\\1', 'g') || after;
comment on function data.like_pattern(text, text, text) is 'A pattern for LIKE that takes value as it is, between before and after.';

-- GraphQL's negations leave out what has no value, as SQL's do; $ne and $nin do not.
create or replace function data.graphql_condition(operator text, operand jsonb) returns jsonb
language plpgsql immutable set search_path = '' as $$
declare
  _plain text := (
    select o.to_ from (values ('equalTo', '$eq'), ('distinctFrom', '$ne'), ('notDistinctFrom', '$eq'), ('in', '$in'),
      ('lessThan', '$lt'), ('lessThanOrEqualTo', '$lte'), ('greaterThan', '$gt'), ('greaterThanOrEqualTo', '$gte'),
      ('like', '$like'), ('likeInsensitive', '$ilike'), ('contains', '$contains')) o (from_, to_)
    where o.from_ = graphql_condition.operator);
  _text text[] := regexp_match(graphql_condition.operator, '^(includes|startsWith|endsWith|equalTo)(Insensitive)?$');
begin
  if coalesce(operand, 'null') = 'null' then
    perform rowhouse.fail(400, format('%s compares with null', operator), 'Ask for missing values with isNull: true.',
      'invalid_filter');
  elsif operator = 'isNull' then
    return jsonb_build_object('$exists', operand = 'false');
  elsif _plain is not null then
    return jsonb_build_object(_plain, operand);
  elsif _text is not null then
    return jsonb_build_object(case when _text[2] is null then '$like' else '$ilike' end, data.like_pattern(operand #>> '{}',
      case when _text[1] in ('includes', 'endsWith') then '%' else '' end,
      case when _text[1] in ('includes', 'startsWith') then '%' else '' end));
  elsif operator ~ '^not[A-Z]' then
    return jsonb_build_object('$not', data.graphql_condition(lower(substr(operator, 4, 1)) || substr(operator, 5), operand),
      '$exists', true);
  end if;
  perform rowhouse.fail(400, format('%s is not known to the filter of a batch or an estimate', left(operator, 60)),
    'Use isNull, equalTo, in, lessThan, greaterThan (…OrEqualTo), like, includes, startsWith, endsWith, contains, their negations, '
      'and, or, not.', 'unknown_operator');
end
$$;
comment on function data.graphql_condition(text, jsonb) is 'One comparison of a GraphQL filter as a condition of the filter language. RH400.';

create or replace function data.graphql_filter(entity_id uuid, filter jsonb, depth int default 0) returns jsonb
language plpgsql stable set search_path = '' as $$
declare
  _out jsonb[] := '{}';
  _key text;
  _value jsonb;
  _field text;
  _relation record;
begin
  if depth > 10 then
    perform rowhouse.fail(400, 'The filter is nested too deeply', 'Nest at most 10 levels.', 'invalid_filter');
  end if;
  for _key, _value in select * from jsonb_each(filter) loop
    if _value = 'null' then
      perform rowhouse.fail(400, format('The filter has null for %s', _key), 'Ask for missing values with isNull: true.', 'invalid_filter');
    end if;
    select n into _field from (select f.name from data.fields f where f.entity_id = graphql_filter.entity_id
      union all select unnest(data.system_columns())) c (n)
    where rowhouse.camel(n) = _key;
    select r.name, r.target_id as id, false as many, rowhouse.camel(r.name) <> _key as only_exists into _relation
    from data.relations r
    where r.entity_id = graphql_filter.entity_id and _key in (rowhouse.camel(r.name), rowhouse.camel(r.name) || 'Exists');
    if _relation.id is null then
      select l.name, l.id, true as many, rowhouse.camel(l.name) <> _key as only_exists into _relation
      from (select name, target_id as id from data.links where links.entity_id = graphql_filter.entity_id
        union all select inverse_name, links.entity_id from data.links where target_id = graphql_filter.entity_id) l
      where _key in (rowhouse.camel(l.name), rowhouse.camel(l.name) || 'Exist');
      _field := case when _relation.id is null then _field end; -- the list of ids, in whose place its records are
    end if;
    if _relation.id is null then
      select r.inverse_name as name, r.entity_id as id, true as many, rowhouse.camel(r.inverse_name) <> _key as only_exists into _relation
      from data.relations r where r.target_id = graphql_filter.entity_id
        and _key in (rowhouse.camel(r.inverse_name), rowhouse.camel(r.inverse_name) || 'Exist', rowhouse.camel(r.inverse_name) || 'Exists');
    end if;
    if _key in ('and', 'or') then
      _out := _out || (select jsonb_build_object('$' || _key, coalesce(jsonb_agg(data.graphql_filter(entity_id, f, depth + 1)), '[]'))
        from jsonb_array_elements(_value) f);
    elsif _key = 'not' then
      _out := _out || jsonb_build_object('$not', data.graphql_filter(entity_id, _value, depth + 1));
    elsif _field is not null then
      _out := _out || array(select jsonb_build_object(_field, data.graphql_condition(c.key, c.value)) from jsonb_each(_value) c);
    elsif _relation.only_exists then
      _out := _out || jsonb_build_object(_relation.name, jsonb_build_object('$exists', _value));
    elsif _relation.many then
      _out := _out || array(select jsonb_build_object(_relation.name, jsonb_build_object('$'
        || c.key, data.graphql_filter(_relation.id, c.value, depth + 1)))
        from jsonb_each(_value) c where c.key in ('some', 'every', 'none'));
    else
      _out := _out || jsonb_build_object(_relation.name, coalesce(nullif(data.graphql_filter(_relation.id, _value, depth + 1), '{}'),
        '{"$exists": true}'));
    end if;
  end loop;
  return case cardinality(_out) when 0 then '{}' when 1 then _out[1] else jsonb_build_object('$and', to_jsonb(_out)) end;
end
$$;
comment on function data.graphql_filter(uuid, jsonb, int) is 'A filter of GraphQL (ContactFilter) in the filter language. RH400.';

create or replace function data.graphql_record(entity_id uuid, record jsonb) returns jsonb
language sql stable set search_path = '' as $$
  select coalesce(jsonb_object_agg(coalesce(f.name, r.key), case
      when f.kind in ('integer', 'decimal') and jsonb_typeof(r.value) = 'string'
        and pg_input_is_valid(r.value #>> '{}', 'numeric') then to_jsonb((r.value #>> '{}')::numeric)
      else r.value end), '{}')
  from jsonb_each(record) r left join data.fields f on f.entity_id = graphql_record.entity_id and rowhouse.camel(f.name) = r.key
$$;
comment on function data.graphql_record(uuid, jsonb) is 'A record of GraphQL (ContactInput, ContactPatch) by the names of its properties; BigInt and BigFloat become numbers.';

drop function if exists data.graphql_batch(text, text, text, jsonb);
create or replace function data.graphql_batch(app text, entity text, operation text, input jsonb, most int) returns jsonb
language plpgsql set search_path = '' set timezone = 'UTC' as $$
declare
  _r record := data.resolve_entity(graphql_batch.app, graphql_batch.entity);
  _id uuid := (_r.entity_row).id;
  _records jsonb;
  _p record;
  _body jsonb;
begin
  if greatest(jsonb_array_length(case jsonb_typeof(input->'records') when 'array' then input->'records' else '[]' end),
    (input->>'max')::numeric) > most then
    perform rowhouse.fail(413, 'Too many records in one mutation',
      format('Write at most %s records at once; REST takes 10,000.', data.count_words(most)), 'batch_too_large');
  end if;
  if operation in ('insert_list', 'upsert') then
    select coalesce(jsonb_agg(data.graphql_record(_id, r.value) order by r.n), '[]') into _records
    from jsonb_array_elements(input->'records') with ordinality r (value, n);
    execute data.compile(graphql_batch.app, graphql_batch.entity, operation,
      case operation when 'upsert' then jsonb_build_object('return', 'records', 'key', (
        select jsonb_agg(coalesce(f.name, k.name)) from jsonb_array_elements_text(input->'key') k (name)
        left join data.fields f on f.entity_id = _id and rowhouse.camel(f.name) = k.name)) else '{"return": "ids"}' end)->>'sql'
      into _body using _records;
  else
    _p := data.parameterize(data.graphql_filter(_id, input->'filter'), '{}');
    execute data.compile_batch(_r.entity_row, _r.schema_name, operation,
        jsonb_build_object('filter', _p.shape, 'max', input->'max', 'return', 'records'), _p.parameters)->>'sql'
      into _body using data.graphql_record(_id, input->'patch');
  end if;
  return jsonb_path_query_first(_body, '$.meta')
    || jsonb_build_object('ids', coalesce(_body->'ids', jsonb_path_query_array(_body, '$.data[*].id')));
end
$$;
comment on function data.graphql_batch(text, text, text, jsonb, int) is
  'What GraphQL''s batch mutations do: insert_list, upsert, update_where or delete_where with the mutation''s input; returns the counts and the ids. RH413 for more than most records. RH400, RH403, RH404, RH409, RH413, RH422.';

create or replace function data.graphql_estimate(app text, entity text, input jsonb) returns jsonb
language plpgsql stable set search_path = '' set timezone = 'UTC' as $$
declare
  _r record := data.resolve_entity(graphql_estimate.app, graphql_estimate.entity);
  _filter jsonb := coalesce(nullif(input->'filter', 'null'), '{}');
  _p record := data.parameterize(data.graphql_filter((_r.entity_row).id, _filter), '{}');
  _shape jsonb := jsonb_build_object('filter', _p.shape, 'q', input->'q', 'count', 'estimated', 'select', '["id"]'::jsonb, 'limit', 1);
  _body text;
begin
  execute data.compile_find(_r.entity_row, _r.schema_name, _shape, _p.parameters)->>'sql' into _body;
  return jsonb_build_object('count', _body::jsonb #> '{meta,count}', 'isEstimate', _body::jsonb #> '{meta,count_is_estimated}');
end
$$;
comment on function data.graphql_estimate(text, text, jsonb) is
  'What GraphQL''s contactsEstimate answers: {"count", "isEstimate"} of the records that match {"filter", "q"}, as count=estimated says in REST. RH400, RH404.';
