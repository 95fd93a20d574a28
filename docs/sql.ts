import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { logins } from "../server/database/connect.ts";
import { migrate } from "../server/database/migrate.ts";
import { startEmbedded } from "../server/embedded/postgres.ts";

// `npm run docs` writes docs/sql.md from the comments of an installed database.

type Row = {
  schema: string;
  name: string;
  arguments: string;
  result: string | null;
  comment: string | null;
  for_accounts: boolean;
};

const SCHEMAS: Record<string, string> = {
  data: "Entities and records: define, query, write, move in and out.",
  tenancy: "Organizations, sites, apps, members, domains; sessions as an account.",
  access: "Roles and permissions.",
  auth: "Accounts, sessions and keys.",
  audit: "Who did what, when and from where.",
  rowhouse: "What the other modules share.",
};

/** The functions of Rowhouse that are not triggers, by schema and name. */
async function functions(client: Pick<pg.Client, "query">): Promise<Row[]> {
  const { rows } = await client.query<Row>(
    `select n.nspname as schema, p.proname as name, pg_get_function_arguments(p.oid) as arguments,
       pg_get_function_result(p.oid) as result, obj_description(p.oid, 'pg_proc') as comment,
       has_function_privilege('rowhouse_account', p.oid, 'execute') as for_accounts
     from pg_proc p join pg_namespace n on n.oid = p.pronamespace
     where n.nspname = any ($1) and p.prorettype <> 'trigger'::regtype
     order by n.nspname collate "C", p.proname collate "C", pg_get_function_arguments(p.oid) collate "C"`,
    [Object.keys(SCHEMAS)],
  );
  return rows;
}

/** The names of functions that say nothing of themselves. */
export async function undocumented(client: Pick<pg.Client, "query">): Promise<string[]> {
  return (await functions(client))
    .filter(({ comment }) => !comment?.trim())
    .map(({ schema, name, arguments: list }) => `${schema}.${name}(${list})`);
}

/** The reference of all functions, as Markdown. */
export async function sqlReference(client: Pick<pg.Client, "query">): Promise<string> {
  const rows = await functions(client);
  const parts = Object.entries(SCHEMAS).map(([schema, title]) => {
    const mine = rows.filter((row) => row.schema === schema);
    const open = mine.filter((row) => row.for_accounts);
    const inner = mine.filter((row) => !row.for_accounts);
    return [
      `## ${schema}\n\n${title}`,
      ...open.map(entry),
      ...(inner.length > 0
        ? [`### ${schema}: for the operator, and for Rowhouse itself`, inner.map(line).join("\n")]
        : []),
    ].join("\n\n");
  });
  return `# SQL

Made by \`npm run docs\` from the comments in db/; do not edit it here. In psql, \`\\df+ data.*\` shows the same.

Every account may call what has a heading, with its own rights: \`call tenancy.enter('acme', 'ann@acme.test')\` makes an
operator's session that account. Errors are SQLSTATE RH and the HTTP status they mean; DETAIL is JSON for programs.

${parts.join("\n\n")}
`;
}

function entry({ schema, name, arguments: list, result, comment }: Row): string {
  const errors = [...new Set(comment?.match(/\bRH\d{3}\b/g))].sort();
  return [
    `### ${schema}.${name}`,
    `\`\`\`sql\n${schema}.${name}(${list})${result === null ? " -- a procedure: call" : ` → ${result}`}\n\`\`\``,
    plain(comment),
    ...(errors.length > 0 ? [`Errors: ${errors.join(", ")}.`] : []),
  ].join("\n\n");
}

function line({ schema, name, arguments: list, result, comment }: Row): string {
  return `- \`${schema}.${name}(${list})${result === null ? "" : ` → ${result}`}\` ${plain(comment)}`;
}

/** A comment as Markdown shows it: signs of Markdown and HTML are signs of the text. */
function plain(comment: string | null): string {
  return (comment ?? "").replace(/\s+/g, " ").replace(/[\\<>*`[\]|]/g, "\\$&");
}

if (process.argv[1] === import.meta.filename) {
  const dir = mkdtempSync(join(tmpdir(), "rowhouse-docs-"));
  const server = await startEmbedded(dir, ["fsync=off"]);
  try {
    await migrate(logins(server.operatorUrl, { gateway: "docs", worker: "docs" }));
    const client = new pg.Client({ connectionString: server.operatorUrl });
    await client.connect();
    const text = await sqlReference(client).finally(() => client.end());
    writeFileSync(new URL("sql.md", import.meta.url), text);
  } finally {
    await server.stop();
    rmSync(dir, { recursive: true, force: true });
  }
}
