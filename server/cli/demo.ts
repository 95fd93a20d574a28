import { fileURLToPath } from "node:url";
import type { Command } from "commander";
import type { Client } from "pg";
import { importInto, inferFile } from "./import.ts";
import { asOperator } from "./operator.ts";

const EXAMPLES = fileURLToPath(new URL("../../examples/", import.meta.url));
const APP = "demo/bakery";
const PASSWORD = "rowhouse-demo";
const ACCOUNTS = [
  ["ada@demo.test", "admin", "defines entities and adds members as well"],
  ["ed@demo.test", "editor", "reads and writes records"],
  ["vic@demo.test", "viewer", "reads records"],
] as const;

/** `rowhouse demo`: a bakery with five customers and three accounts, and requests to try. Run it as often as you like. */
export function demoCommand(program: Command): void {
  program
    .command("demo")
    .description(
      "load a small example (demo/bakery) with three accounts of different rights, and print requests to try",
    )
    .action(async () => {
      await asOperator(async ({ client, settings }) => {
        await importInto(
          client,
          APP,
          await inferFile(`${EXAMPLES}bakery.json`, { schema: `${EXAMPLES}bakery.schema.json` }),
        );
        await addAccounts(client);
        console.log(requests(settings.ROWHOUSE_URL || `http://127.0.0.1:${settings.ROWHOUSE_PORT}`));
      });
    });
}

async function addAccounts(client: Client): Promise<void> {
  for (const [email, role] of ACCOUNTS) {
    const { rowCount } = await client.query("select from auth.accounts where email = $1", [email]);
    if (!rowCount) await client.query("select auth.sign_up($1, $2, null)", [email, PASSWORD]);
    await client.query("select tenancy.add_member('demo', $1, $2)", [email, role]);
  }
  // The role admin is about records; who administers the site says its membership.
  await client.query("select tenancy.set_member_role('demo', $1, 'admin')", [ACCOUNTS[0][0]]);
}

function requests(url: string): string {
  const app = `${url}/api/v1/sites/demo/apps/bakery`;
  return `
Accounts, all with the password ${PASSWORD}:
${ACCOUNTS.map(([email, role, rights]) => `  ${email.padEnd(16)} ${role.padEnd(8)} ${rights}`).join("\n")}

Log in (viewer):
  TOKEN=$(curl -s ${url}/api/v1/auth/login -H 'content-type: application/json' -d '{"email":"vic@demo.test","password":"${PASSWORD}","site":"demo"}' | sed 's/.*"access_token":"\\([^"]*\\)".*/\\1/')

Read, filter, sort, expand:
  curl -s -H "authorization: Bearer $TOKEN" '${app}/products?sort=-price&limit=3'
  curl -s -G -H "authorization: Bearer $TOKEN" '${app}/orders' --data-urlencode 'filter={"state":"open"}' -d 'expand=customer,lines.product'

Be refused (a viewer may not write):
  curl -s -H "authorization: Bearer $TOKEN" -H 'content-type: application/json' ${app}/products -d '{"sku":"NEW","name":"New","price":1}'

GraphQL (in a browser: ${app}/graphql):
  curl -s -H "authorization: Bearer $TOKEN" -H 'content-type: application/json' ${app}/graphql -d '{"query":"{ orders(first: 2) { nodes { number customer { name } lines { nodes { quantity product { name } } } } } }"}'

psql, as that account:
  npx rowhouse psql -- -c "call tenancy.enter('demo', 'vic@demo.test')" -c "select name, price from demo_bakery.products order by price desc limit 3"
`;
}
