-- What people type becomes a tsquery, built from parts and never parsed from text, so that nothing typed is syntax but
-- "a phrase", -not and or.

create or replace function data.search_terms(q text)
returns table (n bigint, alternative bigint, is_negated boolean, is_phrase boolean, body text, words text[], is_last boolean)
language plpgsql immutable parallel safe set search_path = '' as $$
begin
  if search_terms.q is null or length(search_terms.q) > 1000 then
    perform rowhouse.fail(400, 'q is what to search for: a text of at most 1,000 characters', 'q=jon smith', 'invalid_q');
  end if;
  return query
    with tokens as (
      select m.i, m.t[1] = '-' as negated, m.t[2] is not null as phrase, coalesce(m.t[2], m.t[3]) as body
      from regexp_matches(search_terms.q, '(-?)(?:"([^"]*)"?|([^\s"]+))', 'g') with ordinality m (t, i)
    ),
    marked as (
      select t.*, not t.phrase and not t.negated and lower(t.body) = 'or' as is_or from tokens t
    ),
    numbered as (
      select k.*, count(*) filter (where k.is_or) over (order by k.i) as part from marked k
    )
    select b.i, b.part, b.negated, b.phrase, b.body, w.words, b.i = max(b.i) over () and not b.phrase and not b.negated
    from numbered b, lateral (
      select array_agg(p.token order by p.o)
      from ts_parse('default', data.search_words(b.body)) with ordinality p (tokid, token, o) where p.tokid <> 12) w (words)
    where not b.is_or and w.words is not null
    order by b.i;
end
$$;
comment on function data.search_terms(text) is
  'What a search text consists of: words, "phrases", -negations and the alternatives that "or" separates; the last word may be unfinished. RH400 for more than 1,000 characters.';

