import { spawn } from "node:child_process";
import type { Command } from "commander";
import type pg from "pg";
import { asOperator } from "./operator.ts";

/** `rowhouse psql`: psql of the PATH, as the operator or as the role of a site. */
export function psqlCommand(program: Command): void {
  program
    .command("psql")
    .description("open psql as the operator, or with --site as that site's role")
    .option("--site <site>", "connect as the PostgreSQL role of this site: no account, so no records")
    .argument("[args...]", "arguments for psql, after --")
    .addHelpText(
      "after",
      "\nExamples:\n  rowhouse psql\n  rowhouse psql -- -c 'select name from tenancy.sites'\n\nInside psql, be an account at a site, with exactly its rights:\n  call tenancy.enter('acme', 'ann@acme.test');\n  call tenancy.leave();",
    )
    .action(async (args: string[], { site }: { site?: string }) => {
      process.exitCode = await asOperator(async ({ client, database }) => {
        const role = site ? await roleOf(client, site) : undefined;
        return runPsql(database.operatorUrl, role, args);
      });
    });
}

async function roleOf(client: pg.Client, site: string): Promise<string> {
  const { rows } = await client.query("select role_name from tenancy.sites where name = $1", [site]);
  if (!rows[0]) throw new Error(`There is no site "${site}".`);
  return rows[0].role_name as string;
}

function runPsql(operatorUrl: string, role: string | undefined, args: string[]): Promise<number> {
  const url = new URL(operatorUrl);
  const env = {
    ...process.env,
    PGPASSWORD: decodeURIComponent(url.password),
    ...(role && { PGOPTIONS: `-c role=${role}` }),
  };
  url.password = "";
  // Ctrl-C belongs to psql: it cancels a query there.
  const ignore = () => {};
  process.on("SIGINT", ignore);
  return new Promise((done, fail) => {
    // Where in our functions an error was raised helps nobody who called them: \set SHOW_CONTEXT errors tells it.
    const child = spawn("psql", ["-v", "SHOW_CONTEXT=never", url.href, ...args], { stdio: "inherit", env });
    child.on("exit", (code) => {
      process.off("SIGINT", ignore);
      done(code ?? 1);
    });
    child.on("error", (cause: NodeJS.ErrnoException) => {
      process.off("SIGINT", ignore);
      fail(
        cause.code === "ENOENT"
          ? new Error(
              "psql is not installed. Debian, Ubuntu: apt install postgresql-client; macOS: brew install libpq; Windows: the PostgreSQL installer.",
              { cause },
            )
          : cause,
      );
    });
  });
}
