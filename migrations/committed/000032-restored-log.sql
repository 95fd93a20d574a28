--! Previous: sha1:9f003a5425de625e9758b5856776770666304dc0
--! Hash: sha1:8c0729efc92cd9e757c5fb684dca1de8c2d10a24
--! Message: restored-log

set local role rowhouse_auditor;

-- Up to where transactions had been counted when the database was restored: entries below it may be sealed already.
alter table audit.sealing add column doubtful_to xid8 not null default '0';
reset role;
