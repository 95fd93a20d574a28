-- What looks like data of persons: by names of fields, in several languages, and by the values of a sample.

create or replace function access.pii_names() returns table (kind text, pattern text, mask text)
language sql immutable parallel safe as $$
  values
    ('email', '(^|_)(e_?mails?|mail|correo|courriel|epost|posta|email_?adresse?)(_|$)', 'email'),
    ('phone',
      '(^|_)(tele)?(phone|telefono|telefone|telefon|telephone|fon|mobile?|handy|movil|celular|cell|cellulare|portable|gsm|fax|tel)(_?(number|nr|no|nummer))?(_|$)',
      'last_four'),
    ('card',
      '(^|_)(card|credit_?card|kreditkarte|tarjeta|carte|carta|cartao|kort|pan|cc)(_?(number|nr|no|num|nummer|numero))(_|$)|(^|_)(credit_?card|kreditkarte)(_|$)',
      'last_four'),
    ('iban', '(^|_)(iban|bank_?account|account_?number|kontonummer|kontonr|bankkonto|cuenta|compte)(_|$)', 'last_four'),
    ('national id',
      '(^|_)(ssn|social_?security(_number)?|sin|nin|national_?id|nino|passport|passnummer|pasaporte|passeport|ausweis|personnummer|fodselsnummer|foedselsnummer|fodselsnr|cpr|bsn|pesel|dni|nie|nif|curp|rfc|cpf|codice_?fiscale|insee|nir|steuer_?id|tax_?id|aadhaar|pan_?card|driver_?licen[sc]e)(_|$)',
      'redact'),
    ('birth',
      '(^|_)(birth(day|_?date)?|date_?of_?birth|born|dob|geburt(sdatum|stag)?|fodselsdato|foedselsdato|nacimiento|fecha_?nac(imiento)?|naissance|nascita|nascimento|syntymaaika)(_|$)',
      'year'),
    ('name',
      '(^|_)(first_?name|last_?name|full_?name|surname|given_?name|family_?name|vorname|nachname|fornavn|etternavn|apellidos?|prenom|nom_?de_?famille|cognome|sobrenome)(_|$)',
      '{first1}***'),
    ('address', '(^|_)(street|address|strasse|adresse|gate|direccion|calle|rue|indirizzo|endereco)(_|$)', 'redact'),
    ('ip address', '(^|_)(ip|ip_?address|remote_?addr)(_|$)', 'redact')
$$;
comment on function access.pii_names() is 'Names of fields that hold data of persons, as patterns, with the mask to propose.';

create or replace function access.is_luhn(value text) returns boolean
language sql immutable strict parallel safe set search_path = '' as $$
  select length(d) between 13 and 19 and d ~ '^[3-6]' and (
    select sum(case when n % 2 = 0 then case when v * 2 > 9 then v * 2 - 9 else v * 2 end else v end) % 10 = 0
    from string_to_table(reverse(d), null) with ordinality x (digit, n), lateral (select digit::int) y (v))
  from translate(is_luhn.value, ' -', '') d where d ~ '^[0-9]{13,19}$'
$$;
comment on function access.is_luhn(text) is 'Whether a text is the number of a payment card: 13 to 19 digits, blanks and hyphens aside, with a right check digit (Luhn).';

create or replace function access.is_iban(value text) returns boolean
language sql immutable strict parallel safe set search_path = '' as $$
  select (select string_agg(case when c ~ '[A-Z]' then (ascii(c) - 55)::text else c end, '' order by n)
    from string_to_table(substr(i, 5) || left(i, 4), null) with ordinality x (c, n))::numeric % 97 = 1
  from upper(translate(is_iban.value, ' ', '')) i where i ~ '^[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}$'
$$;
comment on function access.is_iban(text) is 'Whether a text is an IBAN with a right checksum.';

create or replace function access.is_national_id(value text) returns boolean
language sql immutable strict parallel safe set search_path = '' as $$
  select case
    when v ~ '^(?!000|666|9)\d{3}-(?!00)\d{2}-(?!0000)\d{4}$' then true -- United States
    when v ~ '^[0-3]\d[0-1]\d{3}\s?\d{5}$' then -- Norway: two check digits
      (select (11 - sum(d[n] * (array[3,7,6,1,8,9,4,5,2])[n]) filter (where n <= 9) % 11) % 11 = d[10]
          and (11 - sum(d[n] * (array[5,4,3,2,7,6,5,4,3,2])[n]) filter (where n <= 10) % 11) % 11 = d[11] from generate_subscripts(d, 1) n)
    when v ~ '^\d{8}[A-Z]$' then substr('TRWAGMYFPDXBNJZSQVHLCKE', left(v, 8)::int % 23 + 1, 1) = right(v, 1) -- Spain
    when v ~ '^(\d{3}\.?){2}\d{3}-?\d{2}$' then -- Brazil
      (select sum(d[n] * (11 - n)) filter (where n <= 9) * 10 % 11 % 10 = d[10]
        and sum(d[n] * (12 - n)) filter (where n <= 10) * 10 % 11 % 10 = d[11] from generate_subscripts(d, 1) n)
    when v ~ '^[A-CEGHJ-PR-TW-Z]{2}\d{6}[A-D]$' then true -- United Kingdom
    when v ~ '^[A-Z]{6}\d\d[A-EHLMPRST]\d\d[A-Z]\d{3}[A-Z]$' then true -- Italy
    else false end
  from upper(btrim(is_national_id.value)) v,
    lateral (select array(select c::int from string_to_table(regexp_replace(v, '\D', '', 'g'), null) c)) x (d)
