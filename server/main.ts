import { Command } from "commander";
import { demoCommand } from "./cli/demo.ts";
import { importCommand } from "./cli/import.ts";
import { migrateCommand } from "./cli/migrate.ts";
import { psqlCommand } from "./cli/psql.ts";
import { startCommand } from "./cli/start.ts";
import { tokenCommand } from "./cli/token.ts";
import { SettingsError } from "./settings.ts";

const program = new Command("rowhouse")
  .description("A backend platform that lives inside PostgreSQL.")
  .addHelpText("after", "\nBegin with: rowhouse start, then rowhouse demo in a second terminal.")
  .showHelpAfterError()
  .helpCommand(false);
for (const add of [startCommand, migrateCommand, psqlCommand, importCommand, tokenCommand, demoCommand])
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
  const { hint } = error as { hint?: string };
  const text = hint ? `${error.message}\n${hint}` : error.message;
  return error instanceof TypeError || error instanceof ReferenceError ? (error.stack ?? text) : text;
}
