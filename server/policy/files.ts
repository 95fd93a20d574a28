import { lstat, mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { dirname, join, relative } from "node:path";

/** The access rules of a site, as access.export_rules gives them: definitions by section and name. */
export type Rules = Record<Section, Record<string, unknown>>;

const SECTIONS = ["roles", "policies", "groups", "tests"] as const;
type Section = (typeof SECTIONS)[number];

/** Names of apps, entities, roles and policies; anything else could lead out of the folder. */
const PART = /^[a-z][a-z0-9_-]{0,62}$/;
const LARGEST = 5_000_000;

// As a person would write them. What is not named here follows in the order of its name.
const ORDER = ["name", "app", "scope", "description", "account", "entity", "record", "effect", "priority"];
ORDER.push("inherits", "entities", "actions", "action", "permission", "condition", "expected");

/** The file of a definition within the folder: roles/crm/author.json. Throws for a name that is none. */
export function fileOf(section: Section, name: string): string {
  const parts = name.split("/");
  if (parts.length > 3 || !parts.every((part) => PART.test(part)))
    throw new Error(`"${name}" in ${section} is no name that a file could have.`);
  return `${join(section, ...parts)}.json`;
}

/** A definition as text: members in a fixed order, so that a change is a small diff. */
export function textOf(definition: unknown): string {
  return `${JSON.stringify(ordered(definition), null, 2)}\n`;
}

function ordered(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(ordered);
  if (typeof value !== "object" || value === null) return value;
  const rank = (key: string) => (ORDER.includes(key) ? ORDER.indexOf(key) : ORDER.length);
  const entries = Object.entries(value).sort(([a], [b]) => rank(a) - rank(b) || (a < b ? -1 : a > b ? 1 : 0));
  return Object.fromEntries(entries.map(([key, inner]) => [key, ordered(inner)]));
}

/** Writes a file per role, policy, group and app with tests, and removes files of what is no more. Returns what it wrote and removed. */
export async function writeRules(
  folder: string,
  rules: Rules,
): Promise<{ written: string[]; removed: string[] }> {
  const wanted = new Map<string, string>();
  for (const section of SECTIONS)
    for (const [name, definition] of Object.entries(rules[section]))
      wanted.set(fileOf(section, name), textOf(definition));
  const present = await listFiles(folder);
  const written: string[] = [];
  for (const [file, text] of wanted) {
    const path = join(folder, file);
    if (present.includes(file) && (await readFile(path, "utf8")) === text) continue;
    await refuseLinks(folder, file);
    await mkdir(dirname(path), { recursive: true });
    await writeFile(`${path}.part`, text, { flag: "wx" });
    await rename(`${path}.part`, path);
    written.push(file);
  }
  const removed = present.filter((file) => !wanted.has(file));
  for (const file of removed) await rm(join(folder, file));
  return { written, removed };
}

/** Reads what writeRules wrote and people have changed. Throws for what is no JSON, too long, or a link. */
export async function readRules(folder: string): Promise<Rules> {
  const rules: Rules = { roles: {}, policies: {}, groups: {}, tests: {} };
  const files = await listFiles(folder);
  if (files.length === 0)
    throw new Error(`There are no rules in ${folder}: begin with rowhouse policy pull.`);
  for (const file of files) {
    const [section = "", ...rest] = file.replace(/\.json$/, "").split(/[\\/]/);
    const name = rest.join("/");
    fileOf(section as Section, name);
    const { size } = await lstat(join(folder, file));
    if (size > LARGEST) throw new Error(`${file} has ${size} bytes; a file of rules has at most ${LARGEST}.`);
    const text = await readFile(join(folder, file), "utf8");
    try {
      rules[section as Section][name] = JSON.parse(text);
    } catch (cause) {
      throw new Error(`${file} is not valid JSON: ${(cause as Error).message}`, { cause });
    }
  }
  return rules;
}

/** The .json files in the four sections, sorted. A link is refused: it could lead anywhere. */
async function listFiles(folder: string): Promise<string[]> {
  const files: string[] = [];
  const walk = async (path: string, depth: number): Promise<void> => {
    const entries = await readdir(path, { withFileTypes: true }).catch((error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") return [];
      throw error;
    });
    for (const entry of entries) {
      const inner = join(path, entry.name);
      if (entry.isSymbolicLink()) throw linkError(relative(folder, inner));
      if (entry.isDirectory() && depth < 3) await walk(inner, depth + 1);
      else if (entry.isFile() && entry.name.endsWith(".json")) files.push(relative(folder, inner));
    }
  };
  for (const section of SECTIONS) {
    if ((await lstat(join(folder, section)).catch(() => null))?.isSymbolicLink()) throw linkError(section);
    await walk(join(folder, section), 1);
  }
  return files.sort();
}

async function refuseLinks(folder: string, file: string): Promise<void> {
  for (let path = file; path !== "."; path = dirname(path))
    if ((await lstat(join(folder, path)).catch(() => null))?.isSymbolicLink()) throw linkError(path);
}

function linkError(path: string): Error {
  return new Error(`${path} is a symbolic link; rules are plain files.`);
}
