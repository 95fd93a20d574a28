-- What an entry of the audit log is made of.

create or replace function audit.bounded(value jsonb) returns jsonb
language sql immutable parallel safe as $$
  select case when pg_column_size(bounded.value) > 2000
    and octet_length(bounded.value::text) > 16000 then audit.cut(bounded.value) else bounded.value end
$$;
comment on function audit.bounded(jsonb) is 'A record for the audit log: values of more than 1,000 characters are cut where all together take more than 16 kB.';

create or replace function audit.cut(value jsonb) returns jsonb
language sql immutable parallel safe set search_path = '' as $$
  select coalesce(jsonb_object_agg(p.key, case when length(p.value::text) <= 1000 then p.value
    else jsonb_build_object('$cut', left(p.value #>> '{}', 200), 'characters', length(p.value #>> '{}'),
      'sha256', encode(sha256(convert_to(p.value #>> '{}', 'UTF8')), 'hex')) end), '{}')
  from (select e.key, e.value from jsonb_each(cut.value) e order by octet_length(e.value::text) limit 1000) p
$$;
comment on function audit.cut(jsonb) is
  'A record with long values replaced by {"$cut": their beginning, "characters", "sha256"}: what they were can be checked, not read.';
