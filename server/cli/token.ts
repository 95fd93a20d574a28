import type { Command } from "commander";
import { issueDevelopmentToken } from "../auth/development.ts";
import { openTokens } from "../auth/tokens.ts";
import { asOperator } from "./operator.ts";

/** `rowhouse token`: an access token of 12 hours without a password, for development. */
export function tokenCommand(program: Command): void {
  program
    .command("token")
    .description("print an access token (12 hours) for an account, for development")
    .requiredOption("--site <site>", "the site the token is for, for example acme")
    .requiredOption("--account <email>", "the account's email")
    .option("--role <role>", "first create the account if need be, and give it this role at the site")
    .addHelpText(
      "after",
      '\nExample:\n  TOKEN=$(rowhouse token --site acme --account ann@acme.test --role editor)\n  curl -H "authorization: Bearer $TOKEN" localhost:4000/api/v1/sites/acme/apps/crm/contacts',
    )
    .action(async ({ site, account, role }: { site: string; account: string; role?: string }) => {
      const { access_token } = await asOperator(async ({ client, masterKey, settings }) => {
        if (role) {
          await client.query("insert into auth.accounts (email) values (lower($1)) on conflict do nothing", [
            account,
          ]);
          await client.query("select tenancy.add_member($1, $2, $3)", [site, account, role]);
        }
        const tokens = await openTokens({ pool: client, masterKey, settings });
        return issueDevelopmentToken(client, tokens, { email: account, site });
      });
      console.log(access_token);
    });
}
