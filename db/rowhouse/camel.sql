create or replace function rowhouse.camel(name text) returns text
language sql immutable parallel safe set search_path = '' as $$
  select string_agg(case when n = 1 then part else upper(left(part, 1)) || substr(part, 2) end, '' order by n)
  from regexp_split_to_table(camel.name, '_+') with ordinality p (part, n)
$$;
comment on function rowhouse.camel(text) is 'A snake_case name as GraphQL spells it: invoice_line becomes invoiceLine.';
