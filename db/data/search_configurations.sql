-- Text search configurations of our own, named as those of pg_catalog: café is found as cafe. A filtering dictionary, and
-- not unaccent() around the text, so that ts_headline marks the words as they were written.
do $$
declare
  _name text;
begin
  for _name in
    select c.cfgname from pg_catalog.pg_ts_config c
    where c.cfgnamespace = 'pg_catalog'::regnamespace and not exists (
      select from pg_catalog.pg_ts_config o where o.cfgname = c.cfgname and o.cfgnamespace = 'data'::regnamespace)
  loop
    execute format('create text search configuration data.%1$I (copy = pg_catalog.%1$I)', _name);
    execute format('alter text search configuration data.%I alter mapping for word, hword, hword_part with extensions.unaccent, %s', _name,
      (select d.dictnamespace::regnamespace || '.' || quote_ident(d.dictname) from pg_catalog.pg_ts_config_map m
        join pg_catalog.pg_ts_config c on c.oid = m.mapcfg join pg_catalog.pg_ts_dict d on d.oid = m.mapdict
        where c.cfgname = _name and c.cfgnamespace = 'pg_catalog'::regnamespace and m.maptokentype = 2 order by m.mapseqno limit 1));
  end loop;
end
$$;

-- With these as blanks the parser knows words and numbers only: ann@acme.test is found by acme, and no markup is skipped.
-- Character by character, so that a place in the result is the same place in the text. Of 200 characters translate() takes four times as
-- long, a third of what making the tsvector took; an expression takes less for prose and far more where every character is such a sign.
create or replace function data.search_words(text text) returns text
language sql immutable parallel safe
return replace(replace(replace(replace(replace(replace(replace(replace(replace(replace(replace(replace(left(text, 100000),
  '@', ' '), '.', ' '), '/', ' '), '_', ' '), ':', ' '), '+', ' '), '-', ' '), '<', ' '), '>', ' '), '&', ' '), E'\x01', ' '), E'\x02',
  ' ');
comment on function data.search_words(text) is
  'A text as search reads it: its first 100,000 characters, with blanks for the signs that would join words.';

create or replace function data.search_text(value jsonb) returns text
language sql immutable parallel safe set search_path = '' as $$
  select string_agg(v #>> '{}', E'\n') from jsonb_path_query(value, 'strict $.**') v where jsonb_typeof(v) = 'string'
$$;
comment on function data.search_text(jsonb) is 'All strings within a list or an object, one a line.';
