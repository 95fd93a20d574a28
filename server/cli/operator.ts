import pg from "pg";
import { readMasterKey } from "../auth/master-key.ts";
import { type Database, openDatabase } from "../database/connect.ts";
import { migrate } from "../database/migrate.ts";
import { readSettings, type Settings } from "../settings.ts";
import { stopOnSignal } from "./interrupt.ts";

/** What a command line tool works with: the migrated database and a connection as its operator. */
export interface Operator {
  settings: Settings;
  masterKey: Buffer;
  database: Database;
  client: pg.Client;
}

/** Opens the database (starting the embedded one when it does not run), migrates it, and ends both after the work. */
export async function asOperator<T>(work: (operator: Operator) => Promise<T>): Promise<T> {
  const settings = readSettings();
  const masterKey = readMasterKey(settings);
  const opening = openDatabase(settings);
  const release = stopOnSignal(() =>
    opening.then(
      (database) => database.stop(),
      () => {},
    ),
  );
  const database = await opening;
  try {
    await migrate(database);
    const client = new pg.Client({ connectionString: database.operatorUrl });
    await client.connect();
    try {
      return await work({ settings, masterKey, database, client });
    } finally {
      await client.end();
    }
  } finally {
    await database.stop();
    release();
  }
}
