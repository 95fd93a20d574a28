import type { Command } from "commander";
import { asOperator } from "./operator.ts";

/** `rowhouse types`: TypeScript types of an app, as data.typescript_types makes them. */
export function typesCommand(program: Command): void {
  program
    .command("types")
    .description("print TypeScript types of an app's entities: records, inserts, updates, relations")
    .argument("<app>", "site/app, for example acme/crm")
    .addHelpText(
      "after",
      `
Example:
  rowhouse types acme/crm > crm.ts

Then, in TypeScript:
  import type { Contact, Entities } from "./crm.ts";
  const contact: Contact = await (await fetch(…)).json();
  const added: Entities["contacts"]["insert"] = { name: "Ann" };`,
    )
    .action(async (app: string) => {
      await asOperator(async ({ client }) => {
        const { rows } = await client.query("select data.typescript_types($1) as types", [app]);
        process.stdout.write(rows[0].types);
      });
    });
}
