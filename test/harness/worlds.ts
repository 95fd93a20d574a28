import fc from "fast-check";
import { HIDDEN, type Json } from "./conditions.ts";
import type { Crm } from "./crm.ts";
import {
  type Account,
  type Action,
  type Condition,
  heldRoles,
  type Model,
  may,
  type Permission,
} from "./rights.ts";

// Worlds of rules over two entities that refer to each other: things lie in a folder and are kept in several (acme/crm in jsonb,
// acme/shop in flat storage).

export const EMAILS = ["w0@acme.test", "w1@acme.test", "w2@acme.test", "w3@acme.test"];
export type Rec = Record<string, Json> & { id: string; created_by: string | null };
type Entity = "things" | "folders";

const word = fc.constantFrom("north", "south");
const leaf: fc.Arbitrary<Condition> = fc.oneof(
  word.map((value) => ({ region: { $eq: value } })),
  word.map((value) => ({ region: { $ne: value } })),
  fc.constantFrom("draft", "done").map((value) => ({ status: { $eq: value } })),
  fc.integer({ min: 0, max: 3 }).map((value) => ({ level: { $gt: value } })),
  fc.constant({ region: { $in: "$account.attributes.regions" } }),
  fc.constant({ created_by: { $eq: "$account.id" } }),
  fc.constant({ "$account.groups": { $contains: "team" } }),
  fc.constantFrom("127.0.0.0/8", "10.0.0.0/8").map((value) => ({ "$env.ip": { $cidr: [value] } })),
  fc.constantFrom({ $gte: 1 }, { $gt: 7 }).map((value) => ({ "$env.weekday": value })),
  fc.constantFrom("read", "update").map((value) => ({ $action: { $eq: value } })),
);
const condition: fc.Arbitrary<Condition> = fc.oneof(
  { weight: 4, arbitrary: leaf },
  fc.array(leaf, { minLength: 2, maxLength: 2 }).map((list) => ({ $and: list })),
  fc.array(leaf, { minLength: 2, maxLength: 2 }).map((list) => ({ $or: list })),
  leaf.map((inner) => ({ $not: inner })),
);
const related = word.map((value) => ({ "folder.region": { $eq: value } }));
const action = fc.constantFrom<Action | "*">("create", "read", "read", "update", "delete", "*", "*");
const permission = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      entity: fc.constantFrom<Entity | "*">("things", "folders", "*"),
      action,
      own: fc.boolean(),
      condition: fc.option(condition),
    }),
  },
  fc.record({ entity: fc.constant<Entity>("things"), action, own: fc.constant(false), condition: related }),
);
const roles = fc.uniqueArray(fc.integer({ min: 0, max: 2 }), { minLength: 1, maxLength: 2 });
const record = {
  region: fc.option(word),
  status: fc.constantFrom("draft", "done"),
  level: fc.option(fc.integer({ min: 0, max: 4 })),
  creator: fc.integer({ min: 0, max: EMAILS.length }),
};

export const anyWorld = fc.record({
  app: fc.constantFrom("crm", "shop"),
  roles: fc.array(fc.array(permission, { minLength: 1, maxLength: 3 }), { minLength: 3, maxLength: 3 }),
  inherits: fc.boolean(), // the last role from the first
  policies: fc.uniqueArray(
    fc.record({
      scope: fc.constantFrom(0 as const, 1 as const, 2 as const),
      of: fc.constantFrom<Entity>("things", "folders"), // where the scope is an entity
      name: fc.constantFrom("pa", "pb"),
      effect: fc.constantFrom("allow" as const, "deny" as const, "deny" as const),
      actions: fc.uniqueArray(action, { minLength: 1, maxLength: 2 }),
      condition,
      enabled: fc.boolean(),
    }),
    { maxLength: 3, selector: ({ scope, of, name }) => `${scope}${scope === 2 ? of : ""}${name}` },
  ),
  groupRole: fc.option(fc.integer({ min: 0, max: 2 })),
  accounts: fc.array(
    fc.record({
      attributes: fc.record({ regions: fc.array(word, { maxLength: 2 }) }, { requiredKeys: [] }),
      inGroup: fc.boolean(),
      roles,
      valid: fc.constantFrom("now", "now", "now", "past", "future", "elsewhere"), // elsewhere: under a condition on the address
    }),
    { minLength: EMAILS.length, maxLength: EMAILS.length },
  ),
  delegation: fc.record({ role: fc.integer({ min: 0, max: 2 }), isLost: fc.boolean() }), // of the first account to the last
  folders: fc.array(fc.record({ ...record, isDeleted: fc.constant(false) }), { minLength: 4, maxLength: 4 }),
  things: fc.array(
    fc.record({
      ...record,
      folder: fc.option(fc.integer({ min: 0, max: 3 }), { freq: 5 }),
      shelves: fc.uniqueArray(fc.integer({ min: 0, max: 3 }), { maxLength: 3 }),
      isDeleted: fc.constantFrom(false, false, false, true),
      wasLevel: fc.option(fc.integer({ min: 0, max: 4 })),
    }),
    { minLength: 10, maxLength: 10 },
  ),
});
export type World = typeof anyWorld extends fc.Arbitrary<infer T> ? T : never;

