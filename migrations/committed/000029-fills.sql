--! Previous: sha1:ededfc80cdb6f7ecf707341b0717c06540448686
--! Hash: sha1:ca36b695a234a95d319b7af2111876e340a91420
--! Message: fills

set local role rowhouse_owner;

-- What a worker fills for records that were there before: until then the view computes it (a stored computed field), or reads the
-- default in place of null (a property that is required now).
alter table data.fields add is_filling boolean not null default false;

reset role;
