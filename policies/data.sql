grant usage on schema data to rowhouse_account, rowhouse_data;
revoke all on all functions in schema data from public;
revoke all on all procedures in schema data from public;
grant execute on all functions in schema data to rowhouse_data;
grant execute on function data.define_entity(text, text, jsonb), data.drop_entity(text, text), data.plan(text, jsonb),
  data.apply(uuid, boolean),
  data.plan_rollback(text, int), data.rollback(text, int), data.require_entity(text),
  data.find(text, jsonb), data.get(text, uuid, jsonb), data.write(text, text, uuid, jsonb, int), data.insert(text, jsonb, boolean),
  data.insert_ids_call(data.entities, text, text), data.compile_insert_list(data.entities, text, text),
  data.update(text, uuid, jsonb, int), data.replace(text, uuid, jsonb, int), data.delete(text, uuid, int),
  data.compile(text, text, text, jsonb), data.resolve_entity(text, text), data.compile_find(data.entities, text, jsonb, text[]),
  data.compile_filter(uuid, jsonb, text, text[], int), data.compile_condition(uuid, text, text, jsonb, text, text[]),
  data.compile_relation_filter(uuid, text, jsonb, text, text[], int), data.relation_of(uuid, text), data.relation_names(uuid),
  data.is_field(uuid, text), data.filter_value(jsonb, text, text[]),
  data.field_expression(uuid, text, text), data.parse_select(uuid, jsonb, text, text[]), data.compile_expand(uuid, text, jsonb, text, int),
  data.normalize_sort(jsonb), data.cursor_values(text, jsonb, int), data.cursor_text(json), data.page_number(text, text, bigint, bigint),
  data.compile_after(text[], text[], text[], boolean[], text), data.parameterize(jsonb, text[]), data.refuse_unknown_query(jsonb, text),
  data.upsert(text, jsonb, text[], boolean), data.update_list(text, jsonb), data.update_where(text, jsonb, jsonb, int, boolean),
  data.delete_where(text, jsonb, int, boolean), data.write_where(text, text, jsonb, int, boolean, jsonb),
  data.compile_batch(data.entities, text, text, jsonb, text[]), data.with_cache(data.entities, text, jsonb), data.change_count(uuid[]),
  data.entities_read(data.entities, text, text), data.storage_table(data.entities, text), data.storage_name(data.entities),
  data.transaction(text, jsonb), data.run_transaction(text, jsonb), data.run_write(text, jsonb, jsonb),
  data.graphql_batch(text, text, text, jsonb, int),
  data.graphql_estimate(text, text, jsonb), data.graphql_sort(jsonb), data.check_relations(int, text),
  data.graphql_filter(uuid, jsonb, int), data.graphql_condition(text, jsonb), data.like_pattern(text, text, text),
  data.graphql_record(uuid, jsonb), data.check_operations(jsonb), data.operation_members(text),
  data.resolve_refs(jsonb, jsonb, jsonb, text, int), data.refuse_operation(int, text, text, text, text, text, text, text, text),
  data.openapi_transaction(),
  data.openapi_batches(data.entities), data.openapi_batch_schemas(), data.openapi_batch_parameters(),
  data.without_nulls(jsonb), data.record_data(jsonb), data.written_json(text),
  data.write_error(int, text, uuid, int), data.system_columns(), data.kind(jsonb), data.sql_type(jsonb),
  data.export_columns(uuid, jsonb), data.export_statement(text, text, jsonb, text[], boolean, boolean), data.export_entities(text),
  data.export_source(data.entities, jsonb, text[], boolean), data.exported_ids(data.entities, jsonb),
  data.export_copy(uuid, text, jsonb, text, text, text), data.note_export(text, jsonb, text[]),
  data.resolve_app(text),
  data.typescript_comment(text, text), data.typescript_type(jsonb, int), data.typescript_entity(data.entities),
  data.typescript_writes(data.entities),
  data.typescript_types(text), data.singular(text), rowhouse.camel(text), rowhouse.upper_camel(text),
  data.example(jsonb, int), data.openapi_schemas(data.entities), data.openapi_example(data.entities),
  data.openapi_operation(text, text, text, text[], jsonb, text, jsonb), data.openapi_paths(data.entities), data.openapi_search(uuid),
  data.openapi(text),
  data.openapi_common_schemas(), data.openapi_parameters(), data.violation(text, text), data.object_name(text[]),
  data.csv_value(text, text), data.csv_record(uuid, text[]), data.refuse_import(jsonb), data.import_records(uuid, jsonb, text[]),
  data.import_error(data.entities, text, text, text, text),
  data.import_lines(text, jsonb, text[], text[], text),
  data.wrong_records(uuid, text), data.skips_taken(uuid),
  data.search(text, jsonb), data.compile_search(text, jsonb), data.compile_match(data.entities, text, jsonb, boolean, int),
  data.is_searched(uuid), data.require_searched(data.entities), data.search_fields(uuid), data.search_configuration(data.entities),
  data.search_texts(uuid, text), data.search_terms(text), data.search_words(text), data.search_text(jsonb), data.search_lexeme(text, text),
  data.search_snippets(regconfig, text[], jsonb), data.search_snippet(regconfig, text, tsquery), data.escape_html(text),
  data.validate(jsonb, jsonb, boolean), data.unsupported_keywords(jsonb, boolean), data.prepare_schema(jsonb, boolean),
  data.apply_prepared(jsonb, jsonb, text),
  data.read_schema(jsonb, boolean), data.keyword_problem(text, jsonb, boolean), data.subschemas(jsonb), data.schema_nodes(jsonb, int),
  data.schema_id(jsonb),
  data.meta_schemas(), data.regex_tokens(text), data.regex_character(text), data.regex_class(text), data.regex_bracket(text),
  data.regex_part(text),
  data.regex_problem(text), data.regex(text), data.regex_error(text), data.resolve_uri(text, text), data.pointer_part(text),
  data.pointer(text[]),
  data.percent_decoded(text), data.fragment_path(text), data.known_formats(), data.uri_is_valid(text, boolean), data.is_leap_second(text),
  data.is_ipv6(text), data.is_date(text),
  data.format_problem(text, text), data.apply_schema(jsonb, jsonb, jsonb, text, text, jsonb, int),
  data.apply_to_rest(jsonb, jsonb, text, text, jsonb, int, text[], jsonb), data.apply_reference(jsonb, text, jsonb, text, text, jsonb, int),
  data.apply_combinations(jsonb, jsonb, jsonb, text, text, jsonb, int), data.string_violations(jsonb, jsonb, text, text),
  data.number_violations(jsonb, numeric, text), data.apply_to_object(jsonb, jsonb, jsonb, text, text, jsonb, int),
  data.apply_to_array(jsonb, jsonb, jsonb, text, text, jsonb, int), data.kind_of_values(jsonb),
  data.openapi_references(text, jsonb), data.openapi_masked(jsonb, text), data.openapi_rules(data.entities), data.needed_defs(jsonb, jsonb)
