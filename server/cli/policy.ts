import { createInterface } from "node:readline/promises";
import type { Command } from "commander";
import type { ClientBase } from "pg";
import { readRules, writeRules } from "../policy/files.ts";
import { asOperator } from "./operator.ts";

const EXAMPLES = `
Examples:
  rowhouse policy pull acme rules          a file per role, policy and group, and the tests of each app
  rowhouse policy push acme rules          shows what would change, and asks
  rowhouse policy push acme rules --dry-run
  rowhouse policy test acme/crm            exits with 1 when a test fails`;

/** One difference, as access.import_rules tells it. */
type Change = {
  kind: string;
  name: string;
  change: "added" | "changed" | "dropped";
  diff: Record<"added" | "removed", Record<string, unknown>> & { changed: Record<string, Changed> };
};
type Changed = { from: unknown; to: unknown } | { added: unknown[]; removed: unknown[] };
type Failed = { name: string; expected: string; outcome: string; because: string };
type Imported = {
  changes: Change[];
  breaks: (Omit<Failed, "name"> & { test: string })[];
  base: string;
  applied: boolean;
};

interface PushOptions {
  dryRun?: boolean;
  force?: boolean;
  yes?: boolean;
}

/** `rowhouse policy`: access rules as files, and their tests. */
export function policyCommand(program: Command): void {
  const policy = program
    .command("policy")
    .description("test access rules, and keep roles, policies, groups and tests as files")
    .addHelpText("after", EXAMPLES);
  policy
    .command("test")
    .description("run the tests of access of an app")
    .argument("<app>", "site/app, for example acme/crm")
    .action((app: string) =>
      asOperator(async ({ client }) => {
        if (!(await testApp(client, app, console.log))) process.exitCode = 1;
      }),
    );
  policy
    .command("pull")
    .description("write the access rules of a site into a folder")
    .argument("<site>", "the site, for example acme")
    .argument("<folder>", "where to; files in roles, policies, groups and tests below it are replaced")
    .action((site: string, folder: string) =>
      asOperator(({ client }) => pull(client, site, folder, console.log)),
    );
  policy
    .command("push")
    .description("make the access rules of a site those of a folder; what has no file is dropped")
    .argument("<site>", "the site, for example acme")
    .argument("<folder>", "a folder as pull writes it")
    .option("--dry-run", "show what would change, and change nothing")
    .option("--force", "also when a test that passes would fail")
    .option("--yes", "do not ask")
    .action((site: string, folder: string, options: PushOptions) =>
      asOperator(async ({ client }) => {
        if (!(await push(client, site, folder, options, console.log, ask))) process.exitCode = 1;
      }),
    );
}

/** Says which tests fail; whether none does. */
export async function testApp(
  client: ClientBase,
  app: string,
  say: (line: string) => void,
): Promise<boolean> {
  const { rows } = await client.query("select access.test($1) as answer", [app]);
  const { passed, failed } = rows[0].answer as { passed: number; failed: Failed[] };
  for (const { name, expected, outcome, because } of failed)
    say(`failed: ${name}\n  expected ${expected}, and it is ${outcome}: ${because}`);
  say(`${passed} passed, ${failed.length} failed`);
  return failed.length === 0;
}

/** Writes a site's rules into a folder. */
export async function pull(
  client: ClientBase,
  site: string,
  folder: string,
  say: (line: string) => void,
): Promise<void> {
  const { rows } = await client.query("select access.export_rules($1) as rules", [site]);
  const { written, removed } = await writeRules(folder, rows[0].rules);
  for (const file of written) say(`wrote   ${file}`);
  for (const file of removed) say(`removed ${file}`);
  if (written.length + removed.length === 0) say("Nothing has changed.");
}

/** Shows what differs and, when told so, makes it so; whether the site now has these rules (or would, in a dry run). */
export async function push(
  client: ClientBase,
  site: string,
  folder: string,
  { dryRun = false, force = false, yes = false }: PushOptions,
  say: (line: string) => void,
  confirm: (question: string) => Promise<boolean>,
): Promise<boolean> {
  const rules = JSON.stringify(await readRules(folder));
  const { changes, breaks, base } = await importRules(client, [site, rules, true, false, null]);
  if (changes.length === 0) {
    say("Nothing has changed.");
    return true;
  }
  for (const change of changes) say(describe(change));
  for (const { test, expected, outcome, because } of breaks)
    say(`! test ${test} would fail: expected ${expected}, and it would be ${outcome}: ${because}`);
  if (breaks.length > 0 && !force) {
    say("Nothing was changed. Change the tests, or use --force.");
    return false;
  }
  if (dryRun) return true;
  const dropped = changes.filter(({ change }) => change === "dropped").length;
  const question = `Change ${changes.length} (${dropped} dropped) in ${site}?`;
  if (!yes && !(await confirm(question))) {
    say("Nothing was changed.");
    return false;
  }
  await importRules(client, [site, rules, false, force, base]);
  say(`${changes.length} changed.`);
  return true;
}

async function importRules(client: ClientBase, values: unknown[]): Promise<Imported> {
  const { rows } = await client.query(
    "select access.import_rules($1, $2, dry_run => $3, force => $4, base => $5) as answer",
    values,
  );
  return rows[0].answer;
}

function describe({ kind, name, change, diff }: Change): string {
  const sign = { added: "+", changed: "~", dropped: "-" }[change];
  const title = `${sign} ${kind} ${name}`;
  if (change !== "changed") return title;
  const lines = (mark: string, key: string, values: unknown[]) =>
    values.map((value) => `    ${mark} ${key}: ${typeof value === "string" ? value : JSON.stringify(value)}`);
  const changed = Object.entries(diff.changed).flatMap(([key, value]) =>
    "added" in value
      ? [...lines("-", key, value.removed), ...lines("+", key, value.added)]
      : [...lines("-", key, [value.from]), ...lines("+", key, [value.to])],
  );
  const removed = Object.entries(diff.removed).flatMap(([key, value]) => lines("-", key, [value]));
  const added = Object.entries(diff.added).flatMap(([key, value]) => lines("+", key, [value]));
  return [title, ...removed, ...changed, ...added].join("\n");
}

async function ask(question: string): Promise<boolean> {
  if (!process.stdin.isTTY) throw new Error(`${question} Nobody can be asked here; say --yes.`);
  const lines = createInterface({ input: process.stdin, output: process.stderr });
  try {
    return /^y(es)?$/i.test((await lines.question(`${question} [y/N] `)).trim());
  } finally {
    lines.close();
  }
}
