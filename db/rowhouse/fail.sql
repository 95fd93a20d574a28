create or replace function rowhouse.fail(
  status int, message text, hint text default null, code text default null, errors jsonb default null
) returns void
language plpgsql set search_path = '' as $$
declare
  _detail text := jsonb_strip_nulls(jsonb_build_object('code', fail.code, 'errors', fail.errors))::text;
begin
  raise exception using
    errcode = 'RH' || fail.status,
    message = fail.message,
    detail = _detail,
    hint = coalesce(fail.hint, '');
end
$$;
comment on function rowhouse.fail(int, text, text, text, jsonb) is
  'Raises SQLSTATE RH + HTTP status. message is for people, hint says what to do; code and errors become DETAIL as JSON for programs.';
