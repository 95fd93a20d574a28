import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { givingWay } from "../server/database/giving-way.ts";
import { migrate } from "../server/database/migrate.ts";
import { base, type Call, type Crm, sendTo, startCrm } from "./harness/crm.ts";
import { eventually } from "./harness/eventually.ts";
import { startGateway, type TestGateway } from "./harness/gateway.ts";

// Rowhouse is updated while a gateway of the release before goes on: neither ends the other's work.

let crm: Crm;
let gateway: TestGateway;
beforeAll(async () => {
  crm = await startCrm();
  // An update takes a second, and many on a machine that does much else: more than the 5 s for which requests wait.
  await crm.db.query(`alter role rowhouse_gateway in database ${crm.db.name} set lock_timeout = '100s'`);
  await crm.db.query(`alter role rowhouse_gateway in database ${crm.db.name} set statement_timeout = '100s'`);
  gateway = await startGateway(crm.db);
  await crm.db.query("select data.define_entity('acme/crm', 'calls', $1)", [
    { type: "object", "x-history": true, "x-audit": true, properties: { text: { type: "string" } } },
  ]);
});
afterAll(async () => {
  await gateway?.stop();
  await crm?.stop();
});

async function update() {
  await crm.db.query("update rowhouse.installed set content_hash = 'older'");
  const { operatorUrl, gatewayUrl, workerUrl } = crm.db;
  return migrate({ operatorUrl, gatewayUrl, workerUrl });
}

test("requests meanwhile wait, and no more: reads, writes, refused ones and what is noted of them", async () => {
  const calls = `${base}/calls`;
  const answers: Record<string, number> = {};
  let isOver = false;
  const client = async (what: string, path: string, call: Call) => {
    while (!isOver) {
      const said = `${what}: ${(await sendTo(gateway, crm.tokens, path, call)).status}`;
      answers[said] = (answers[said] ?? 0) + 1;
    }
  };
  const clients = [
    client("list", `${base}/contacts`, { as: "ann" }),
    client("as of", `${calls}?as_of=infinity`, { as: "ann" }),
    client("create", calls, { as: "ann", method: "POST", body: { text: "x" } }),
    client("refused", calls, { as: "vic", method: "POST", body: { text: "x" } }),
  ];
  for (let n = 0; n < 3; n++) expect(await update()).toMatchObject({ installed: true });
  isOver = true;
  await Promise.all(clients);
  expect(Object.keys(answers).sort()).toEqual(["as of: 200", "create: 201", "list: 200", "refused: 403"]);
  expect(gateway.log.join("")).not.toContain("deadlock");
});

test("a transaction that has read, and reads on while the update waits for it, is not ended", async () => {
  const client = await crm.db.pool.connect();
  const [{ pid }] = (await client
    .query("begin; select from data.entities; select pg_backend_pid() as pid")
    .then((results) => (results as unknown as { rows: { pid: number }[] }[])[2]?.rows)) as [{ pid: number }];
  const updated = update();
  await eventually(async () => {
    const waiting = await crm.db.query(
      "select from pg_stat_activity where $1 = any (pg_blocking_pids(pid))",
      [pid],
    );
    return waiting.length > 0;
  });
  await client.query("select from tenancy.organizations; commit");
  client.release();
  expect(await updated).toMatchObject({ installed: true });
});

test.each([
  ["a deadlock", "40P01", 3],
  ["a lock that is not to be had", "55P03", 3],
  ["any other failure", "42601", 1],
])("%s is met by as many attempts as it may be mended by", async (_what, code, expected) => {
  const attempts: number[] = [];
  const failed = givingWay(
    async (patience) => {
      attempts.push(patience);
      throw Object.assign(new Error("as PostgreSQL says it"), { code });
    },
    [1, 2, 4],
  );
  await expect(failed).rejects.toThrow(expected > 1 ? /in use without a pause/ : "as PostgreSQL says it");
  expect(attempts).toEqual([1, 2, 4].slice(0, expected));
});
