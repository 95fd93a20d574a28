create or replace function rowhouse.installed_content() returns text
language sql stable security definer set search_path = '' as $$ select i.content_hash from rowhouse.installed i $$;
comment on function rowhouse.installed_content() is
  'The hash of the definitions that were installed last: a process that may not migrate compares it with its own. For gateway and worker.';
