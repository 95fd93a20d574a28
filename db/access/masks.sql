-- Masks: what is shown of a value to those who may not see it whole. One function each, for use in SQL too. Null stays null.

create or replace function access.mask_redact(value text) returns text
language sql immutable strict parallel safe return '***';
comment on function access.mask_redact(text) is 'The mask redact: *** whatever the text is.';

-- As HMAC does: an inner and an outer hash, each behind its half of the key.
create or replace function access.mask_hash(value text, key bytea) returns text
language sql immutable strict parallel safe
return left(encode(sha256(substr(key, 33) || sha256(substr(key, 1, 32) || convert_to(value, 'utf8'))), 'hex'), 32);
comment on function access.mask_hash(text, bytea) is
  'The mask hash: 32 hexadecimal digits that are the same for the same text under the same key of 64 bytes. Masks of a site use its own secret key, so that values can be told apart and joined within the site, and not be found by trying.';

create or replace function access.mask_last_four(value text) returns text
language sql immutable strict parallel safe
return '****' || case when length(value) >= 8 then right(value, 4) else '' end;
comment on function access.mask_last_four(text) is 'The mask last_four: **** and the last four characters; of a text with fewer than 8 none.';

create or replace function access.mask_email(value text) returns text
language sql immutable strict parallel safe
return case when value ~ '^[^@]+@[^@]+$' then left(value, 1) || '***@' || split_part(value, '@', 2) else '***' end;
comment on function access.mask_email(text) is 'The mask email: a***@example.com; *** for what is no address.';

create or replace function access.mask_year(value text) returns text
language sql immutable strict parallel safe
return case when value ~ '^\d{4}-\d\d-\d\d' then left(value, 4) || '-01-01' else '***' end;
comment on function access.mask_year(text) is 'The mask year of a date in a text: 1990-01-01 for any day of 1990; *** for what begins with no date.';

create or replace function access.mask_year(value date) returns date
language sql immutable strict parallel safe
return case when isfinite(value) then make_date(extract(year from value)::int, 1, 1) end;
comment on function access.mask_year(date) is 'The mask year: the first of January of the date''s year.';

create or replace function access.mask_year(value timestamptz) returns timestamptz
language sql immutable strict parallel safe
return date_trunc('year', value, 'UTC');
comment on function access.mask_year(timestamptz) is 'The mask year: the begin of the instant''s year in UTC.';

create or replace function access.mask_template(value text, template text) returns text
language sql immutable strict parallel safe set search_path = '' as $$
  select string_agg(coalesce(case m[2]
      when 'first' then case when length(value) >= 2 * m[3]::int then left(value, m[3]::int) else '' end
      when 'last' then case when length(value) >= 2 * m[3]::int then right(value, m[3]::int) else '' end
      when 'domain' then case when value ~ '^[^@]+@[^@]+$' then split_part(value, '@', 2) else '' end
    end, m[1]), '' order by n)
  from regexp_matches(template, '((?:\{(?=first[1-9]\}|last[1-9]\}|domain\})(first|last|domain)([1-9]?)\})|[^{]+|\{)',
    'g') with ordinality r (m, n)
$$;
comment on function access.mask_template(text, text) is
  'A mask by a template: ***-{last4}, {first1}. ***, ***@{domain}. {first1} to {first9} and {last1} to {last9} are as many characters, of a text at least twice as long; {domain} is what follows the @ of an address.';

create or replace function access.is_mask(mask text) returns boolean
language sql immutable parallel safe
return is_mask.mask in ('redact', 'hash', 'last_four', 'email', 'year', 'null')
  or is_mask.mask ~ '\{(first[1-9]|last[1-9]|domain)\}' and length(is_mask.mask) <= 100 and is_mask.mask !~ '[[:cntrl:]]';
comment on function access.is_mask(text) is 'Whether a text names a mask or is a template of one.';

-- Of several masks that roles give, the one that says most is shown.
create or replace function access.mask_rank(mask text) returns int
language sql immutable parallel safe
return case mask_rank.mask when 'email' then 2 when 'last_four' then 3 when 'year' then 4 when 'hash' then 5 when 'redact' then 6
  when 'null' then 7 else 1 end;
comment on function access.mask_rank(text) is 'The place of a mask among those that a reader has: templates, email, last_four, year, hash, redact, null. The first is shown.';

-- A mask keeps the type of its column. The key stands in a table that only the view's owner reads: who may call a function
-- that returns it could try values themselves.
create or replace function access.mask_sql(mask text, sql_type text, expression text, site_id uuid) returns text
language sql immutable parallel safe set search_path = '' as $$
  select case
    when mask_sql.mask = 'year'
      and mask_sql.sql_type in ('date', 'timestamptz', 'text') then format('access.mask_year(%s)', mask_sql.expression)
    when mask_sql.sql_type <> 'text' or mask_sql.mask = 'null' then 'null::' || mask_sql.sql_type
    when mask_sql.mask = 'hash'
      then format('access.mask_hash(%s, (select k.key from access.mask_keys k where k.site_id = %L))', mask_sql.expression,
      mask_sql.site_id)
    when mask_sql.mask in ('redact', 'last_four', 'email') then format('access.mask_%s(%s)', mask_sql.mask, mask_sql.expression)
    else format('access.mask_template(%s, %L)', mask_sql.expression, mask_sql.mask)
  end
$$;
comment on function access.mask_sql(text, text, text, uuid) is
  'An SQL expression of a type under a mask, of the same type: numbers, booleans, lists and objects become null, dates too but for their year.';

create or replace function access.default_mask(property jsonb) returns text
language sql immutable parallel safe set search_path = '' as $$
  select case
    when property ? 'x-mask' then property->>'x-mask'
    when property->'x-pii' is distinct from 'true' then null
    when data.kind(property) = 'email' then 'email'
    when data.kind(property) in ('date', 'date-time') then 'year'
    else 'redact' end
$$;
comment on function access.default_mask(jsonb) is 'How a property is masked for those whom nothing lets see it: x-mask; with x-pii email, year or redact by its type; null where it is not masked.';

create or replace function access.mask_violations(schema jsonb) returns jsonb
language sql immutable set search_path = '' as $$
  select coalesce(jsonb_agg(data.violation(format('/properties/%s/%s', p.key, x.keyword), x.message)->0 order by p.key, x.keyword), '[]')
  from jsonb_each(case jsonb_typeof(mask_violations.schema->'properties') when 'object' then mask_violations.schema->'properties'
    else '{}' end) p,
    lateral (
      select 'x-pii', 'must be true or false' where p.value ? 'x-pii' and jsonb_typeof(p.value->'x-pii') <> 'boolean'
      union all
      select 'x-mask', 'must be redact, hash, last_four, email, year, null, or a template such as ***-{last4}'
      where p.value ? 'x-mask' and not (jsonb_typeof(p.value->'x-mask') = 'string' and access.is_mask(p.value->>'x-mask'))
      union all
      select k, 'goes with the property whose other name this is'
      from unnest(array['x-pii', 'x-mask']) k
      where p.value ? k and p.value ? 'x-alias'
    ) x (keyword, message)
  where jsonb_typeof(p.value) = 'object'
$$;
comment on function access.mask_violations(jsonb) is 'What is wrong with x-pii and x-mask in an entity''s schema: a JSON array of {pointer, message}.';