const stored = {
  region: { type: "string", "x-index": true },
  status: { type: "string" },
  level: { type: "integer" },
  note: { type: "string" },
};
const refer = (more: object) => ({ format: "uuid", type: "string", ...more });

/** Members without a role, a group, and both entities in both storages. Returns the accounts' ids. */
export async function prepare(crm: Crm): Promise<string[]> {
  const ids = await Promise.all(EMAILS.map((email) => crm.db.account(email)));
  for (const email of EMAILS) {
    await crm.db.query(
      "select tenancy.add_member('acme', $1, 'viewer'), access.revoke_role('acme', $1, 'viewer')",
      [email],
    );
    crm.tokens[email] = await crm.gateway.token(email, "acme");
  }
  await crm.db.query("select access.create_group('acme', 'team'), access.set_attribute_schema('acme', $1)", [
    { type: "object", properties: { regions: { type: "array", items: { type: "string" } } } },
  ]);
  for (const [app, storage] of [
    ["crm", "jsonb"],
    ["shop", "flat"],
  ]) {
    const common = { type: "object", "x-storage": storage, "x-cache-ttl": 60 };
    const define = (name: string, schema: object) =>
      crm.db.query("select data.define_entity($1, $2, $3)", [`acme/${app}`, name, { ...common, ...schema }]);
    await define("folders", { properties: { code: { type: "string", "x-search": true }, ...stored } });
    await define("things", {
      "x-soft-delete": true,
      "x-history": true,
      properties: {
        code: { type: "string", "x-unique": true, "x-search": true },
        ...stored,
        folder_id: refer({ "x-relation": { entity: "folders", name: "folder", inverse: "things" } }),
        shelf_ids: {
          type: "array",
          items: { type: "string", format: "uuid" },
          "x-relation": { entity: "folders", many: true, name: "shelves", inverse: "kept" },
        },
      },
    });
  }
  return ids;
}

/** Puts a world's rules in the place of those before. */
export async function install(crm: Crm, world: World): Promise<void> {
  const run = (sql: string, values: unknown[] = []) => crm.db.query(sql, values);
  await run("select access.drop_policy('acme', name, scope) from access.policies");
  await run(
    "delete from access.assignments; delete from access.group_members; delete from access.roles where is_internal",
  );
  for (const [n, permissions] of world.roles.entries())
    await run("select access.define_role('acme', $1)", [
      {
        name: `r${n}`,
        inherits: world.inherits && n === 2 ? ["r0"] : [],
        permissions: permissions.map(({ entity, action, own, condition }) => ({
          permission: `${world.app}/${entity}:${action}${own ? ":own" : ""}`,
          ...(condition ? { condition } : {}),
        })),
      },
    ]);
  for (const { scope, of, ...policy } of world.policies)
    await run("select access.define_policy('acme', $1)", [
      {
        ...policy,
        scope: ["", world.app, `${world.app}/${of}`][scope],
        entities: [`${world.app}/things`, `${world.app}/folders`].filter(
          (path) => scope < 2 || path.endsWith(of),
        ),
      },
    ]);
  if (world.groupRole !== null)
    await run("select access.assign_role_to_group('acme', 'team', $1)", [`r${world.groupRole}`]);
  for (const [n, { attributes, inGroup, roles, valid }] of world.accounts.entries()) {
    await run("select access.set_attributes('acme', $1, $2)", [EMAILS[n], attributes]);
    if (inGroup) await run("select access.add_to_group('acme', 'team', $1)", [EMAILS[n]]);
    for (const role of roles)
      await run("select access.assign_role('acme', $1, $2, valid_from => $3, condition => $4)", [
        EMAILS[n],
        `r${role}`,
        valid === "future" ? "2999-01-01" : null,
        valid === "elsewhere" ? { "$env.ip": { $cidr: "10.0.0.0/8" } } : null,
      ]);
    if (valid === "past")
      await run(
        "update access.assignments set valid_until = now() - interval '1 minute' where account_id = (select id from auth.accounts where email = $1)",
        [EMAILS[n]],
      );
  }
  const { role, isLost } = world.delegation;
  const { mayDelegate } = delegated(world);
  if (!mayDelegate) return;
  await crm.db.as("acme", EMAILS[0] as string, (client) =>
    client.query("select access.delegate('acme', $1, $2, now() + interval '1 day')", [EMAILS[3], `r${role}`]),
  );
  if (isLost)
    for (const held of world.accounts[0]?.roles ?? [])
      await run("select access.revoke_role('acme', $1, $2)", [EMAILS[0], `r${held}`]);
}

