import type { Command } from "commander";
import { openDatabase } from "../database/connect.ts";
import { migrate } from "../database/migrate.ts";
import { readSettings } from "../settings.ts";
import { stopOnSignal } from "./interrupt.ts";

/** `rowhouse migrate`: brings the database up to date and says what was done. */
export function migrateCommand(program: Command): void {
  program
    .command("migrate")
    .description("bring the database up to date without starting anything else")
    .addHelpText("after", "\nExample:\n  DATABASE_URL=postgres://owner:secret@db/app rowhouse migrate")
    .action(async () => {
      const settings = readSettings();
      const opening = openDatabase(settings);
      const release = stopOnSignal(() =>
        opening.then(
          (database) => database.stop(),
          () => {},
        ),
      );
      const database = await opening;
      try {
        const { installed, warnings } = await migrate(database);
        console.log(installed ? "Migrated." : "Already up to date.");
        for (const warning of warnings) console.log(`Note: ${warning}`);
      } finally {
        await database.stop();
        release();
      }
    });
}
