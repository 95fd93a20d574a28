import { z } from "zod";

/** One setting: how it is read from text, its default, its unit and what it means. */
interface Setting<T extends z.ZodType> {
  read: T;
  default: string;
  unit: string;
  meaning: string;
}

const setting = <T extends z.ZodType>(
  read: T,
  fallback: string,
  unit: string,
  meaning: string,
): Setting<T> => ({
  read,
  default: fallback,
  unit,
  meaning,
});
const whole = (low: number, high: number) => z.coerce.number().int().min(low).max(high);
const unlessProduction = z
  .enum(["auto", "true", "false"])
  .transform((v) => (v === "auto" ? process.env.NODE_ENV !== "production" : v === "true"));

/** Every environment variable that Rowhouse reads. */
export const SETTINGS = {
  ROWHOUSE_PORT: setting(
    whole(0, 65535),
    "4000",
    "TCP port",
    "Where the gateway listens; 0 takes a free port.",
  ),
  ROWHOUSE_HOST: setting(z.string().min(1), "127.0.0.1", "address", "The address the gateway listens on."),
  ROWHOUSE_DIR: setting(
    z.string().min(1),
    ".rowhouse",
    "folder",
    "The embedded database, its passwords and the master key.",
  ),
  DATABASE_URL: setting(
    z.union([z.literal(""), z.url({ protocol: /^postgres(ql)?$/, hostname: /./ })]),
    "",
    "postgres:// URL",
    "A PostgreSQL 18 server to use, as its operator; empty runs the embedded one.",
  ),
  ROWHOUSE_GATEWAY_PASSWORD: setting(
    z.string(),
    "",
    "text",
    "Password of the login rowhouse_gateway with DATABASE_URL; empty derives one from the master key.",
  ),
  ROWHOUSE_WORKER_PASSWORD: setting(
    z.string(),
    "",
    "text",
    "Password of the login rowhouse_worker; empty derives one from the master key.",
  ),
  ROWHOUSE_WORKER_PORT: setting(
    whole(0, 65535),
    "4001",
    "TCP port",
    "Where start --only worker or operator answers /health and /health/ready; 0 takes a free port.",
  ),
  ROWHOUSE_MASTER_KEY: setting(
    z.string(),
    "",
    "32 bytes, base64 or hex",
    "Encrypts signing keys; empty keeps one in <dir>/master.key.",
  ),
  ROWHOUSE_URL: setting(
    z.string(),
    "",
    "URL",
    "How clients reach the gateway, and the issuer of tokens; empty prints http://<host>:<port> and issues as rowhouse.",
  ),
  ROWHOUSE_BASE_DOMAIN: setting(
    z.string().regex(/^[a-z0-9.-]*$/),
    "",
    "domain",
    "acme.<base domain> reaches site acme; empty turns that off.",
  ),
  ROWHOUSE_TRUST_PROXY: setting(
    whole(0, 20),
    "0",
    "proxies",
    "How many proxies in front of the gateway may tell the client's address by X-Forwarded-For; 0 believes none.",
  ),
  ROWHOUSE_USAGE_SECONDS: setting(
    whole(0, 3_600),
    "60",
    "seconds",
    "How often the gateway tells which requests there were, for access.usage; 0 counts nothing.",
  ),
  ROWHOUSE_LOG_LEVEL: setting(
    z.enum(["trace", "debug", "info", "warn", "error", "silent"]),
    "info",
    "level",
    "What is logged, as JSON lines on standard output.",
  ),
  ROWHOUSE_BODY_LIMIT: setting(
    whole(1024, 256 * 1024 * 1024),
    "10485760",
    "bytes",
    "The largest request body.",
  ),
  ROWHOUSE_CACHE: setting(
    whole(0, 64 * 1024 ** 3),
    "67108864",
    "bytes",
    "Memory for the results of reads of entities with x-cache-ttl; 0 keeps none.",
  ),
  ROWHOUSE_TRANSFERS: setting(
    whole(1, 500),
    "4",
    "at once",
    "Exports and imports that a gateway runs at once, each on a connection of its own.",
  ),
  ROWHOUSE_TRANSFER_SECONDS: setting(
    whole(1, 86_400),
    "3600",
    "seconds",
    "The longest statement of an export or import.",
  ),
  ROWHOUSE_TRANSFER_STALL: setting(
    whole(1, 3_600),
    "60",
    "seconds",
    "An export that nobody reads, or an import that nothing comes for, is ended after that.",
  ),
  ROWHOUSE_IMPORT_LIMIT: setting(
    whole(1024, 1024 ** 4),
    "1073741824",
    "bytes",
    "The largest body of an import; a line of it may have as many characters as ROWHOUSE_BODY_LIMIT says.",
  ),
  ROWHOUSE_POOL_SIZE: setting(whole(1, 500), "20", "connections", "PostgreSQL connections of the gateway."),
  ROWHOUSE_GRAPHQL_APPS: setting(
    whole(1, 10000),
    "200",
    "apps",
    "GraphQL schemas kept in memory (about 5 MB each).",
  ),
  ROWHOUSE_GRAPHQL_CHARACTERS: setting(
    whole(1_000, 10_000_000),
    "100000",
    "characters",
    "The longest GraphQL document; values belong into variables.",
  ),
  ROWHOUSE_GRAPHQL_TOKENS: setting(
    whole(100, 100_000),
    "5000",
    "tokens",
    "The most words and signs of a GraphQL document.",
  ),
  ROWHOUSE_GRAPHQL_DEPTH: setting(
    whole(1, 100),
    "12",
    "levels of fields",
    "How deep a GraphQL document may be nested.",
  ),
  ROWHOUSE_GRAPHQL_FIELDS: setting(
    whole(1, 100_000),
    "500",
    "fields",
    "The most fields of a GraphQL document, after fragments are spread.",
  ),
  ROWHOUSE_GRAPHQL_ROOT_FIELDS: setting(
    whole(1, 1_000),
    "20",
    "fields",
    "The most fields at its root: each is a transaction, and all of them run at once.",
  ),
  ROWHOUSE_GRAPHQL_PAGE: setting(whole(1, 100_000), "1000", "records", "The longest list over GraphQL."),
  ROWHOUSE_GRAPHQL_DEFAULT_PAGE: setting(
    whole(1, 100_000),
    "100",
    "records",
    "A list over GraphQL that says neither first nor last.",
  ),
  ROWHOUSE_GRAPHQL_INNER_PAGE: setting(
    whole(1, 100_000),
    "20",
    "records",
    "The same, for a list of related records.",
  ),
  ROWHOUSE_GRAPHQL_RECORDS: setting(
    whole(1, 10_000_000),
    "100000",
    "records",
    "What the nested lists of one GraphQL document may come to.",
  ),
  ROWHOUSE_GRAPHQL_BATCH: setting(
    whole(1, 10_000),
    "1000",
    "records",
    "The most records that one GraphQL mutation writes.",
  ),
  ROWHOUSE_GRAPHQL_AGGREGATES: setting(
    whole(0, 1_000),
    "20",
    "fields",
    "The most fields aggregates, groupedAggregates and aggregateUnion of a GraphQL document: each reads every record that matches.",
  ),
  ROWHOUSE_DOCS: setting(
    unlessProduction,
    "auto",
    "auto, true or false",
    "Serves the REST reference of an app at …/docs; auto: unless NODE_ENV is production.",
  ),
  ROWHOUSE_GRAPHIQL: setting(
    unlessProduction,
    "auto",
    "auto, true or false",
    "Serves GraphiQL on GET of a GraphQL address; auto: unless NODE_ENV is production.",
  ),
} as const;

