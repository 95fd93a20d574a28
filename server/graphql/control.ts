import { jsonPgSmartTags } from "postgraphile/utils";
import type { IntrospectionScope } from "./introspection.ts";

/**
 * What the control plane's GraphQL shows. A list, not a rule: what is added to these schemas stays unknown here until
 * somebody lists it. Rows are filtered by row-level security, functions check who calls them.
 */
export const controlScope: IntrospectionScope = {
  role: "rowhouse_account",
  schemas: ["tenancy", "auth", "access", "data", "audit"],
  tables: [
    "tenancy.organizations",
    "tenancy.organization_members",
    "tenancy.sites",
    "tenancy.site_members",
    "tenancy.apps",
    "tenancy.domains",
    "auth.accounts",
    "access.roles",
    "access.permissions",
    "access.assignments",
    "access.groups",
    "access.group_members",
    "access.policies",
    "data.entities",
    "data.fields",
    "data.relations",
  ],
  functions: [
    "tenancy.create_organization",
    "tenancy.add_organization_member",
    "tenancy.remove_organization_member",
    "tenancy.drop_organization",
    "tenancy.create_site",
    "tenancy.update_site_settings",
    "tenancy.drop_site",
    "tenancy.add_member",
    "tenancy.set_member_role",
    "tenancy.remove_member",
    "tenancy.create_app",
    "tenancy.update_app_settings",
    "tenancy.drop_app",
    "tenancy.add_domain",
    "access.create_role",
    "access.define_role",
    "access.drop_role",
    "access.grant_permission",
    "access.revoke_permission",
    "access.assign_role",
    "access.revoke_role",
    "access.create_group",
    "access.drop_group",
    "access.add_to_group",
    "access.remove_from_group",
    "access.assign_role_to_group",
    "access.revoke_role_from_group",
    "access.delegate",
    "access.revoke_delegation",
    "access.define_policy",
    "access.drop_policy",
    "access.effective",
    "access.explain",
    "access.who_can",
    "access.what_can",
    "data.define_entity",
    "data.drop_entity",
    "audit.search",
    "audit.search_organization",
    "audit.verify",
    "audit.verify_organization",
  ],
};

const hidden = { tags: { behavior: "-*" } };

/** Names of PostgreSQL objects are nobody's business but the operator's. */
export const controlTags = jsonPgSmartTags({
  version: 1,
  config: {
    procedure: {
      "audit.search": { tags: { name: "audit_log" } },
      "audit.search_organization": { tags: { name: "organization_audit_log" } },
      "audit.verify": { tags: { name: "verify_audit_log" } },
      "audit.verify_organization": { tags: { name: "verify_organization_audit_log" } },
    },
    class: {
      "tenancy.sites": { attribute: { role_name: hidden }, constraint: { sites_role_name_key: hidden } },
      "tenancy.apps": { attribute: { schema_name: hidden }, constraint: { apps_schema_name_key: hidden } },
    },
  },
});
