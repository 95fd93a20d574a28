import { afterAll, beforeAll, expect, test } from "@jest/globals";
import fc from "fast-check";

import { type Crm, startCrm } from "./harness/crm.ts";
import { startGraphql } from "./harness/graphql.ts";
import type { Action } from "./harness/rights.ts";
import { codes, type Folder, store, type Thing } from "./harness/world-records.ts";
import { writes } from "./harness/world-writes.ts";
import { anyWorld, EMAILS, install, prepare, type Rec, reference } from "./harness/worlds.ts";

// Whatever rules a site has, no way of asking or writing tells or does more than the reference evaluator says: filters and sorts over
// relations, aggregates, search, unions, exports, histories, deleted records, links, kept results, batches and transactions.

const WORLDS = Number(process.env.WORLDS ?? 12);
const SEED = Number(process.env.SEED ?? 20_261_121);
const MOST = 100;

let crm: Crm;
let graphql: Awaited<ReturnType<typeof startGraphql>>;
let ids: string[];
let decisions = 0;

beforeAll(async () => {
  crm = await startCrm();
  graphql = await startGraphql(crm.db);
  ids = await prepare(crm);
});
afterAll(async () => {
  await graphql?.stop();
  await crm?.stop();
});

test(`every door decides as the reference does (seed ${SEED})`, async () => {
  await fc.assert(
    fc.asyncProperty(anyWorld, async (world) => {
      await install(crm, world);
      const { folders, things, since } = await store(crm, ids, world);
      const mayDo = reference(world, ids);
      const live = things.filter(({ isDeleted }) => !isDeleted);
      for (const [n, email] of EMAILS.entries()) {
        const folderOf = (thing: Thing) => (thing.at === null ? null : (folders[thing.at] as Folder));
        const may = (action: Action, thing: Thing, as: Rec = thing) =>
          mayDo(n, "things", action, as, folderOf(thing));
        const F = folders.filter((folder) => mayDo(n, "folders", "read", folder));
        const R = live.filter((thing) => may("read", thing));
        const seen = (thing: Thing) => F.find(({ id }) => id === folderOf(thing)?.id);
        const count = <T>(list: T[], key: (one: T) => string) => {
          const out: Record<string, number> = {};
          for (const one of list) out[key(one)] = (out[key(one)] ?? 0) + 1;
          return out;
        };
        const send = async (path: string) => {
          const answer = await crm.send(`/api/v1/sites/acme/apps/${world.app}/${path}`, { as: email });
          // An entity of which nothing is allowed is refused as a whole.
          if (answer.status === 403)
            return { ...answer, json: { data: [], meta: { count: 0 } } } as unknown as typeof answer;
          expect([path, answer.status, answer.text]).toEqual([path, 200, answer.text]);
          return answer;
        };
        const list = async (path: string, query: Record<string, unknown> = {}) =>
          (
            await send(
              `${path}?${Object.entries({
                ...(path.endsWith("aggregate") || path === "search" ? {} : { limit: MOST }),
                ...query,
              })
                .map(
                  ([key, value]) =>
                    `${key}=${encodeURIComponent(typeof value === "string" ? value : JSON.stringify(value))}`,
                )
                .join("&")}`,
            )
          ).json;
        const filtered = async (entity: string, filter: object) =>
          codes((await list(entity, { filter })).data);
        const groups = async (group: string) =>
          Object.fromEntries(
            (await list("things/aggregate", { group, aggregate: "n:count" })).data.map((row) => [
              String(Object.values(row)[0]),
              Number(row.n),
            ]),
          );
        const asked = await graphql.ask(
          `acme/${world.app}`,
          email,
          `{ things { nodes { code folder { code } shelves { nodes { code } } } totalCount aggregates { count } groupedAggregates(groupBy: [STATUS]) { keys count } }
             folders { nodes { code things { nodes { code } totalCount } } }
             below: things(filter: {folder: {region: {equalTo: "north"}}}) { nodes { code } }
             deletedThings { nodes { code } } thingsAsOf(at: "${since}") { nodes { code level } }
             search(q: "common", first: 100) { record } }`,
        );
        const g = asked.data ?? {};
        expect(asked.errors.filter(({ extensions }) => extensions?.status !== 403)).toEqual([]);
        const north = (thing: Thing) => seen(thing)?.region === "north";
        const draftIn = (folder: Folder) =>
          R.some((thing) => thing.at !== null && folders[thing.at] === folder && thing.status === "draft");
        const ofFolder = (folder: Folder) =>
          R.filter((thing) => thing.at !== null && folders[thing.at] === folder);
        const kept = (thing: Thing) =>
          thing.shelves.map((at) => folders[at] as Folder).filter((folder) => F.includes(folder));
        const gone = things.filter((thing) => thing.isDeleted && may("read", thing) && may("delete", thing));
        const then = things.filter((thing) => may("read", thing, thing.was));
        const byRegion = (a: Thing, b: Thing) =>
          String(seen(a)?.region ?? "zzz").localeCompare(String(seen(b)?.region ?? "zzz")) ||
          a.code.localeCompare(b.code);
        const expanded = await list("things", { expand: "folder,shelves" });
        const counted = await list("things", { count: "exact", limit: "1" });
        expect({
          list: codes((await list("things")).data),
          again: codes((await list("things")).data), // from the gateway's memory, where it may be kept
          count: (counted.meta as unknown as { count: number }).count,
          "filter on a related record": await filtered("things", { "folder.region": "north" }),
          "filter on records that refer": await filtered("folders", {
            things: { $some: { status: "draft" } },
          }),
          "filter on none that refers": await filtered("folders", { things: { $none: { status: "draft" } } }),
          "filter on links": await filtered("folders", { kept: { $some: { status: "draft" } } }),
          "filter on links from here": await filtered("things", { shelves: { $some: { region: "north" } } }),
          expand: Object.fromEntries(
            expanded.data.map((one) => [one.code, (one.folder as Rec | null)?.code ?? null]),
          ),
          links: Object.fromEntries(
            expanded.data.map((one) => [
              one.code,
              ((one.shelves ?? one.shelf_ids) as Rec[]).map(({ code }) => code),
            ]),
          ),
          sort: (await list("things", { sort: "folder.region,code", select: "code,folder.region" })).data.map(
            (one) => one.code,
          ),
          groups: await groups("status"),
          "groups by a related record": await groups("folder.region"),
          search: codes((await list("things", { q: "common" })).data),
          "search everywhere": codes(
            (await list("search", { q: "common", limit: MOST })).data.map(({ record }) => record as Rec),
          ),
          union: codes(
            (await list("query", { entities: "things,folders", select: "code" })).data.map(
              (one) => (one.fields as Rec) ?? one,
            ),
          ),
          export: codes(
            (await send("things/export?format=ndjson")).text
              .split("\n")
              .filter((line) => line.startsWith('{"id"'))
              .map((line) => JSON.parse(line)),
          ),
          deleted: codes((await list("things", { deleted: "only" })).data),
          "as of": (await list("things", { as_of: since })).data
            .map((one) => `${one.code} ${one.level}`)
            .sort(),
          GraphQL: codes(g.things?.nodes),
          "GraphQL counts": [g.things?.totalCount, Number(g.things?.aggregates.count)],
          "GraphQL groups": Object.fromEntries(
            (g.things?.groupedAggregates ?? []).map((one: { keys: string[]; count: string }) => [
              one.keys[0],
              Number(one.count),
            ]),
          ),
          "GraphQL relations": Object.fromEntries(
            (g.things?.nodes ?? []).map((one: { code: string; folder: Rec | null }) => [
              one.code,
              one.folder?.code ?? null,
            ]),
          ),
          "GraphQL links": Object.fromEntries(
            (g.things?.nodes ?? []).map((one: { code: string; shelves: { nodes: Rec[] } }) => [
              one.code,
              codes(one.shelves.nodes),
            ]),
          ),
          "GraphQL lists below": Object.fromEntries(
            (g.folders?.nodes ?? []).map((one: { code: string; things: { nodes: Rec[] } }) => [
              one.code,
              codes(one.things.nodes),
            ]),
          ),
          "GraphQL filter": codes(g.below?.nodes),
          "GraphQL deleted": codes(g.deletedThings?.nodes),
          "GraphQL as of": (g.thingsAsOf?.nodes ?? []).map((one: Rec) => `${one.code} ${one.level}`).sort(),
          "GraphQL search": codes((g.search ?? []).map(({ record }: { record: Rec }) => record)),
        }).toEqual({
          list: codes(R),
          again: codes(R),
          count: R.length,
          "filter on a related record": codes(R.filter(north)),
          "filter on records that refer": codes(F.filter(draftIn)),
          "filter on none that refers": codes(F.filter((folder) => !draftIn(folder))),
          "filter on links": codes(
            F.filter((folder) => R.some((thing) => thing.status === "draft" && kept(thing).includes(folder))),
          ),
          "filter on links from here": codes(
            R.filter((thing) => kept(thing).some(({ region }) => region === "north")),
          ),
          expand: Object.fromEntries(R.map((thing) => [thing.code, seen(thing)?.code ?? null])),
          links: Object.fromEntries(R.map((thing) => [thing.code, kept(thing).map(({ code }) => code)])),
          sort: [...R].sort(byRegion).map(({ code }) => code),
          groups: count(R, ({ status }) => String(status)),
          "groups by a related record": count(R, (thing) => String(seen(thing)?.region ?? null)),
          search: codes(R),
          "search everywhere": codes([...R, ...F]),
          union: codes([...R, ...F]),
          export: codes(R),
          deleted: codes(gone),
          "as of": then.map(({ code, was }) => `${code} ${was.level}`).sort(),
          GraphQL: codes(R),
          "GraphQL counts": [R.length, R.length],
          "GraphQL groups": count(R, ({ status }) => String(status)),
          "GraphQL relations": Object.fromEntries(R.map((thing) => [thing.code, seen(thing)?.code ?? null])),
          "GraphQL links": Object.fromEntries(R.map((thing) => [thing.code, codes(kept(thing))])),
          "GraphQL lists below": Object.fromEntries(
            F.map((folder) => [folder.code, codes(ofFolder(folder))]),
          ),
          "GraphQL filter": codes(R.filter(north)),
          "GraphQL deleted": codes(gone),
          "GraphQL as of": then.map(({ code, was }) => `${code} ${was.level}`).sort(),
          "GraphQL search": codes([...R, ...F]),
        });
        decisions += 29 * things.length;

        const first = live.slice(0, 4);
        const attempts = await writes(crm, email, world.app, first);
        const changeable = (thing: Thing) => may("read", thing) && may("update", thing);
        expect(attempts).toEqual({
          "update by filter": codes(R.filter(changeable)),
          "delete by filter": R.filter((thing) => may("delete", thing)).length,
          "out of sight": codes(
            first.filter((thing) => {
              const after = { ...thing, region: thing.region === "north" ? "south" : "north" };
              return changeable(thing) && may("update", thing, after) && may("read", thing, after);
            }),
          ),
          // An upsert may ask for more: the right to create.
          upsert: codes(first.filter((thing) => changeable(thing) && attempts.upsert.includes(thing.code))),
          "update of a list": codes(first.filter(changeable)),
          transaction: codes(first.filter((thing) => changeable(thing) && may("delete", thing))),
        });
        decisions += 2 * live.length + 4 * first.length;
      }
    }),
    {
      numRuns: WORLDS,
      seed: SEED,
      ...(process.env.REPLAY ? { path: process.env.REPLAY } : {}),
      endOnFailure: !process.env.SHRINK,
    },
  );
  if (WORLDS >= 12) expect(decisions).toBeGreaterThan(2_000);
}, 280_000);
