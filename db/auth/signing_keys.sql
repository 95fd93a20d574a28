create or replace function auth.list_signing_keys() returns setof auth.signing_keys
language sql stable security definer set search_path = '' as $$
  select k.* from auth.signing_keys k
  where k.retired_at is null or k.retired_at > now() - auth.refresh_lifetime()
  order by k.retired_at nulls first
$$;
comment on function auth.list_signing_keys() is
  'The key that signs, first, and those retired so recently that tokens of theirs may be about; private keys encrypted. For the gateway.';

create or replace function auth.offer_signing_key(kid text, public_jwk jsonb, private_key bytea) returns void
language sql security definer set search_path = '' as $$
  insert into auth.signing_keys (kid, public_jwk, private_key)
  values (offer_signing_key.kid, offer_signing_key.public_jwk, offer_signing_key.private_key)
  on conflict do nothing
$$;
comment on function auth.offer_signing_key(text, jsonb, bytea) is
  'Keeps a signing key if there is none; of gateways that start together the first one''s is kept. For the gateway.';
