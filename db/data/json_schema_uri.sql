-- References of JSON Schema: RFC 3986, as far as finding a place in a document needs it.

create or replace function data.resolve_uri(base text, reference text) returns text
language plpgsql immutable parallel safe set search_path = '' as $$
declare
  -- scheme, authority, path, query, fragment: RFC 3986, appendix B
  _split constant text := '^([^:/?#]+:)?(//[^/?#]*)?([^?#]*)(\?[^#]*)?(#.*)?$';
  _b text[] := regexp_match(coalesce(base, ''), _split);
  _r text[] := regexp_match(reference, _split);
  _path text := _r[3];
  _out text[] := '{}';
  _part text;
begin
  if _r[1] is not null then
    return reference;
  elsif _r[2] is not null then
    return concat(_b[1], reference);
  elsif _path = '' then
    return concat(_b[1], _b[2], _b[3], coalesce(_r[4], _b[4]), _r[5]);
  elsif left(_path, 1) <> '/' then
    _path := case when _b[2] is not null and _b[3] = '' then '/' else regexp_replace(_b[3], '[^/]*$', '') end || _path;
  end if;
  if _path ~ '(^|/)\.\.?(/|$)' then
    foreach _part in array string_to_array(regexp_replace(_path, '(/\.\.?)$', '\1/'), '/') loop
      if _part = '..' then
        _out := case when cardinality(_out) > 1 then trim_array(_out, 1) else _out end;
      elsif _part <> '.' then
        _out := _out || _part;
      end if;
    end loop;
    _path := array_to_string(_out, '/');
  end if;
  return concat(_b[1], _b[2], _path, _r[4], _r[5]);
end
$$;
comment on function data.resolve_uri(text, text) is 'A reference made absolute against a base (RFC 3986).';

create or replace function data.pointer_part(name text) returns text
language sql immutable parallel safe as $$
  select replace(replace(name, '~', '~0'), '/', '~1')
$$;
comment on function data.pointer_part(text) is 'A name as part of a JSON pointer: a/b becomes a~1b.';

create or replace function data.pointer(path text[]) returns text
language sql immutable parallel safe set search_path = '' as $$
  select coalesce(string_agg('/' || data.pointer_part(p), '' order by n), '') from unnest(path) with ordinality x (p, n)
$$;
comment on function data.pointer(text[]) is 'A path as a JSON pointer.';

create or replace function data.percent_decoded(text text) returns text
language plpgsql immutable parallel safe set search_path = '' as $$
begin
  if percent_decoded.text !~ '%' then
    return percent_decoded.text;
  end if;
  return (
    select convert_from(string_agg(case when m[1] ~ '^%..' then decode(substr(m[1], 2), 'hex') else convert_to(m[1], 'UTF8') end, ''::bytea
      order by n), 'UTF8')
    from regexp_matches(percent_decoded.text, '(%[0-9a-fA-F]{2}|.)', 'g') with ordinality x (m, n));
exception when character_not_in_repertoire or untranslatable_character then
  return null;
end
$$;
comment on function data.percent_decoded(text) is 'Text with its %XX decoded; null when it is not UTF-8.';

create or replace function data.fragment_path(fragment text) returns text[]
language sql immutable parallel safe set search_path = '' as $$
  select array(select replace(replace(p, '~1', '/'), '~0', '~')
    from unnest((string_to_array(data.percent_decoded(fragment), '/'))[2:]) with ordinality x (p, n) order by n)
$$;
comment on function data.fragment_path(text) is 'The JSON pointer of a fragment (/$defs/a%25b) as a path.';
