--! Previous: sha1:ededfc80cdb6f7ecf707341b0717c06540448686
--! Hash: sha1:aa4aa0677e5a8164eb697aa6bfe0d343e5dce4c2
--! Message: restored-log

set local role rowhouse_auditor;

-- Up to where transactions had been counted when the database was restored: entries below it may be sealed already.
alter table audit.sealing add column doubtful_to xid8 not null default '0';
reset role;
