--! Previous: sha1:80994313dd12f91ac10ab8cf1001602204490bcb
--! Hash: sha1:6f920c8409511e218a1e979911b6a16d3c9f02d2
--! Message: search

-- Both are trusted: an owner of the database may create them, a superuser is not needed.
create extension if not exists unaccent with schema extensions;
create extension if not exists fuzzystrmatch with schema extensions;
