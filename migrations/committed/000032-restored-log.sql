--! Previous: sha1:b6eaaa79e5da9c2a55bab8eed56e8658c41badd1
--! Hash: sha1:27c7befd5642c85842d885b53039d991bae0abbf
--! Message: restored-log

set local role rowhouse_auditor;

-- Up to where transactions had been counted when the database was restored: entries below it may be sealed already.
alter table audit.sealing add column doubtful_to xid8 not null default '0';
reset role;