$$;
comment on function access.is_national_id(text) is
  'Whether a text is written as a national id, with right check digits where there are some: United States (SSN), United Kingdom (NINO), Norway, Spain (DNI), Brazil (CPF), Italy.';

create or replace function access.pii_kind(value text) returns text
language sql immutable strict parallel safe set search_path = '' as $$
  select case
    when length(value) > 200 then null
    when value ~ '^[^@\s]+@[^@\s]+\.[^@\s]+$' then 'email'
    when access.is_iban(value) then 'iban'
    when access.is_national_id(value) then 'national id'
    when access.is_luhn(value) then 'card'
    when value ~ '^(\+|00)\d[\d ()./-]{6,20}\d$' or value ~ '^\(?0\d[\d ()./-]{5,18}\d$'
      and length(regexp_replace(value, '\D', '', 'g')) between 7 and 15 then 'phone'
    when pg_input_is_valid(value, 'inet') and value ~ '[.:].*[.:]' then 'ip address'
  end
$$;
comment on function access.pii_kind(text) is 'What data of a person a text looks like: email, iban, card, national id, phone, ip address; null for none.';

create or replace function access.detect_pii(entity text) returns jsonb
language plpgsql stable security definer set search_path = '' as $$
declare
  _r record := data.resolve_entity(regexp_replace(detect_pii.entity, '/[^/]*$', ''), split_part(detect_pii.entity, '/', 3));
  _entity data.entities := _r.entity_row;
  _sample int := 1000;
  _unseen text[] := access.unseen((_r.entity_row).id);
  _values jsonb;
  _out jsonb;
begin
  perform access.require_definer(regexp_replace(detect_pii.entity, '/[^/]*$', ''));
  -- The view, so that nobody is told of values that they do not see.
  execute format('select coalesce(jsonb_object_agg(x.field, x.kinds), ''{}'') from (
      select k.field, jsonb_build_object(''kind'', (array_agg(k.kind order by k.n desc, k.kind) filter (where k.kind is not null))[1],
        ''n'', max(k.n) filter (where k.kind is not null), ''all'', sum(k.n)) as kinds
      from (
        select f.key as field, access.pii_kind(f.value) as kind, count(*) as n
        from (select t.* from %I.%I t limit %s) t, jsonb_each_text(to_jsonb(t) - $1) f where f.value is not null group by 1, 2) k
      group by 1) x', _r.schema_name, _entity.name, _sample)
  into _values using data.system_columns() || _unseen;
  select coalesce(jsonb_agg(jsonb_strip_nulls(jsonb_build_object('field', x.name, 'kind', x.kind, 'because', x.because, 'share', x.share,
    'definition', jsonb_build_object('properties', jsonb_build_object(x.name, jsonb_build_object('x-pii', true, 'x-mask', x.mask)))))
      order by x.position), '[]')
  into _out
  from (
    select f.name, f.position, s.share, v.kind, v.because,
      case when f.sql_type in ('date', 'timestamptz') then 'year' when f.sql_type <> 'text' then 'null'
        else coalesce((select p.mask from access.pii_names() p where p.kind = v.kind limit 1), 'redact') end as mask
    from data.fields f
    left join lateral (select n.kind from access.pii_names() n where f.name ~ n.pattern limit 1) n on true
    left join lateral (select _values->f.name->>'kind' as kind,
      round((_values->f.name->>'n')::numeric / (_values->f.name->>'all')::numeric, 2) as share) s on true,
      lateral (select
        case when s.share >= 0.5 then s.kind when f.kind = 'email' then 'email' when n.kind is not null then n.kind
          when s.share >= 0.05 then s.kind end,
        case when s.share >= 0.5 then format('%s of the values in a sample look like %s', round(s.share * 100) || ' %', s.kind)
          when f.kind = 'email' then 'its format is email' when n.kind is not null then format('its name says %s', n.kind)
          when s.share >= 0.05 then format('%s of the values in a sample look like %s', round(s.share * 100) || ' %', s.kind) end) v (kind,
            because)
    where f.entity_id = _entity.id and not f.schema ?| array['x-pii', 'x-mask', 'x-alias', 'x-computed'] and v.kind is not null
  ) x;
  return _out;
end
$$;
comment on function access.detect_pii(text) is
  'Proposes which fields of an entity (acme/crm/people) to mark with x-pii: [{field, kind, because, share (of the values in a sample of at most 1,000 records that look so), definition (what to add to the entity''s)}]. Fields that are marked already are left out; values that the caller does not see are not looked at. Owners, admins and @entities:define. RH403, RH404.';
