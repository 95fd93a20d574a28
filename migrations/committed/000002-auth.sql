--! Previous: sha1:c34fe36202d65a2a343ce9741794c953a44951f1
--! Hash: sha1:3064a0912dd0de3a495ca4233ba9634cc12487e5
--! Message: auth

set local role rowhouse_owner;

-- A session is also the family of its refresh tokens. With a site, its tokens are good for that site only.
create table auth.sessions (
  id uuid primary key default uuidv7(),
  account_id uuid not null references auth.accounts on delete cascade,
  site_id uuid references tenancy.sites on delete cascade,
  created_at timestamptz not null default now(),
  expires_at timestamptz not null,
  ended_at timestamptz,
  end_reason text check (end_reason in ('logout', 'reuse', 'membership_ended', 'account_deleted')),
  check ((ended_at is null) = (end_reason is null))
);
create index on auth.sessions (account_id);
create index on auth.sessions (site_id);
create index on auth.sessions (expires_at);

-- id is the jti of a signed token: worth nothing without the signature, so it needs no hash.
create table auth.refresh_tokens (
  id uuid primary key default gen_random_uuid(),
  session_id uuid not null references auth.sessions on delete cascade,
  created_at timestamptz not null default now(),
  expires_at timestamptz not null,
  used_at timestamptz
);
create index on auth.refresh_tokens (session_id);

-- Counted per email and not per account, so that a limit does not tell which emails have an account.
create table auth.failed_logins (
  email_hash bytea primary key,
  attempts int not null,
  window_ends_at timestamptz not null
);
create index on auth.failed_logins (window_ends_at);

-- private_key is encrypted by the gateway (AES-256-GCM) with a key this database never sees.
create table auth.signing_keys (
  kid text primary key,
  public_jwk jsonb not null,
  private_key bytea not null,
  created_at timestamptz not null default now(),
  retired_at timestamptz
);
-- One key signs. Gateways that start together all offer one; the first is kept.
create unique index signing_keys_active on auth.signing_keys ((retired_at is null)) where retired_at is null;

reset role;
