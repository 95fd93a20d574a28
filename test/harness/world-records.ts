import type { Crm } from "./crm.ts";
import type { Rec, World } from "./worlds.ts";

// What a world's entities hold.

export type Thing = Rec & {
  code: string;
  isDeleted: boolean;
  was: Rec;
  at: number | null;
  shelves: number[];
};
export type Folder = Rec & { code: string };

/** Stores a world's records; `since` is a moment between their making and what was changed and deleted then. */
export async function store(
  crm: Crm,
  ids: string[],
  world: World,
): Promise<{ folders: Folder[]; things: Thing[]; since: string }> {
  const client = await crm.db.pool.connect();
  const schema = `acme_${world.app}`;
  const storage = world.app === "crm" ? "jsonb" : "flat";
  const insert = async (entity: string, record: object, creator: number) => {
    const { rows } = await client.query("select data.insert($1, $2)->>'id' as id", [
      `acme/${world.app}/${entity}`,
      record,
    ]);
    const created_by = ids[creator] ?? null;
    await client.query(
      `begin; set local role rowhouse_owner; set local rowhouse.maintenance = 'on';
       update ${schema}.${entity}_${storage} set created_by = ${created_by ? `'${created_by}'` : "null"} where id = '${rows[0].id}'; commit`,
    );
    return { id: rows[0].id as string, created_by };
  };
  try {
    await client.query(`delete from ${schema}.things; delete from ${schema}.folders`);
    await client.query(
      `begin; set local role rowhouse_owner; set local rowhouse.maintenance = 'on';
       delete from ${schema}.things__deleted_records; delete from ${schema}.things__history; commit`,
    );
    const folders: Folder[] = [];
    for (const [n, { creator, isDeleted: _, ...values }] of world.folders.entries()) {
      const record = { ...values, code: `common f${n}` };
      folders.push({ ...record, ...(await insert("folders", record, creator)) });
    }
    const things: Thing[] = [];
    for (const [n, { creator, folder, shelves, isDeleted, wasLevel, ...values }] of world.things.entries()) {
      const record = { ...values, code: `common t${n}` };
      const links = {
        folder_id: folder === null ? null : (folders[folder]?.id ?? null),
        shelf_ids: shelves.map((at) => folders[at]?.id),
      };
      const known = await insert("things", { ...record, level: wasLevel, ...links }, creator);
      things.push({
        ...record,
        ...known,
        isDeleted,
        shelves,
        at: folder,
        was: { ...record, ...known, level: wasLevel },
      });
    }
    const since = (await client.query("select clock_timestamp() as t, pg_sleep(0.002)")).rows[0].t
      .toISOString()
      .replace("Z", "999Z");
    for (const thing of things) {
      if (thing.was.level !== thing.level)
        await client.query("select data.update($1, $2, $3)", [
          `acme/${world.app}/things`,
          thing.id,
          { level: thing.level },
        ]);
      if (thing.isDeleted)
        await client.query("select data.delete($1, $2)", [`acme/${world.app}/things`, thing.id]);
    }
    return { folders, things, since };
  } finally {
    client.release();
  }
}

/** The codes of records, sorted. */
export const codes = (records: object[] | undefined): string[] =>
  ((records ?? []) as { code: unknown }[]).map(({ code }) => String(code)).sort();
