import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { refusal } from "./harness/failure.ts";
import { startPosts, storages } from "./harness/posts.ts";

// A condition on a related record protects what is kept of deleted and former records, too; and the related entity can be
// redefined all the same.

let crm: Awaited<ReturnType<typeof startPosts>>;
beforeAll(async () => {
  crm = await startPosts();
});
afterAll(() => crm?.stop());

const run = (sql: string, values: unknown[] = []) => crm.db.query(sql, values);
const pat = "pat@acme.test";
const as = (email: string, sql: string, values: unknown[] = []) =>
  crm.db.as("acme", email, (client) =>
    client.query(sql, values).then(
      ({ rows }) => rows.map((row) => Object.values(row)[0]).join(" "),
      (error: { code: string; message: string }) => `${error.code} ${error.message}`,
    ),
  );
const text = { type: "string" };

describe.each(
  storages.flatMap((storage) =>
    [
      { "x-soft-delete": true },
      { "x-history": true },
      { "x-soft-delete": true, "x-history": true },
      { "x-soft-delete": true, "x-history": true, "x-ttl": "30 days" },
    ].map(
      (options) => [storage, Object.keys(options).join(" "), { ...options, "x-storage": storage }] as const,
    ),
  ),
)("%s, %s", (storage, _names, options) => {
  const define = (name: string, properties: object, more: object = options) =>
    run("select data.define_entity('acme/crm', $1, $2)", [name, { type: "object", properties, ...more }]);
  const offices = { name: text, city: text };
  const staff = {
    name: text,
    office_id: { type: "string", format: "uuid", "x-relation": { entity: "offices", field: "id" } },
  };
  const kept = "x-soft-delete" in options ? "staff__deleted" : "staff__former";
  const seen = () => as(pat, "select name from acme_crm.staff order by name");
  const seenKept = () => as(pat, `select distinct name from acme_crm.${kept} order by name`);

  beforeAll(async () => {
    await define("offices", offices);
    await define("staff", staff);
    await run("select access.define_role('acme', $1)", [
      {
        name: "northern",
        permissions: [
          "crm/offices:read",
          { permission: "crm/staff:*", condition: { "office.city": { $in: ["Oslo", "Bergen"] } } },
        ],
      },
    ]);
    await run("select access.assign_role('acme', $1, 'northern')", [pat]);
    const records = await run("select data.insert('acme/crm/offices', $1)->>'id' as id", [
      JSON.stringify({ name: "n", city: "Oslo" }),
    ]);
    const south = await run("select data.insert('acme/crm/offices', $1)->>'id' as id", [
      JSON.stringify({ name: "s", city: "Rome" }),
    ]);
    await run("select data.insert('acme/crm/staff', $1)", [
      JSON.stringify([
        { name: "ada", office_id: records[0]?.id },
        { name: "bea", office_id: south[0]?.id },
        { name: "gone-n", office_id: records[0]?.id },
        { name: "gone-s", office_id: south[0]?.id },
      ]),
    ]);
    await run("update acme_crm.staff set name = name || '!' where name like 'gone%'");
    await run("delete from acme_crm.staff where name like 'gone%'");
  });
  afterAll(async () => {
    await run("select access.drop_role('acme', 'northern')");
    await run(
      "select data.drop_entity('acme/crm/staff', 'staff'), data.drop_entity('acme/crm/offices', 'offices')",
    );
  });
  const holds = async () => {
    expect(await seen()).toBe("ada");
    expect(await seenKept()).toBe(kept === "staff__deleted" ? "gone-n!" : "gone-n gone-n!");
  };

  test("what is kept is seen as what it was kept of", holds);

  test("the related entity is redefined, and what is kept stays protected", async () => {
    await define("offices", { ...offices, zip: text });
    await holds();
    // A view that has to be made anew: a field is renamed, another dropped.
    await define("offices", { title: { ...text, "x-renamed-from": "name" }, city: text, zip: text });
    await holds();
    const plan = await run("select data.plan('acme/crm/offices', $1)->>'plan' as plan", [
      { type: "object", properties: { title: text, city: text }, ...options },
    ]);
    await run("select data.apply($1, true)", [plan[0]?.plan]);
    await holds();
  });

  test("a field that the condition asks for neither goes nor is renamed", async () => {
    const renamed = { title: text, town: { ...text, "x-renamed-from": "city" } };
    const refused = await refusal(define("offices", renamed));
    expect([refused.code, refused.message]).toEqual([
      "RH409",
      expect.stringMatching(/staff\S* look at offices/),
    ]);
    const plan = await run("select data.plan('acme/crm/offices', $1)->>'plan' as plan", [
      { type: "object", properties: { title: text }, ...options },
    ]);
    expect((await refusal(run("select data.apply($1, true)", [plan[0]?.plan]))).code).toBe("RH409");
    await holds();
  });

  test("the related entity keeps its own records or no longer does, and changes its storage", async () => {
    const plan = await run("select data.plan('acme/crm/offices', $1)->>'plan' as plan", [
      { type: "object", properties: { title: text, city: text }, "x-storage": storage },
    ]);
    await run("select data.apply($1, true)", [plan[0]?.plan]);
    await holds();
    const other = storage === "flat" ? "jsonb" : "flat";
    const [operation] = await run("select (data.convert_storage('acme/crm/offices', $1)).id", [other]);
    for (let n = 0; n < 50; n++) {
      const [step] = await run("select data.run_step($1) as state", [operation?.id]);
      if (step?.state === "done") break;
    }
    expect((await run("select storage from data.entities where name = 'offices'"))[0]).toEqual({
      storage: other,
    });
    await holds();
    await define(
      "offices",
      { label: { ...text, "x-renamed-from": "title" }, city: text },
      { "x-storage": other },
    );
    await holds();
    // Under its former name the condition finds it.
    await define(
      "offices",
      {
        label: text,
        town: { ...text, "x-renamed-from": "city" },
        city: { ...text, "x-alias": "town" },
      },
      { "x-storage": other },
    );
    await holds();
  });

  test("the related entity is dropped when nothing refers to it any more", async () => {
    expect((await refusal(run("select data.drop_entity('acme/crm/offices', 'offices')"))).code).toBe("RH409");
    await holds();
  });
});
