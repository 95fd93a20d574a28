// Writes the `--! Previous:` and `--! Hash:` headers of migrations/committed, for migrations that have not landed yet.
import { createHash } from "node:crypto";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";

const folder = new URL("./committed/", import.meta.url);
let previous: string | null = null;
for (const name of readdirSync(folder)
  .filter((n) => n.endsWith(".sql"))
  .sort()) {
  const file = new URL(name, folder);
  const text = readFileSync(file, "utf8");
  const body = text.replace(/^(--! .*\n)+\n?/, "").trim();
  const message = /^--! Message: (.*)$/m.exec(text)?.[1] ?? "";
  const content = `${previous ?? ""}\n${body}`.trim();
  const hash: string = `sha1:${createHash("sha1").update(`${content}\n`).digest("hex")}`;
  writeFileSync(
    file,
    `--! Previous: ${previous ?? "-"}\n--! Hash: ${hash}\n--! Message: ${message}\n\n${body}\n`,
  );
  previous = hash;
}
