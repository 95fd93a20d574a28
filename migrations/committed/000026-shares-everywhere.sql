--! Previous: sha1:2640677916cdc4e34f033d899791b27e5b58b913
--! Hash: sha1:e79259d9f56c68311b8fcfcbd24262a07fa6fe28
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
