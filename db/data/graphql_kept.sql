-- Deleted records and former states for GraphQL.

create or replace function data.graphql_kept(app text, entity text, operation text, id uuid, query jsonb default '{}') returns jsonb
language plpgsql set search_path = '' set timezone = 'UTC' as $$
declare
  _body text;
begin
  execute data.compile(graphql_kept.app, graphql_kept.entity, graphql_kept.operation)->>'sql' into _body
    using graphql_kept.id, query->>'limit', query->>'before';
  return nullif(_body, '')::jsonb;
end
$$;
comment on function data.graphql_kept(text, text, text, uuid, jsonb) is
  'What GraphQL does with kept records: restore (the record), purge (null), history ({"data": changes}, by "limit" and "before") of the record with this id. RH400, RH403, RH404, RH409, RH422.';
