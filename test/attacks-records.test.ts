import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { nowhere, pat, startNorth, storages } from "./harness/posts.ts";
import { writeDoors } from "./harness/write-doors.ts";

// Whatever door a record is written by: it stays whose it is, within its writer's sight and rights, and a hidden record answers like none.

let north: Awaited<ReturnType<typeof startNorth>>;
const run = (sql: string, values?: unknown[]) => north.run(sql, values);

beforeAll(async () => {
  north = await startNorth();
});
afterAll(() => north?.stop());

describe.each(storages)("in %s storage", (storage) => {
  const entity = `posts_${storage}_kind`;
  let ids: Record<string, string>;
  beforeAll(async () => {
    const rows = await run(`select id, title from acme_crm.${entity}`);
    ids = Object.fromEntries(rows.map(({ id, title }) => [title, id])) as Record<string, string>;
  });
  const { changes, creations } = writeDoors(
    { crm: () => north.crm, gateway: () => north.gateway },
    { email: pat, token: "pat" },
    storage,
  );
  const all = () => run(`select id, title, region, created_by, version from acme_crm.${entity} order by id`);

  test.each(changes)("%s: a record does not leave its writer's sight", async (_door, change) => {
    const before = await all();
    expect(await change(ids.a1 as string, { region: "south" })).toBe(403);
    expect(await all()).toEqual(before);
    expect(await change(ids.a1 as string, { region: "north" })).toBe("done");
  });

  test.each(changes)(
    "%s: a hidden record answers like one that is not there, and stays",
    async (door, change) => {
      const before = await all();
      const [hidden, missing] = [
        await change(ids.p2 as string, { region: "north" }),
        await change(nowhere, { region: "north" }),
      ];
      if (/upsert/.test(door)) {
        // Here the missing one is made; what is there and hidden is not overwritten.
        expect([hidden, missing]).toEqual([
          door.startsWith("psql") ? expect.anything() : expect.any(Number),
          "done",
        ]);
        await run(`delete from acme_crm.${entity} where id = $1`, [nowhere]);
      } else expect([hidden, missing]).toEqual([404, 404]);
      expect(await all()).toEqual(before);
    },
  );

  test.each(changes)("%s: nobody makes a record another's", async (_door, change) => {
    const id = ids.a1 as string;
    await change(id, { created_by: nowhere });
    await change(id, { createdBy: nowhere });
    const [{ mine }] = (await run(
      `select created_by = (select id from auth.accounts where email = 'ann@acme.test') as mine from acme_crm.${entity} where id = $1`,
      [id],
    )) as [{ mine: boolean }];
    expect(mine).toBe(true);
  });

  test.each(creations)("%s: what is made is its maker's, and theirs to make", async (door, create) => {
    const before = await all();
    if (!/import/.test(door)) expect(await create({ title: "new", region: "south" })).toBe(403);
    else await create({ title: "new", region: "south" });
    expect(await all()).toEqual(before);
    await create({ title: "forged", region: "north", created_by: nowhere });
    await create({ title: "made", region: "north" });
    const made = await run(
      `select title, created_by = (select id from auth.accounts where email = $1) as mine from acme_crm.${entity} where title in ('made', 'forged')`,
      [pat],
    );
    expect(made).toContainEqual({ title: "made", mine: true });
    expect(made.every(({ mine }) => mine)).toBe(true);
    await run(`delete from acme_crm.${entity} where title in ('made', 'forged')`);
  });
});
