import type { Command } from "commander";
import { pino } from "pino";
import { readMasterKey } from "../auth/master-key.ts";
import { openDatabase } from "../database/connect.ts";
import { readSettings, settingsHelp } from "../settings.ts";
import { startServer } from "../start.ts";

/** `rowhouse start`: database (embedded unless DATABASE_URL is set), gateway and worker, until Ctrl-C. */
export function startCommand(program: Command): void {
  program
    .command("start")
    .description("start PostgreSQL (unless DATABASE_URL is set), migrate it, and run gateway and worker")
    .addHelpText("after", `\nSettings (environment variables):\n${settingsHelp()}\n\nExample:\n  ROWHOUSE_PORT=8080 rowhouse start`)
    .action(start);
}

async function start(): Promise<void> {
  const settings = readSettings();
  const masterKey = readMasterKey(settings);
  const log = pino({ level: settings.ROWHOUSE_LOG_LEVEL });
  const database = await openDatabase(settings, masterKey);
  let server: Awaited<ReturnType<typeof startServer>>;
  try {
    server = await startServer({ settings, database, masterKey, log });
  } catch (error) {
    await database.stop();
    throw error;
  }
  let stopping = false;
  const stop = async () => {
    if (stopping) return;
    stopping = true;
    console.error("Stopping: running requests are finished first.");
    await server.stop();
    await database.stop();
    process.exit(0);
  };
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, stop);
  for (const warning of server.warnings) console.error(`Note: ${warning}`);
  console.error(banner(server.url, database.embedded ? `embedded in ${settings.ROWHOUSE_DIR}` : "from DATABASE_URL"));
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
