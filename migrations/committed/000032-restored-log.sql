--! Previous: sha1:4568543d251533a322032b7601428fefd4173aa3
--! Hash: sha1:6d05b29e350117d15207045d63405438c2138324
--! Message: restored-log

set local role rowhouse_auditor;

-- Up to where transactions had been counted when the database was restored: entries below it may be sealed already.
alter table audit.sealing add column doubtful_to xid8 not null default '0';
reset role;
