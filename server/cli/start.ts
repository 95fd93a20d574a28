import { type Command, Option } from "commander";
import { readMasterKey } from "../auth/master-key.ts";
import { type Database, type Logins, type Only, openDatabase, ownLogin } from "../database/connect.ts";
import { openLog } from "../log.ts";
import { readSettings, type Settings, SettingsError, settingsHelp } from "../settings.ts";
import type { Rowhouse } from "../start.ts";
import { stopOnSignal } from "./interrupt.ts";

/** `rowhouse start`: database (embedded unless DATABASE_URL is set), gateway and worker, until Ctrl-C. */
export function startCommand(program: Command): void {
  program
    .command("start")
    .description("start PostgreSQL (unless DATABASE_URL is set), migrate it, and run gateway and worker")
    .addOption(
      new Option(
        "--only <part>",
        "run the gateway or the worker alone, as many of each as you need, or what needs the operator's login",
      ).choices(["gateway", "worker", "operator"]),
    )
    .addHelpText(
      "after",
      `
With DATABASE_URL as the operator, start migrates and then uses the logins rowhouse_gateway and rowhouse_worker.
With --only, DATABASE_URL may be that login itself: such a process never holds the operator's password, and
somebody runs rowhouse migrate before it. It needs a password in the URL, its ROWHOUSE_…_PASSWORD, or the master key.
--only operator migrates, then builds large indexes without keeping writers waiting, as start without --only does.

Settings (environment variables):
${settingsHelp()}

Examples:
  ROWHOUSE_PORT=8080 rowhouse start
  DATABASE_URL=postgres://rowhouse_gateway:secret@db/app rowhouse start --only gateway`,
    )
    .action(start);
}

async function start({ only }: { only?: Only }): Promise<void> {
  const settings = readSettings();
  const log = openLog(settings.ROWHOUSE_LOG_LEVEL);
  const masterKey = () => readMasterKey(settings);
  if (only === undefined || only === "gateway") masterKey(); // a wrong one is said before anything starts
  const opening = open(settings, only);
  const loading = import("../start.ts"); // while PostgreSQL starts, and by no other command: half of what these took
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
  starting = loading.then(({ startServer }) =>
    startServer({ settings, logins: database, only, masterKey, log }),
  );
  const server = await starting.catch(async (error: unknown) => {
    await database.stop();
    throw error;
  });
  for (const warning of server.warnings) console.error(`Note: ${warning}`);
  const where = database.embedded ? `embedded in ${settings.ROWHOUSE_DIR}` : "from DATABASE_URL";
  console.error(
    only === undefined || only === "gateway"
      ? banner(server.url, where, only)
      : partBanner(server.url, where, only),
  );
}

/** The database as its operator, or as the one login that DATABASE_URL is. */
async function open(
  settings: Settings,
  only: Only | undefined,
): Promise<Partial<Logins> & Pick<Database, "embedded" | "stop">> {
  const own = ownLogin(settings);
  if (!own) return openDatabase(settings);
  if (own.part !== only) {
    throw new SettingsError(
      `DATABASE_URL logs in as rowhouse_${own.part}: use rowhouse start --only ${own.part}, or the operator's login.`,
    );
  }
  return { [`${own.part}Url`]: own.url, embedded: false, stop: async () => {} };
}

function banner(url: string, database: string, only?: Only): string {
  return `
  Rowhouse is up.

  Gateway     ${url}
  Health      ${url}/health/ready
  GraphQL     ${url}/graphql   (GraphiQL in a browser)
  PostgreSQL  ${database}
${only ? "  Worker      in another process: rowhouse start --only worker\n" : ""}
  In a second terminal${sameSettings()}:
    npx rowhouse demo                        a small example to try
    npx rowhouse import acme/crm data.json   your own data
    npx rowhouse psql                        the database itself

  Ctrl-C stops everything.
`;
}

/** Other commands find this server by the settings that it was given. */
function sameSettings(): string {
  const given = Object.keys(process.env).filter((name) =>
    /^(DATABASE_URL|ROWHOUSE_DIR|ROWHOUSE_PORT)$/.test(name),
  );
  return given.length > 0 ? `, with the same ${given.sort().join(" and ")}` : "";
}

function partBanner(url: string, database: string, only: Only): string {
  return `
  The ${only} of Rowhouse is up.

  Health      ${url}/health/ready
  PostgreSQL  ${database}
  Gateway     in another process: rowhouse start --only gateway

  Ctrl-C stops it${only === "worker" ? "; running jobs are finished first" : ""}.
`;
}
