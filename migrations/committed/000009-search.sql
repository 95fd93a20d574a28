--! Previous: sha1:71e91a4cf01887b9978042a8c7dade0683eceb72
--! Hash: sha1:5b8b7e06a11241a5c020cc6c9f1b89d782bbd13d
--! Message: search

-- Both are trusted: an owner of the database may create them, a superuser is not needed.
create extension if not exists unaccent with schema extensions;
create extension if not exists fuzzystrmatch with schema extensions;
