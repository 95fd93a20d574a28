create or replace function data.escape_html(text text) returns text
language sql immutable parallel safe
return replace(replace(replace(replace(replace(text, '&', '&amp;'), '<', '&lt;'), '>', '&gt;'), '"', '&quot;'), '''', '&#39;');
comment on function data.escape_html(text) is 'A text for HTML, in an element or a quoted attribute.';

-- ts_headline reads the text as search does, with blanks for some signs. Its marks split the result into pieces whose places
-- are also the places in the text itself; each piece is cut out there, and escaped by itself.
create or replace function data.search_snippet(configuration regconfig, text text, query tsquery) returns text
language sql stable parallel safe set search_path = '' as $$
  with read as (
    select data.search_words(search_snippet.text) as words
  ),
  headline as (
    select r.words, ts_headline(configuration, r.words, query,
      case when length(r.words) <= 200 then E'StartSel=\x01,StopSel=\x02,HighlightAll=true'
        else E'StartSel=\x01,StopSel=\x02,MaxWords=30,MinWords=15,ShortWord=0' end) as marked
    from read r
  ),
  pieces as (
    select p.piece, p.n, strpos(h.words, translate(h.marked, E'\x01\x02', ''))
      + coalesce(sum(length(p.piece)) over (order by p.n rows between unbounded preceding and 1 preceding), 0) as place
    from headline h, regexp_split_to_table(h.marked, '[\x01\x02]') with ordinality p (piece, n)
    where h.marked ~ '\x01'
  )
  select string_agg(case when p.n % 2 = 0 then '<mark>' || s.escaped || '</mark>' else s.escaped end, '' order by p.n)
  from pieces p, lateral (
    select data.escape_html(substr(search_snippet.text, p.place::int, length(p.piece)))) s (escaped)
$$;
comment on function data.search_snippet(regconfig, text, tsquery) is
  'The part of a text that a search found, as HTML: escaped, with <mark> around the words; null when none is there.';

create or replace function data.search_snippets(configuration regconfig, words text[], texts jsonb) returns jsonb
language sql stable parallel safe set search_path = '' as $$
  select coalesce(jsonb_object_agg(s.key, s.snippet), '{}')
  from (
    select t.key, data.search_snippet(configuration,
      case jsonb_typeof(t.value) when 'string' then t.value #>> '{}' else data.search_text(t.value) end, q.query) as snippet
    from (select string_agg(data.search_lexeme(w)::text, ' | ')::tsquery from unnest(words) w) q (query),
      jsonb_each(texts) t
    where q.query is not null and t.value <> 'null'
  ) s
  where s.snippet is not null
$$;
comment on function data.search_snippets(regconfig, text[], jsonb) is
  'Snippets of a record''s texts, by field: escaped HTML with <mark> around the words that were found. Fields in which none was found are left out.';

create or replace function data.search_texts(entity_id uuid, alias text) returns text
language sql stable set search_path = '' as $$
  select 'jsonb_build_object(' || string_agg(format('%L, %s.%I', (s.field).name, alias, (s.field).name), ', ') || ')'
  from data.search_fields(entity_id) s
$$;
comment on function data.search_texts(uuid, text) is 'The SQL expression for the searched fields of a row of an entity''s view, as JSON.';