to rowhouse_account;
-- The last are called by the views of computed fields and of former definitions, as whoever reads.
grant execute on function
  data.computed_names(jsonb), data.unique_sets(jsonb), data.unique_name(data.entities, text[]), data.index_name(data.entities, text[]),
  data.storage_name(data.entities), data.constraint_fields(data.entities, text), data.parse_expression(text), data.expression_tokens(text),
  data.check_levels(int, int),
  data.parse_operators(text[], int[], int, int, int), data.parse_operand(text[], int[], int, int), data.parse_list(text[], int[], int, int),
  data.refuse_expression(text, int, text), data.refuse_token(text, text, int),
  data.refuse_long_text(bigint), data.text_joined(text[], boolean), data.text_replaced(text, text, text), data.text_number(text),
  data.convert_value(jsonb, text, text), data.clamped_int(numeric), data.int8_or_null(numeric), data.float8_or_null(numeric),
  data.time_added(timestamp, numeric, text),
  data.time_between(timestamp, timestamp, text), data.utc_text(timestamptz)
to rowhouse_account;
grant execute on function data.restore(text, uuid), data.deleted(text, jsonb), data.purge(text, uuid), data.history(text, uuid, jsonb),
  data.compile_kept(data.entities, text, text, jsonb), data.require_option(data.entities, text[], text),
  data.deleted_relation(data.entities, text, jsonb), data.as_of_relation(data.entities, text, jsonb, int),
  data.graphql_kept(text, text, text, uuid, jsonb),
  data.kept_name(data.entities, text, text), data.readable(jsonb, jsonb)
to rowhouse_account;
grant execute on function data.relation_from(text, record, text, text, boolean), data.is_link_filter(uuid, text, jsonb),
  data.is_linked(jsonb), data.link_view(text, text),
  data.link_names(jsonb) to rowhouse_account;
