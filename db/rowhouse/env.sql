-- The gateway says in its setting rowhouse.env where a request comes from. In anybody else's session that text is not
-- believed: SET takes any name that has a dot.
create or replace function rowhouse.env() returns jsonb
language sql stable parallel safe as $$
  select case session_user when 'rowhouse_gateway' then coalesce(nullif(current_setting('rowhouse.env', true), ''), '{}')::jsonb
    else jsonb_strip_nulls(jsonb_build_object('ip', host(inet_client_addr()),
      'user_agent', nullif(current_setting('application_name'), ''))) end
$$;
comment on function rowhouse.env() is
  'Where the current request comes from, as {"ip", "user_agent", "origin", "request_id", "request", "session"}; the user agent and origin are what the client says. In psql: ip of the connection (none on a local socket) and application_name as user_agent.';
