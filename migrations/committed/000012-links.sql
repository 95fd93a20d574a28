--! Previous: sha1:4048b3163d84abbce7b6b20cbbb59474132bcdcd
--! Hash: sha1:689b9e0df822a729515892c57a68ac798f4204ac
--! Message: links

set local role rowhouse_owner;

-- Relations of many records to many, by the property that lists the ids. The links themselves are rows of
-- <entity>__links_<property> in the app's schema.
create table data.links (
  entity_id uuid not null,
  field text not null,
  site_id uuid not null references tenancy.sites on delete cascade,
  target_id uuid not null references data.entities on delete restrict,
  on_delete text not null check (on_delete in ('restrict', 'cascade')),
  name text not null,
  inverse_name text not null,
  primary key (entity_id, field),
  foreign key (entity_id, field) references data.fields on delete cascade
);
create index on data.links (target_id);
create index on data.links (site_id);

reset role;
