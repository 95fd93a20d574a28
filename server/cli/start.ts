import type { Command } from "commander";
import { pino } from "pino";
import { readMasterKey } from "../auth/master-key.ts";
import { openDatabase } from "../database/connect.ts";
import { readSettings, settingsHelp } from "../settings.ts";
import { type Rowhouse, startServer } from "../start.ts";
import { stopOnSignal } from "./interrupt.ts";

/** `rowhouse start`: database (embedded unless DATABASE_URL is set), gateway and worker, until Ctrl-C. */
export function startCommand(program: Command): void {
  program
    .command("start")
    .description("start PostgreSQL (unless DATABASE_URL is set), migrate it, and run gateway and worker")
    .addHelpText(
      "after",
      `\nSettings (environment variables):\n${settingsHelp()}\n\nExample:\n  ROWHOUSE_PORT=8080 rowhouse start`,
    )
    .action(start);
}

async function start(): Promise<void> {
  const settings = readSettings();
  const masterKey = readMasterKey(settings);
  const log = pino({ level: settings.ROWHOUSE_LOG_LEVEL });
  const opening = openDatabase(settings, masterKey);
  let starting: Promise<Rowhouse> | undefined;
  // Signals count from here on: one that comes while PostgreSQL starts or migrates still stops it.
  stopOnSignal(async () => {
    console.error("Stopping: running requests are finished first.");
    const database = await opening.catch(() => undefined);
    const running = await starting?.catch(() => undefined);
    await running?.stop();
    await database?.stop();
  }, 0);
  const database = await opening;
  starting = startServer({ settings, database, masterKey, log });
  const server = await starting.catch(async (error: unknown) => {
    await database.stop();
    throw error;
  });
  for (const warning of server.warnings) console.error(`Note: ${warning}`);
  console.error(
    banner(server.url, database.embedded ? `embedded in ${settings.ROWHOUSE_DIR}` : "from DATABASE_URL"),
  );
}

function banner(url: string, database: string): string {
  return `
  Rowhouse is up.

  Gateway     ${url}
  Health      ${url}/health/ready
  GraphQL     ${url}/graphql   (GraphiQL in a browser)
  PostgreSQL  ${database}

  In a second terminal:
    npx rowhouse demo                        a small example to try
    npx rowhouse import acme/crm data.json   your own data
    npx rowhouse psql                        the database itself

  Ctrl-C stops everything.
`;
}
