--! Previous: sha1:61468a5359ddc85396f7052a32c64143f84b2940
--! Hash: sha1:6c21884f7fda2317ced1019d0b061b2c0bf7f185
--! Message: restored-log

set local role rowhouse_auditor;

-- Up to where transactions had been counted when the database was restored: entries below it may be sealed already.
alter table audit.sealing add column doubtful_to xid8 not null default '0';
reset role;
