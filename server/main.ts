import { Command } from "commander";
import { demoCommand } from "./cli/demo.ts";
import { exportCommand } from "./cli/export.ts";
import { importCommand } from "./cli/import.ts";
import { migrateCommand } from "./cli/migrate.ts";
import { policyCommand } from "./cli/policy.ts";
import { psqlCommand } from "./cli/psql.ts";
import { startCommand } from "./cli/start.ts";
import { tokenCommand } from "./cli/token.ts";
import { typesCommand } from "./cli/types.ts";
import { SettingsError } from "./settings.ts";

const HINTS: Record<string, string> = {
  ECONNREFUSED: "No PostgreSQL answers there: check DATABASE_URL, and that the server runs.",
  ENOTFOUND: "There is no such host: check DATABASE_URL.",
  ETIMEDOUT: "PostgreSQL does not answer: check DATABASE_URL, and the firewall between.",
  "28P01": "Check user and password in DATABASE_URL.",
  "3D000": "Create the database first, or check DATABASE_URL.",
};

const program = new Command("rowhouse")
  .description("A backend platform that lives inside PostgreSQL.")
  .addHelpText(
    "after",
    "\nBegin with: rowhouse start, then rowhouse demo in a second terminal.\nRead on: README.md, docs/ (docs/architecture.md the whole, docs/sql.md every SQL function).",
  )
  .showHelpAfterError()
  .helpCommand(false);
for (const add of [
  startCommand,
  migrateCommand,
  psqlCommand,
  importCommand,
  exportCommand,
  tokenCommand,
  typesCommand,
  policyCommand,
  demoCommand,
])
  add(program);

try {
  await program.parseAsync();
} catch (error) {
  console.error(messageOf(error));
  process.exitCode = error instanceof SettingsError ? 2 : 1;
}

/** What a person needs to know: the message, PostgreSQL's hint, and the stack only of a defect of ours. */
function messageOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const { code = "", hint = HINTS[code] } = error as { code?: string; hint?: string };
  const text = hint ? `${error.message}\n${hint}` : error.message;
  return error instanceof TypeError || error instanceof ReferenceError ? (error.stack ?? text) : text;
}
