-- The body is quoted as a literal, so that nothing in a tenant's schema (a pattern, a default) can end it.
create or replace function rowhouse.create_function(header text, body text, variadic arguments text[]) returns void
language plpgsql set search_path = '' as $$
begin
  execute format(header, variadic arguments) || ' as ' || quote_literal(format(body, variadic arguments));
end
$$;
comment on function rowhouse.create_function(text, text, text[]) is
  'Creates a function from a header and a body, both formats over the same arguments (%1$s, %2$L, …).';
