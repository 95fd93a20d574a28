import { availableParallelism } from "node:os";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { Turns } from "../server/database/turns.ts";
import { base, type Crm, startCrm } from "./harness/crm.ts";
import { startGateway } from "./harness/gateway.ts";

let crm: Crm;
beforeAll(async () => {
  crm = await startCrm();
});
afterAll(() => crm?.stop());

test("reads that are held up hold up no others", async () => {
  const many = 3 * availableParallelism() + 4;
  const gateway = await startGateway(crm.db, {}, many + 4);
  const read = async (path: string) => {
    const answer = await fetch(gateway.url + path, {
      headers: { authorization: `Bearer ${crm.tokens.ann}` },
    });
    await answer.text();
    return answer.status;
  };
  const client = await crm.db.pool.connect();
  try {
    await read(`${base}/contacts`);
    await read(`${base}/companies`);
    await client.query("begin");
    await client.query("lock table acme_crm.contacts_jsonb in access exclusive mode");
    let answered = 0;
    const held = Array.from({ length: many }, async () => {
      const status = await read(`${base}/contacts`);
      answered++;
      return status;
    });
    const others = Array.from({ length: 10 }, () => read(`${base}/companies`));
    expect(await Promise.all(others)).toEqual(Array(10).fill(200));
    expect(answered).toBe(0);
    await client.query("rollback");
    expect(await Promise.all(held)).toEqual(Array(many).fill(200));
  } finally {
    await client.query("rollback");
    client.release();
    await gateway.stop();
  }
});

describe("turns", () => {
  test("so many at once, in the order they came, and each in the end", async () => {
    const turns = new Turns(2);
    const begun: number[] = [];
    let running = 0;
    let most = 0;
    await Promise.all(
      Array.from(
        { length: 50 },
        (_, n) =>
          new Promise<void>((done) => {
            turns.take((end) => {
              begun.push(n);
              most = Math.max(most, ++running);
              queueMicrotask(() => {
                running--;
                end();
                done();
              });
            });
          }),
      ),
    );
    expect(most).toBe(2);
    expect(begun).toEqual(Array.from({ length: 50 }, (_, n) => n));
  });

  test("what is slow is not waited for, and counts no more when it ends", async () => {
    const turns = new Turns(2);
    const ends: (() => void)[] = [];
    const take = () => new Promise<void>((done) => turns.take((end) => done(void ends.push(end))));
    for (let n = 0; n < 6; n++) await take();
    for (const end of ends.splice(0)) end();
    await Promise.all([take(), take()]);
    let isThird = false;
    const third = take().then(() => {
      isThird = true;
    });
    await Promise.resolve();
    expect(isThird).toBe(false);
    ends[0]?.();
    await third;
    for (const end of ends) end();
  });
});