type Known = typeof SETTINGS;
/** The settings of this process, typed. */
export type Settings = { [K in keyof Known]: z.output<Known[K]["read"]> };

/** A setting that cannot be used; the message names it and says what is allowed. */
export class SettingsError extends Error {}

/** Reads the settings; throws SettingsError for values that are not valid and ROWHOUSE_ variables that do not exist. */
export function readSettings(env: NodeJS.ProcessEnv = process.env): Settings {
  const names = Object.keys(SETTINGS) as (keyof Known)[];
  const unknown = Object.keys(env).filter((name) => name.startsWith("ROWHOUSE_") && !(name in SETTINGS));
  if (unknown.length > 0) {
    throw new SettingsError(
      `${unknown.join(", ")} is not a setting of Rowhouse. Settings: ${names.join(", ")}.`,
    );
  }
  const read = names.map((name) => {
    const text = env[name] ?? SETTINGS[name].default;
    const result = SETTINGS[name].read.safeParse(text);
    if (result.success) return [name, result.data];
    throw new SettingsError(
      `${name}=${text} cannot be used: ${result.error.issues[0]?.message}. It is ${SETTINGS[name].unit}.`,
    );
  });
  return Object.fromEntries(read) as Settings;
}

/** The settings as lines for --help. */
export function settingsHelp(): string {
  return Object.entries(SETTINGS)
    .map(([name, s]) => `  ${name.padEnd(26)} ${s.meaning} (${s.unit}; default ${s.default || "empty"})`)
    .join("\n");
}

/** The settings as the README's Markdown table. */
export function settingsTable(): string {
  const rows = Object.entries(SETTINGS).map(
    ([name, s]) => `| ${name} | ${s.default ? `\`${s.default}\`` : ""} | ${s.unit} | ${s.meaning} |`,
  );
  return ["| variable | default | unit | meaning |", "|---|---|---|---|", ...rows].join("\n");
}
