--! Previous: sha1:9a213e69391f49d374f0635c19ef4098929370ea
--! Hash: sha1:e98221ced06d481267310dd84bef5609b43c364b
--! Message: search

-- Both are trusted: an owner of the database may create them, a superuser is not needed.
create extension if not exists unaccent with schema extensions;
create extension if not exists fuzzystrmatch with schema extensions;
