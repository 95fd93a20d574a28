--! Previous: sha1:1a70eaa84220c7c133b817f6a8244e8a5a635cbe
--! Hash: sha1:5db4640becff67985ffffcd9dce41d9fbab2c1cc
--! Message: shares-everywhere

set local role rowhouse_owner;

-- What a site of another organization grants waits for the receiving site; what was granted before this stays in effect.
alter table access.shares
  add column masked jsonb not null default '{}',
  add column accepted_at timestamptz,
  add column accepted_by uuid,
  add column view_digest text;
update access.shares set accepted_at = created_at;

reset role;

set local role rowhouse_auditor;

-- Who has seen a record: the ids that a read showed.
create index entries_seen on audit.entries using gin ((new->'records') jsonb_path_ops) with (fastupdate = off) where new ? 'records';

reset role;
