import type { Crm } from "./crm.ts";
import { codes, type Thing } from "./world-records.ts";

/** Every way of writing, tried in psql as an account on some things; nothing of it stays. What was written, by code. */
export const writes = (crm: Crm, email: string, app: string, things: Thing[]) =>
  crm.db.as("acme", email, async (client) => {
    const entity = `acme/${app}/things`;
    const attempt = async <T>(sql: string, values: unknown[]): Promise<T | null> => {
      await client.query("begin");
      try {
        return (await client.query(sql, values)).rows[0].r as T;
      } catch (error) {
        // Not one's own to change, not there, or as a reference to nothing and a value that is taken.
        if (!/^RH40[34]$|^2350[35]$/.test((error as { code: string }).code)) throw error;
        return null;
      } finally {
        await client.query("rollback");
      }
    };
    const each = async (sql: string, value: (thing: Thing) => unknown[]) => {
      const done: Thing[] = [];
      for (const thing of things) if ((await attempt(sql, value(thing))) !== null) done.push(thing);
      return codes(done);
    };
    const all = await attempt<{ data: object[] }>(
      `select data.update_where($1, '{}', '{"note": "x"}', 100, true) as r`,
      [entity],
    );
    const deleted = await attempt<{ meta: { deleted: number } }>(
      "select data.delete_where($1, '{}', 100) as r",
      [entity],
    );
    return {
      "update by filter": codes(all?.data),
      "delete by filter": deleted?.meta.deleted ?? 0,
      "out of sight": await each("select data.update($1, $2, $3) as r", ({ id, region }) => [
        entity,
        id,
        { region: region === "north" ? "south" : "north" },
      ]),
      upsert: await each("select data.upsert($1, $2, '{code}') as r", ({ code }) => [
        entity,
        JSON.stringify([{ code, note: "u" }]),
      ]),
      "update of a list": await each("select data.update_list($1, $2) as r", ({ id }) => [
        entity,
        JSON.stringify([{ id, note: "l" }]),
      ]),
      transaction: await each("select data.transaction($1, $2) as r", ({ id }) => [
        `acme/${app}`,
        JSON.stringify([
          { operation: "update", entity: "things", id, data: { note: "t" } },
          { operation: "delete", entity: "things", id },
        ]),
      ]),
    };
  });