const plainModel = (world: World) => ({
  roles: world.roles.map((permissions, n) => ({
    permissions,
    parents: world.inherits && n === 2 ? [0] : [],
  })),
  groupRoles: world.groupRole === null ? [] : [world.groupRole],
  policies: [],
});

/** Whether the first account may hand its role on, with which permissions, and whether that still holds. */
function delegated(world: World): { mayDelegate: boolean; holds: boolean; permissions: World["roles"][0] } {
  const { role, isLost } = world.delegation;
  const first = world.accounts[0] as World["accounts"][0];
  const held = (roles: number[]) =>
    heldRoles(plainModel(world), { id: "", email: "", attributes: {}, inGroup: first.inGroup, roles });
  const permissions = [
    ...heldRoles(plainModel(world), { id: "", email: "", attributes: {}, inGroup: false, roles: [role] }),
  ].flatMap((n) => world.roles[n] ?? []);
  const own = first.valid === "now" ? first.roles : [];
  return {
    mayDelegate: held(own).has(role) && !JSON.stringify(permissions).includes("$account"),
    holds: held(isLost ? [] : own).has(role),
    permissions,
  };
}

/** What each account may do, by the reference: `may(n, entity, action, record)`; a thing's `folder` is its folder's record. */
export function reference(world: World, ids: string[]) {
  const env = { ip: "127.0.0.1", weekday: ((new Date().getUTCDay() + 6) % 7) + 1 };
  const models = Object.fromEntries(
    ["things", "folders"].map((entity): [string, Model] => [
      entity,
      {
        ...plainModel(world),
        roles: plainModel(world).roles.map(({ permissions, parents }) => ({
          parents,
          permissions: permissions.filter((p) => p.entity === "*" || p.entity === entity),
        })),
        policies: world.policies.filter(({ scope, of }) => scope < 2 || of === entity),
      },
    ]),
  );
  const { mayDelegate, holds, permissions } = delegated(world);
  const account = (n: number, entity: string): Account => {
    const { attributes, inGroup, roles, valid } = world.accounts[n] as World["accounts"][0];
    const isLost = n === 0 && mayDelegate && world.delegation.isLost;
    return {
      id: ids[n] as string,
      email: EMAILS[n] as string,
      attributes,
      inGroup,
      roles: valid === "now" && !isLost ? roles : [],
      env,
      delegated:
        n === 3 && mayDelegate && holds
          ? [
              {
                by: ids[0] as string,
                permissions: permissions.filter(
                  (p) => p.entity === "*" || p.entity === entity,
                ) as Permission[],
              },
            ]
          : [],
    };
  };
  const mayDo = (n: number, entity: Entity, action: Action, record: Rec, folder?: Rec | null): boolean => {
    const seen = folder && !mayDo(n, "folders", "read", folder) ? HIDDEN : (folder ?? null);
    return may(models[entity] as Model, account(n, entity), action, {
      ...record,
      ...(entity === "things" ? { folder: seen } : {}),
    });
  };
  return mayDo;
}
