-- A share is searched where every field that the entity's search looks into is shared in full: the index holds them together, so what
-- a search finds tells of each. Its search function stands beside its view, looks at what the share's condition leaves, and asks
-- each time whether all that is still so.

create or replace function access.is_share_searched(share access.shares) returns boolean
language sql stable set search_path = '' as $$
  select data.is_searched(share.entity_id) and not exists (
    select from data.search_fields(share.entity_id) s
    where (s.field).name <> all (share.fields) or share.masked ? (s.field).name
      or not exists (select from data.entities e, access.shareable(e) c where e.id = share.entity_id and c.name = (s.field).name))
$$;
comment on function access.is_share_searched(access.shares) is
  'Whether what a share shows can be searched: its entity is, and every searched field is shared without a mask.';

create or replace function access.fail_share_search(share access.shares) returns void
language sql set search_path = '' as $$
  select rowhouse.fail(400, format('%s cannot be searched', share.view_name),
    'A share is searched where its entity has fields with x-search, and all of these are shared without a mask. Use filter.',
    'not_searchable')
$$;
comment on function access.fail_share_search(access.shares) is 'Raises RH400 for a share that cannot be searched.';

create or replace function access.open_share_search(share uuid) returns boolean
language plpgsql security definer set search_path = '' as $$
declare
  _share access.shares;
begin
  if not access.open_share(open_share_search.share) then
    return false;
  end if;
  select s.* into _share from access.shares s where s.id = open_share_search.share;
  if not access.is_share_searched(_share) then
    perform access.fail_share_search(_share);
  end if;
  return true;
end
$$;
comment on function access.open_share_search(uuid) is
  'Whether the search of a share finds the caller anything; then it also notes the read. Called by its function. RH400, RH403 in a '
  'read-only transaction.';

create or replace function access.build_share_search(share access.shares, entity data.entities) returns void
language plpgsql set search_path = '' as $$
declare
  _search text := format('%I.%I', share.schema_name, share.view_name || '_search');
  _condition text := access.share_condition(share, entity);
begin
  if to_regclass(format('%I.%I', share.schema_name, share.view_name)) is null or not access.is_share_searched(share) then
    execute format('drop function if exists %s(text, bigint)', _search);
    return;
  end if;
  perform rowhouse.create_function($sql$
    create or replace function %1$s(_text text, _most bigint default null) returns table (id uuid, rank float8, words text[])
    language plpgsql stable security definer rows 100 set search_path = '' $sql$, '%2$s', _search,
    data.search_body(entity, (select a.schema_name from tenancy.apps a where a.id = entity.app_id),
      format('if not access.open_share_search(%L) then return; end if;', share.id), _condition));
  execute format('comment on function %s(text, bigint) is %L', _search,
    E'@behavior -*\nThe records of a share that a text finds, at most so many: id, rank, and the words by which it was found.');
  execute format('revoke all on function %s(text, bigint) from public', _search);
  execute format('grant execute on function %s(text, bigint) to %I', _search,
    (select s.role_name from tenancy.sites s where s.id = share.to_site_id));
end
$$;
comment on function access.build_share_search(access.shares, data.entities) is
  'Generates <share>_search(text, most) beside the view of a share that can be searched, and drops it where it cannot. Internal.';

create or replace function access.build_share_searches(entity data.entities) returns void
language sql set search_path = '' as $$
  select access.build_share_search(s, entity) from access.shares s
  where s.entity_id = (entity).id and s.accepted_at is not null order by s.id
$$;
comment on function access.build_share_searches(data.entities) is
  'The same for all shares of an entity, whose search was made anew. Internal.';
