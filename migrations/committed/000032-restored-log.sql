--! Previous: sha1:f2fcd50d56d22d0291d742fb1b24ad5f254f68a7
--! Hash: sha1:b4997640f90918033108b49f8327acef7c3576a6
--! Message: restored-log

set local role rowhouse_auditor;

-- Up to where transactions had been counted when the database was restored: entries below it may be sealed already.
alter table audit.sealing add column doubtful_to xid8 not null default '0';
reset role;