create or replace function data.search_lexeme(lexeme text, suffix text default '') returns tsquery
language sql immutable parallel safe
return ('''' || replace(replace(lexeme, '\', '\\'), '''', '''''') || '''' || suffix)::tsquery;
comment on function data.search_lexeme(text, text) is 'A lexeme as a tsquery; with :* as the suffix, all that begin with it.';

-- Alternatives of words that must and words that must not be there. What has no word to find is left out: a lone -word
-- would match nearly everything, for a scan of the whole index.
create or replace function data.search_parse(
  configuration regconfig, q text, words_table regclass default null,
  out match tsquery, out exact tsquery, out lexemes text[], out prefixes text[]
)
language plpgsql stable set search_path = '' set client_min_messages = warning as $$
declare
  _terms record;
  _part bigint := 0;
  _and tsquery := '';
  _not tsquery := '';
  _exact tsquery;
  _match tsquery;
  _word record;
  _n int := 0;
begin
  match := '';
  exact := '';
  lexemes := '{}';
  prefixes := '{}';
  for _terms in select * from data.search_terms(search_parse.q) loop
    if _terms.alternative <> _part then
      match := match || case when numnode(_and) > 0 then _and && _not else '' end;
      _part := _terms.alternative;
      _and := '';
      _not := '';
    end if;
    _exact := phraseto_tsquery(configuration, array_to_string(_terms.words, ' '));
    if _terms.is_negated then
      _not := _not && case when numnode(_exact) > 0 then !!_exact else '' end;
      continue;
    end if;
    exact := exact && _exact;
    _match := _exact;
    if words_table is not null and not _terms.is_phrase and _n < 10 then
      _match := '';
      for _word in select * from data.search_typos(configuration, words_table, _terms.words, _terms.is_last) loop
        _match := _match && _word.match;
        lexemes := lexemes || _word.lexemes;
      end loop;
      _n := _n + cardinality(_terms.words);
    end if;
    if _terms.is_last then
      _word := data.search_prefix(configuration, _terms.words);
      _match := case when words_table is null then _word.match else _match end;
      prefixes := prefixes || case when _word.prefix is null then '{}' else array[_word.prefix || '*'] end;
    end if;
    lexemes := lexemes || tsvector_to_array(to_tsvector(configuration, array_to_string(_terms.words, ' ')));
    _and := _and && _match;
  end loop;
  match := match || case when numnode(_and) > 0 then _and && _not else '' end;
end
$$;
comment on function data.search_parse(regconfig, text, regclass) is
  'A search text as tsqueries: match finds (the last word also as a beginning, and with a vocabulary misspelt words), exact ranks; lexemes and prefixes (with a * at the end) tell what to mark. An empty match when there is nothing to find. RH400.';

create or replace function data.search_prefix(configuration regconfig, words text[], out match tsquery, out prefix text)
language plpgsql immutable parallel safe set search_path = '' set client_min_messages = warning as $$
declare
  _last text := words[cardinality(words)];
begin
  match := plainto_tsquery(configuration, _last);
  if numnode(match) > 0 then
    prefix := (tsvector_to_array(to_tsvector('data.simple'::regconfig, _last)))[1];
    match := match || data.search_lexeme(prefix, ':*');
  end if;
  if cardinality(words) > 1 then
    match := phraseto_tsquery(configuration, array_to_string(words[:cardinality(words) - 1], ' ')) <-> match;
  end if;
end
$$;
comment on function data.search_prefix(regconfig, text[]) is
  'The words of a term, the last one as a whole or as a beginning; a stop word is no beginning.';

-- Loads pg_trgm: of a library that is not loaded nobody but a superuser may give a function a setting.
do $$ begin perform extensions.show_limit(); end $$;

-- The vocabulary also holds words of records that the caller may not see. What a word is replaced with depends on its
-- distance to each word alone: were the nearest few taken, or known words left as they are, then what is found among
-- one's own records would tell which words others have.
create or replace function data.search_typos(configuration regconfig, words_table regclass, words text[], is_last boolean)
returns table (match tsquery, lexemes text[])
language plpgsql stable set search_path = '' set client_min_messages = warning
set pg_trgm.similarity_threshold = 0.2 as $$
declare
  _word text;
  _typed text;
  _distance int;
  _forms text[];
begin
  foreach _word in array words loop
    _typed := (tsvector_to_array(to_tsvector('data.simple'::regconfig, _word)))[1];
    if numnode(plainto_tsquery(configuration, _word)) = 0 or _typed is null then
      continue;
    end if;
    _forms := array[_typed];
    _distance := case when length(_typed) >= 8 then 2 when length(_typed) >= 4 then 1 else 0 end;
    if _distance > 0 and length(_typed) <= 40 and _typed !~ '[0-9]' then
      -- Trigrams miss neighbours that changed places (jonh), so these are tried themselves.
      execute format($sql$
        select $3 || array(select distinct v.word from %1$s v
          where v.word operator(extensions.%%) $1
            and (extensions.levenshtein_less_equal(v.word, $1, $2) <= $2
              or $4 and exists (select from generate_series(0, 1) d
                where extensions.levenshtein_less_equal(left(v.word, length($1) + d), $1, $2) <= $2)))
          || array(select distinct v.word from generate_series(1, length($1) - 1) i, lateral (
            select left($1, i - 1) || substr($1, i + 1, 1) || substr($1, i, 1) || substr($1, i + 2)) s (swapped)
            join %1$s v on v.word = s.swapped) $sql$, words_table)
      into _forms using _typed, _distance, _forms, search_typos.is_last and _word = words[cardinality(words)] and length(_typed) >= 5;
    end if;
    match := '';
    for i in 1 .. cardinality(_forms) loop
      match := match || plainto_tsquery(configuration, _forms[i]);
    end loop;
    if search_typos.is_last and _word = words[cardinality(words)] then
      match := match || data.search_lexeme(_typed, ':*');
    end if;
    lexemes := tsvector_to_array(to_tsvector(configuration, array_to_string(_forms, ' ')));
    return next;
  end loop;
end
$$;
comment on function data.search_typos(regconfig, regclass, text[], boolean) is
  'For each word the ones of a vocabulary that it may be meant for: one letter off from 4 letters on, two from 8; for an unfinished one also their beginnings, from 5 letters on.';
