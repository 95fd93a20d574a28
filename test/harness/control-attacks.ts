import { type Crm, sendTo } from "./crm.ts";
import type { TestGateway } from "./gateway.ts";

// Attacks on the control plane, each as every door takes it.

type Rest = [method: string, path: string, body?: unknown];
/** What an attack is called, and what it says to each door; REST and GraphQL where they have such a door. */
export type Attack = { what: string; sql: string; rest?: Rest; graphql?: string; definition?: object };

export const json = (value: unknown) => JSON.stringify(value);
export const mutation = (name: string, args: Record<string, unknown>) =>
  `mutation { ${name}(input: {${Object.entries(args)
    .map(
      ([key, value]) =>
        `${key}: ${key === "definition" || key === "settings" ? `$${key}` : json(value).replace(/"(\w+)":/g, "$1:")}`,
    )
    .join(", ")}}) { clientMutationId } }`.replace(
    /^mutation(?=.*\$definition)/,
    "mutation ($definition: JSON!)",
  );

/** What somebody tries for themselves. */
export const attacks = (email: string): Attack[] => [
  {
    what: "granting oneself a role",
    sql: `select access.assign_role('acme', '${email}', 'admin')`,
    rest: ["PUT", `assignments/${email}/admin`, {}],
    graphql: mutation("assignRole", { site: "acme", email, role: "admin" }),
  },
  {
    what: "defining a role that one holds",
    sql: `select access.define_role('acme', '{"name": "viewer", "permissions": ["*:*"]}')`,
    rest: ["PUT", "roles/viewer", { permissions: ["*:*"] }],
    graphql: mutation("defineRole", { site: "acme", definition: 0 }),
    definition: { name: "viewer", permissions: ["*:*"] },
  },
  {
    what: "granting a permission to everybody",
    sql: "select access.grant_permission('acme', 'authenticated', '*:*')",
    graphql: mutation("grantPermission", { site: "acme", role: "authenticated", permission: "*:*" }),
  },
  {
    what: "a policy for oneself",
    sql: `select access.define_policy('acme', '{"name": "mine", "effect": "allow", "entities": ["*"], "actions": ["*"]}')`,
    rest: ["PUT", "policies/mine", { effect: "allow", entities: ["*"], actions: ["*"] }],
    graphql: mutation("definePolicy", { site: "acme", definition: 0 }),
    definition: { name: "mine", effect: "allow", entities: ["*"], actions: ["*"] },
  },
  {
    what: "joining a group",
    sql: `select access.add_to_group('acme', 'staff', '${email}')`,
    rest: ["PUT", `groups/staff/members/${email}`],
    graphql: mutation("addToGroup", { site: "acme", name: "staff", email }),
  },
  {
    what: "delegating what one has not",
    sql: "select access.delegate('acme', 'vic@acme.test', 'admin', now() + interval '1 day')",
    rest: [
      "POST",
      "delegations",
      { account: "vic@acme.test", role: "admin", until: new Date(Date.now() + 864e5).toISOString() },
    ],
    graphql: mutation("delegate", {
      site: "acme",
      email: "vic@acme.test",
      role: "admin",
      until: new Date(Date.now() + 864e5).toISOString(),
    }),
  },
  {
    what: "becoming an owner",
    sql: `select tenancy.set_member_role('acme', '${email}', 'owner')`,
    graphql: mutation("setMemberRole", { site: "acme", email, role: "owner" }),
  },
  {
    what: "defining an entity",
    sql: `select data.define_entity('acme/crm', 'mine', '{"type": "object", "properties": {}}')`,
    graphql: mutation("defineEntity", { app: "acme/crm", name: "mine", schema: {} }).replace(
      "schema: {}",
      'schema: "{}"',
    ),
  },
  {
    what: "reading the audit log",
    sql: "select audit.search('acme')",
    graphql: '{ auditLog(site: "acme") }',
  },
  {
    what: "asking who can",
    sql: "select access.who_can('acme/crm/contacts', 'read')",
    rest: ["GET", "who-can?entity=crm/contacts&action=read"],
    graphql: '{ whoCan(entity: "acme/crm/contacts", action: "read") }',
  },
];

/** What psql, REST and GraphQL answer: a status each. */
export async function tried(
  { crm, gateway }: { crm: Crm; gateway: TestGateway },
  { sql, rest, graphql, definition }: Attack,
  as: string | null,
  email: string | null,
  site = "acme",
) {
  const psql = email
    ? await crm.db
        .as(site, email, (client) => client.query(sql))
        .then(
          () => 200,
          ({ code }) => Number(code.slice(2)),
        )
    : null;
  const overRest = rest
    ? (
        await sendTo(gateway, crm.tokens, `/api/v1/sites/acme/access/${rest[1]}`, {
          method: rest[0],
          body: rest[2],
          as,
        })
      ).status
    : null;
  const answer = graphql
    ? await sendTo(gateway, crm.tokens, "/graphql", {
        method: "POST",
        body: { query: graphql, variables: { definition } },
        as,
      })
    : null;
  const errors = (answer?.json as unknown as { errors?: { extensions?: { status: number } }[] })?.errors;
  return { psql, rest: overRest, graphql: answer && (errors?.[0]?.extensions?.status ?? answer.status) };
}