grant execute on function data.convert_storage(text, text), data.cancel_operation(uuid), data.compact(text) to rowhouse_account;
grant usage on schema data to rowhouse_worker;
grant execute on function data.run_step(uuid), data.resume_operations(), data.expire_step(jsonb) to rowhouse_worker;
grant execute on function data.path_alias(text, text), data.path_relation(uuid, text), data.path_expression(uuid, text, text, int),
  data.path_joins(uuid, text, text[], text), data.path_value(uuid, text, text),
  data.column_name(text, text), data.group_terms(jsonb, text), data.aggregate_terms(jsonb), data.timezone(text),
  data.group_expression(jsonb, text, text, text), data.aggregate_expression(text, text, jsonb),
  data.compile_columns_filter(jsonb, jsonb, text[], int),
  data.scope_field(jsonb, text), data.compile_aggregate(jsonb, text, jsonb, text[]),
  data.compile_entity_aggregate(data.entities, text, jsonb, text[]),
  data.aggregate(text, jsonb), data.last_parameter(jsonb), data.parameterize_query(jsonb),
  data.page_body(text, text, text), data.compile_page(jsonb, jsonb, text[], text[], text[], boolean[], text[], int, int),
  data.openapi_union_paths(text[]), data.keeps_records(jsonb), data.openapi_kept_paths(data.entities),
  data.openapi_kept_parameters(data.entities), data.openapi_kept_components(), data.union_entities(jsonb), data.union_common_fields(uuid[]),
  data.union_fields(uuid[], text[], text[], text[]),
  data.union_arm(text, text, text[], text, jsonb, text[]), data.compile_union_find(text, jsonb, text[]),
  data.compile_union_aggregate(text, jsonb, text[]), data.query_union(text, text, jsonb), data.find_union(text, jsonb),
  data.aggregate_union(text, jsonb),
  data.filter_entities(uuid, jsonb), data.plan_rows(jsonb), data.estimated_count(text, text[], text[]),
  data.compile_count(data.entities, text, jsonb, text, text, text[]),
  data.compile_comparison(text, text, text, text, text, text, jsonb, text[]), data.comparison(text, text, text, text, text, text, text),
  data.comparison_type(text, text, text, text), data.field_path(data.fields, text[], text), data.time_literal(text, text)
to rowhouse_account;
grant execute on function data.index_advice(text), data.explain(text, jsonb, boolean), data.plan_steps(data.entities, text, jsonb, jsonb),
  data.plan_nodes(jsonb), data.any_sort(jsonb),
  data.read_message(text, numeric, text, boolean, boolean, numeric, numeric, numeric, numeric),
  data.missing_words(data.entities, text, jsonb, text[]),
  data.query_advice(data.entities, text, jsonb, jsonb), data.filter_conditions(jsonb, boolean), data.entity_indexes(data.entities, text),
  data.index_words(text[]),
  data.is_indexable(uuid, text), data.wanted_fields(uuid, text[], text[], text[]), data.is_served(data.entities, text, text[], text[]),
  data.index_snippet(text[]),
  data.count_words(numeric), data.is_virtual(jsonb), data.storage_table(data.entities, text), data.storage_name(data.entities)
to rowhouse_account;
grant select on data.entities, data.fields, data.relations, data.links, data.entity_versions, data.plans, data.operations,
  data.expirations to rowhouse_account;

alter table data.changes enable row level security;
alter table data.changes force row level security;
drop policy if exists owner_all on data.changes;
create policy owner_all on data.changes to rowhouse_owner using (true) with check (true);

do $$
declare
  _table text;
begin
  foreach _table in array array['entities', 'fields', 'relations', 'links', 'entity_versions', 'plans', 'operations', 'expirations'] loop
    execute format('alter table data.%I enable row level security, force row level security', _table);
    execute format('drop policy if exists owner_all on data.%I', _table);
    execute format('create policy owner_all on data.%I to rowhouse_owner using (true) with check (true)', _table);
    execute format('drop policy if exists member_read on data.%I', _table);
    execute format('create policy member_read on data.%I for select to rowhouse_account
      using (%I = any ((select %s)::uuid[])%s)', _table,
      case when _table in ('plans', 'operations') then 'entity_id' else 'site_id' end,
      case when _table in ('plans', 'operations') then 'access.my_definer_entity_ids()'
        when _table in ('entities', 'fields', 'relations') then 'tenancy.open_site_ids()' else 'tenancy.my_site_ids()' end,
      -- Operations that failed name records that do not fit, and whether a conversion loses anything is what records hold.
      case when _table in ('plans', 'operations')
        then format(' and (not %s or access.sees_whole(entity_id, created_by = (select auth.account_id())))', case _table
          when 'plans' then 'changes @? ''$.changes[*].expression''' else 'coalesce(error, failure) is not null' end)
        else '' end);
  end loop;
end
$$;

-- Who is not logged in knows of what is public only. Restrictive, and not one more way in, so that the index on site_id is used.
do $$
declare
  _table text;
begin
  foreach _table in array array['entities', 'fields', 'relations'] loop
    execute format('drop policy if exists strangers on data.%I', _table);
    execute format('create policy strangers on data.%I as restrictive for select to rowhouse_account
      using ((select auth.account_id()) is not null or %I = any ((select access.my_public_entities())::uuid[]))', _table,
      case _table when 'entities' then 'id' else 'entity_id' end);
  end loop;
end
$$;

-- Entities that were given x-history or x-soft-delete before there were lists as of a time, and GraphQL knew of them.
do $$
declare
  _e record;
begin
  for _e in
    select e as entity, a.schema_name from data.entities e join tenancy.apps a on a.id = e.app_id
    where data.keeps_records(e.schema)
      and obj_description(to_regclass(format('%I.%I', a.schema_name, e.name)), 'pg_class') !~ '@(history|softDelete)'
  loop
    if (_e.entity).schema->'x-history' = 'true' then
      perform data.build_as_of(_e.entity, _e.schema_name);
    end if;
    perform data.comment_view(_e.entity, _e.schema_name);
  end loop;
end
$$;
