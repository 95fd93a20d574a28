import { afterAll, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import { sendTo } from "./harness/crm.ts";
import { startGateway, type TestGateway } from "./harness/gateway.ts";
import { startPosts } from "./harness/posts.ts";

// Who may define policies, entities, roles or groups, and administers nothing, gets by it no right that they had not: what is
// allowed they hold themselves, and no denial that they are under is lifted, by whatever way.

let crm: Awaited<ReturnType<typeof startPosts>>;
let gateway: TestGateway;
const run = (sql: string, values: unknown[] = []) => crm.db.query(sql, values);
const pat = "pat@acme.test";
const flat = "crm/posts_flat_kind";
const jsonb = "crm/posts_jsonb_kind";
const own = { created_by: "$account.id" };
const north = { region: "north" };

/** What comes of a statement run as an account: its first column, or the SQLSTATE. */
const as = (email: string, sql: string, values: unknown[] = []) =>
  crm.db.as("acme", email, (client) =>
    client.query(sql, values).then(
      ({ rows }) => rows.map((row) => Object.values(row)[0]).join(" "),
      (error: { code: string; message: string }) =>
        /^RH/.test(error.code) ? error.code : `${error.code} ${error.message}`,
    ),
  );
const policy = (definition: object) => run("select access.define_policy('acme', $1, true)", [definition]);
const role = (definition: object) => run("select access.define_role('acme', $1, true)", [definition]);
const rest = async (method: string, path: string, body?: unknown, name = "pat") =>
  (await sendTo(gateway, crm.tokens, `/api/v1/sites/acme/access/${path}`, { method, body, as: name })).status;
/** Takes a policy back to what it was n versions ago. */
const back = (name: string, n: number) =>
  as(
    pat,
    "select access.rollback('acme', 'policy', $1, max(version) - $2)->>'definition' from access.history_of('acme', 'policy', $1)",
    [name, n],
  );
/** Every policy of the site, with what it says. */
const policies = () =>
  run(
    "select access.policy_path(p) as policy, p.effect, p.condition, p.enabled, p.actions from access.policies p order by 1",
  );
const rules = async () =>
  (await run("select access.export_rules('acme') as r"))[0]?.r as {
    policies: Record<string, object>;
    roles: Record<string, object>;
    groups: Record<string, object>;
  };

const author = {
  name: "policy-author",
  permissions: [
    "@policies:define",
    "@roles:define",
    "@roles:assign",
    `${flat}:read`,
    { permission: `${flat}:update`, condition: north },
    `${jsonb}:read:own`,
  ],
};

beforeAll(async () => {
  crm = await startPosts();
  gateway = await startGateway(crm.db, {}, 5, true);
  for (const name of ["pat", "quinn"]) crm.tokens[name] = await gateway.token(`${name}@acme.test`, "acme");
  await run("select access.set_attribute_schema('acme', $1)", [
    { type: "object", properties: { team: { type: "string" } } },
  ]);
});
afterAll(async () => {
  await gateway?.stop();
  await crm?.stop();
});
beforeEach(async () => {
  for (const { policy: name } of (await policies()) as { policy: string }[])
    await run("select access.delete_policy('acme', $1)", [name]);
  await role(author);
  await run("select access.assign_role('acme', $1, 'policy-author')", [pat]);
});

const allow = (more: object) => ({
  name: "mine",
  effect: "allow",
  entities: [flat],
  actions: ["read"],
  ...more,
});
const allowed: [string, object, boolean][] = [
  ["what one holds", {}, true],
  ["a part of it", { condition: { status: "draft" } }, true],
  ["what one holds under that condition", { actions: ["update"], condition: north }, true],
  [
    "under that condition and another",
    { actions: ["update"], condition: { ...north, status: "draft" } },
    true,
  ],
  [
    "under both, one in the other",
    { actions: ["update"], condition: { $and: [{ status: "draft" }, north] } },
    true,
  ],
  ["one's own, where one holds that", { entities: [jsonb], condition: own }, true],
  ["everything", { entities: ["*"], actions: ["*"] }, false],
  ["everything of an app", { entities: ["crm/*"] }, false],
  ["every entity of that name", { entities: ["posts_flat_kind"] }, false],
  ["another action", { actions: ["delete"] }, false],
  ["every action", { actions: ["*"] }, false],
  ["without the condition", { actions: ["update"] }, false],
  ["under another condition", { actions: ["update"], condition: { region: "south" } }, false],
  [
    "under one condition or another",
    { actions: ["update"], condition: { $or: [north, { status: "x" }] } },
    false,
  ],
  ["others' records", { entities: [jsonb] }, false],
  ["more fields unmasked", { fields: { unmasked: ["*"] } }, false],
  ["a mask of one's own", { fields: { masked: { title: "last_four" } } }, false],
  ["an entity that is not there yet", { entities: ["crm/later"] }, false],
  ["for oneself by name", { entities: ["crm/companies"], condition: { "$account.email": pat } }, false],
  ["in the scope of an entity", { scope: "crm/companies", entities: undefined }, false],
];
describe("a policy allows", () => {
  test.each(allowed)("%s", async (_what, more, may) => {
    const definition = allow(more);
    const before = await policies();
    expect(await as(pat, "select (access.define_policy('acme', $1)).name", [definition])).toBe(
      may ? "mine" : "RH403",
    );
    // What is refused leaves nothing behind; nor does being forced, tried or handed in otherwise help.
    if (!may) {
      expect(await as(pat, "select (access.define_policy('acme', $1, true)).name", [definition])).toBe(
        "RH403",
      );
      expect(await as(pat, "select access.simulate('acme', $1)", [{ policy: definition }])).toBe("RH403");
      const { scope = "" } = definition as { scope?: string };
      const path = `${scope ? `${scope}/` : ""}mine`;
      expect(await rest("PUT", `policies/${path}`, definition)).toBe(403);
      const pushed = await rules();
      pushed.policies[path] = { scope, ...definition };
      expect(await as(pat, "select access.import_rules('acme', $1)", [pushed])).toBe("RH403");
      expect(await as(pat, "select access.import_rules('acme', $1, force => true)", [pushed])).toBe("RH403");
      expect(await policies()).toEqual(before);
      // Nor switched off first, and on then.
      expect(
        await as(pat, "select (access.define_policy('acme', $1)).name", [{ ...definition, enabled: false }]),
      ).toBe("mine");
      expect(await as(pat, "select (access.define_policy('acme', $1)).name", [definition])).toBe("RH403");
    }
  });

  test("what it allowed before, and no more", async () => {
    await policy(allow({ entities: ["crm/companies"], condition: { city: "Oslo" } }));
    const change = (more: object) =>
      as(pat, "select (access.define_policy('acme', $1)).name", [
        allow({ entities: ["crm/companies"], ...more }),
      ]);
    expect(await change({ condition: { city: "Oslo" }, priority: 7 })).toBe("mine");
    expect(await change({ condition: { city: "Oslo", name: "x" } })).toBe("mine");
    expect(await change({ condition: { city: "Oslo" } })).toBe("RH403");
    expect(await change({})).toBe("RH403");
    // The way back is a way to more, too.
    expect(await back("mine", 2)).toBe("RH403");
    expect(await as(pat, "select access.drop_policy('acme', 'mine')")).toBe("");
    expect(await back("mine", 1)).toBe("RH403");
  });

  test("by whoever administers whatever they say", async () => {
    await run("select tenancy.set_member_role('acme', $1, 'admin')", [pat]);
    expect(
      await as(pat, "select (access.define_policy('acme', $1)).name", [
        allow({ entities: ["*"], actions: ["*"] }),
      ]),
    ).toBe("mine");
    expect(await rest("DELETE", "policies/mine")).toBe(204);
    await run("select tenancy.set_member_role('acme', $1, 'member')", [pat]);
  });

  test("over GraphQL what it allows in SQL", async () => {
    const define = async (definition: object) => {
      const answer = await sendTo(gateway, crm.tokens, "/graphql", {
        method: "POST",
        body: {
          query:
            "mutation ($site: String!, $definition: JSON!) { definePolicy(input: {site: $site, definition: $definition}) { result { name } } }",
          variables: { site: "acme", definition },
        },
        as: "pat",
      });
      return answer.text;
    };
    expect(await define(allow({ entities: ["*"] }))).toMatch(/would allow what you do not hold yourself/);
    expect(await policies()).toEqual([]);
    expect(await define(allow({}))).not.toMatch(/"errors"/);
    expect((await policies()).length).toBe(1);
  });
});

const deny = (more: object = {}) => ({
  name: "no",
  effect: "deny",
  entities: ["crm/*"],
  actions: ["read"],
  ...more,
});
const lifted: [string, object, object, boolean][] = [
  ["disabled", {}, { enabled: false }, false],
  ["an allow instead", {}, { effect: "allow", entities: [flat] }, false],
  ["fewer actions", { actions: ["read", "update"] }, { actions: ["update"] }, false],
  ["fewer entities", {}, { entities: ["shop/*"] }, false],
  ["under a condition", {}, { condition: { region: "south" } }, false],
  ["under another condition", { condition: { region: "south" } }, { condition: { region: "x" } }, false],
  [
    "under one more",
    { condition: { region: "south" } },
    { condition: { region: "south", title: "x" } },
    false,
  ],
  ["of fields only", {}, { fields: { readable: ["title"] } }, false],
  [
    "of fewer fields",
    { fields: { readable: ["title", "region"] } },
    { fields: { readable: ["title"] } },
    false,
  ],
  ["not for oneself", {}, { condition: { "$account.email": { $ne: pat } } }, false],
  ["another further in, disabled", {}, { scope: flat, entities: undefined, enabled: false }, false],
  [
    "another further in, that says nothing",
    {},
    { scope: flat, entities: undefined, actions: ["delete"] },
    false,
  ],
  ["another of the app, weaker", {}, { scope: "crm", entities: ["nothing"] }, false],
  ["more actions", {}, { actions: ["*"] }, true],
  ["more entities", {}, { entities: ["*"] }, true],
  ["under less", { condition: { region: "south", title: "x" } }, { condition: { region: "south" } }, true],
  [
    "of more fields",
    { fields: { readable: ["title"] } },
    { fields: { readable: ["title", "region"] } },
    true,
  ],
  ["of the record, not of fields", { fields: { readable: ["title"] } }, { fields: null }, true],
  ["another further in, that denies as much", {}, { scope: flat, entities: undefined, actions: ["*"] }, true],
  // Of what nothing allows them, or what is not about them, they judge for others.
  ["of what one may not", { actions: ["delete"] }, { enabled: false }, true],
  ["of others by email", { condition: { "$account.email": "ann@acme.test" } }, { enabled: false }, true],
  [
    "of others by role",
    { condition: { "$account.roles": { $contains: "viewer" } } },
    { enabled: false },
    true,
  ],
  [
    "of those with an attribute",
    { condition: { "$account.attributes.team": "x" } },
    { enabled: false },
    false,
  ],
];
describe("a denial becomes", () => {
  test.each(lifted)("%s", async (_what, was, is, may) => {
    await policy(deny(was));
    const before = await policies();
    const definition = { ...deny(was), ...is } as Record<string, unknown>;
    for (const name of ["entities", "fields"]) if (!definition[name]) delete definition[name];
    const path = `${definition.scope ? `${definition.scope}/` : ""}no`;
    expect(await rest("PUT", `policies/${path}`, definition)).toBe(may ? 200 : 403);
    if (may) return;
    expect(await as(pat, "select access.define_policy('acme', $1, true)", [definition])).toBe("RH403");
    const pushed = await rules();
    pushed.policies[path] = { scope: "", ...definition };
    expect(await as(pat, "select access.import_rules('acme', $1, force => true)", [pushed])).toBe("RH403");
    delete pushed.policies[path];
    delete pushed.policies.no;
    expect(await as(pat, "select access.import_rules('acme', $1, force => true)", [pushed])).toBe("RH403");
    expect(await as(pat, "select access.drop_policy('acme', 'no')")).toBe("RH403");
    expect(await as(pat, "select access.drop_policy('acme', 'no', force => true)")).toBe("RH403");
    expect(await rest("DELETE", "policies/no")).toBe(403);
    expect(await policies()).toEqual(before);
  });

  test("no weaker by going back to what it was", async () => {
    await policy(deny({ actions: ["delete"] }));
    await policy(deny());
    expect(await back("no", 1)).toBe("RH403");
    expect(await back("no", 0)).toContain("deny");
  });

  test("what another denies as well", async () => {
    await policy(deny());
    await policy(deny({ name: "never", actions: ["*"] }));
    expect(await as(pat, "select access.drop_policy('acme', 'no')")).toBe("");
    expect(await as(pat, "select access.drop_policy('acme', 'never')")).toBe("RH403");
  });

  test("what the one further out says, when the one further in is dropped", async () => {
    await policy(deny({ actions: ["delete"] }));
    await policy(deny({ scope: flat, entities: undefined }));
    expect(await as(pat, "select access.drop_policy('acme', 'no', $1)", [flat])).toBe("RH403");
    await policy(deny({ actions: ["read"] }));
    expect(await as(pat, "select access.drop_policy('acme', 'no', $1)", [flat])).toBe("");
  });

  test("in the words of the refusal", async () => {
    await policy(deny());
    await expect(
      crm.db.as("acme", pat, (client) => client.query("select access.drop_policy('acme', 'no')")),
    ).rejects.toMatchObject({
      message: expect.stringMatching(/lift a denial that concerns you: crm\/\*:read \(of no\)/),
    });
  });
});

describe("the ready-made policies of a definition", () => {
  const define = (email: string, list: string[], more: object = {}) =>
    as(email, "select (data.define_entity('acme/crm', 'papers', $1)).name", [
      {
        type: "object",
        properties: { title: { type: "string" } },
        ...(list.length ? { "x-policies": list } : {}),
        ...more,
      },
    ]);
  beforeEach(async () => {
    await role({ name: "modeller", permissions: ["@entities:define", "crm/papers:read"] });
    await run("select access.assign_role('acme', 'quinn@acme.test', 'modeller')");
    await run("select data.define_entity('acme/crm', 'papers', $1)", [
      { type: "object", properties: { title: { type: "string" } }, "x-policies": ["owner_only"] },
    ]);
  });
  test("take nothing away and give nothing, by whom policies are not", async () => {
    for (const list of [[], ["owner_only", "authenticated_read"], ["authenticated_write"]])
      expect([list, await define("quinn@acme.test", list)]).toEqual([list, "RH403"]);
    // A stricter one of the site under that name would be overridden.
    await policy({ name: "authenticated_read", effect: "deny", entities: ["crm/papers"] });
    expect(await define("quinn@acme.test", ["owner_only", "authenticated_read"])).toBe("RH403");
    await policy({ name: "owner_read", effect: "deny", entities: ["crm/papers"], actions: ["*"] });
    expect(await define("quinn@acme.test", ["owner_only", "owner_read"])).toBe("RH403");
    expect(await define("quinn@acme.test", ["owner_only"], { description: "more" })).toBe("papers");
  });
  test("give no more than one holds, by whom they are", async () => {
    await role({ ...author, permissions: [...author.permissions, "@entities:define", "crm/papers:read"] });
    expect(await define(pat, ["owner_only", "authenticated_write"])).toBe("RH403");
    expect(await define(pat, ["owner_only", "public_create"])).toBe("RH403");
    expect(await define(pat, [])).toBe("RH403");
    expect(await define(pat, ["owner_only", "authenticated_read"])).toBe("papers");
  });
  test("nor does the definition show what is masked, or rename what rules name", async () => {
    const email = { type: "string", format: "email", "x-pii": true };
    const schema = (properties: object, more: object = {}) => [{ type: "object", properties, ...more }];
    const people = (who: string, properties: object) =>
      as(who, "select (data.define_entity('acme/crm', 'people', $1)).name", schema(properties));
    const title = { type: "string" };
    await run("select data.define_entity('acme/crm', 'people', $1)", schema({ title, email, salary: title }));
    await role({ name: "modeller", permissions: ["@entities:define", "crm/people:read"] });
    const quinn = "quinn@acme.test";
    const plain = { type: "string", format: "email" };
    expect(await people(quinn, { title, email: plain, salary: title })).toBe("RH403");
    expect(await people(quinn, { title, email: { ...plain, "x-mask": "***{last4}" }, salary: title })).toBe(
      "RH403",
    );
    expect(await people(quinn, { title, mail: { ...plain, "x-renamed-from": "email" }, salary: title })).toBe(
      "RH403",
    );
    expect(
      await people(quinn, { title, email: { ...plain, "x-pii": true, "x-mask": "redact" }, salary: title }),
    ).toBe("people");
    await policy({
      name: "pay",
      effect: "deny",
      entities: ["crm/people"],
      actions: ["read"],
      fields: { readable: ["salary"] },
    });
    const pay = {
      title,
      email: { ...plain, "x-pii": true, "x-mask": "redact" },
      pay: { ...title, "x-renamed-from": "salary" },
    };
    expect(await people(quinn, pay)).toBe("RH409");
    await policy({
      name: "pay",
      effect: "deny",
      entities: ["crm/people"],
      actions: ["read"],
      fields: { readable: ["salary", "pay"] },
    });
    expect(await people(quinn, pay)).toBe("RH403");
    await run("select data.define_entity('acme/crm', 'people', $1)", schema(pay));
    await run("select data.drop_entity('acme/crm/people', 'people')");
  });
});

describe("where conditions ask for names of groups and roles", () => {
  beforeEach(async () => {
    await run("delete from access.groups");
    await run("select access.create_group('acme', n) from unnest('{hr,suspended}'::text[]) n");
    await role({ name: "boss", permissions: [] });
    await role({ name: "contractor", permissions: [`${flat}:read`] });
    await run("select access.assign_role('acme', $1, 'contractor')", [pat]);
    await policy({
      name: "hr",
      effect: "allow",
      entities: ["crm/companies"],
      actions: ["read"],
      condition: { "$account.groups": { $contains: "hr" } },
    });
    await policy({
      name: "off",
      effect: "deny",
      entities: ["*"],
      condition: { "$account.groups": { $contains: "suspended" } },
    });
    await policy({
      name: "hands-off",
      effect: "deny",
      entities: ["*"],
      actions: ["update"],
      condition: { "$account.roles": { $contains: "contractor" } },
    });
  });
  test("nobody puts themselves, or others, into a group that they are not in", async () => {
    expect(await as(pat, "select access.add_to_group('acme', 'hr', $1)", [pat])).toBe("RH403");
    expect(await as(pat, "select access.add_to_group('acme', 'hr', 'quinn@acme.test')")).toBe("RH403");
    expect(await rest("PUT", `groups/hr/members/${pat}`)).toBe(403);
    await run("select access.add_to_group('acme', 'hr', $1)", [pat]);
    expect(await as(pat, "select access.add_to_group('acme', 'hr', 'quinn@acme.test')")).toBe("");
  });
  test("nor out of one that they are in", async () => {
    await run("select access.add_to_group('acme', 'suspended', $1)", [pat]);
    expect(await as(pat, "select access.remove_from_group('acme', 'suspended', $1)", [pat])).toBe("RH403");
    expect(await as(pat, "select access.drop_group('acme', 'suspended')")).toBe("RH403");
    expect(await rest("DELETE", "groups/suspended")).toBe(403);
    const pushed = await rules();
    delete pushed.groups.suspended;
    expect(await as(pat, "select access.import_rules('acme', $1, force => true)", [pushed])).toBe("RH403");
    await run("select access.add_to_group('acme', 'hr', 'quinn@acme.test')");
    expect(await as(pat, "select access.remove_from_group('acme', 'hr', 'quinn@acme.test')")).toBe("");
  });
  test("nor changes the roles that their name stands for", async () => {
    const inherits = (name: string, ...inherited: string[]) =>
      as(pat, "select (access.define_role('acme', $1)).name", [{ ...author, name, inherits: inherited }]);
    expect(await inherits("policy-author", "boss")).toBe("RH403");
    expect(await inherits("policy-author", "contractor")).toBe("policy-author");
    await run("select access.revoke_role('acme', $1, 'contractor')", [pat]);
    expect(await inherits("policy-author")).toBe("RH403");
    const pushed = await rules();
    pushed.roles["policy-author"] = author;
    expect(await as(pat, "select access.import_rules('acme', $1)", [pushed])).toBe("RH403");
    await run("select access.assign_role('acme', $1, 'contractor')", [pat]);
    expect(await as(pat, "select access.revoke_role('acme', $1, 'contractor')", [pat])).toBe("RH403");
    expect(
      await as(
        pat,
        "select access.assign_role('acme', $1, 'contractor', valid_until => now() + interval '1 second')",
        [pat],
      ),
    ).toBe("RH403");
    await role(author);
    expect(await as(pat, "select access.drop_role('acme', 'contractor')")).toBe("RH403");
    expect(await as(pat, "select access.drop_role('acme', 'boss')")).toBe("");
  });
  test("and attributes are set by owners and admins, one's own too", async () => {
    await role({ ...author, permissions: [...author.permissions, "@members:manage", "@settings:update"] });
    expect(await as(pat, `select access.set_attributes('acme', $1, '{"team": "x"}')`, [pat])).toBe("RH403");
    expect(await as(pat, `select access.set_attribute_schema('acme', '{"properties": {}}')`)).toBe("RH403");
    expect(
      await as(
        pat,
        `insert into access.account_attributes (site_id, account_id, attributes) select tenancy.site_id(), auth.account_id(), '{"team": "x"}'`,
      ),
    ).toMatch(/^42501/);
  });
});
