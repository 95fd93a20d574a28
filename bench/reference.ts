// The three servers that REST is compared with, on the same table: limit, pipelined, naive (argv: variant, database URL,
// schema, account, site). They do nothing but these four requests.
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import pg from "pg";

const [variant, databaseUrl, schema, account, site] = process.argv.slice(2) as [
  string,
  string,
  string,
  string,
  string,
];
const VIEW = `${schema}.${variant === "limit" ? "unguarded" : "contacts"}`;
const TEXTS: Record<string, string> = {
  get: `select row_to_json(t)::text from ${VIEW} t where id = $1`,
  list: `select coalesce(json_agg(row_to_json(t)), '[]')::text from (select * from ${VIEW} order by created_at desc, id desc limit 20) t`,
  filter: `select coalesce(json_agg(row_to_json(t)), '[]')::text from (select * from ${VIEW} where city = $1 order by created_at desc, id desc limit 20) t`,
  insert: `insert into ${schema}.contacts_jsonb as t (data) values ($1) returning row_to_json(t)::text`,
};
const CONTEXT =
  "select set_config('rowhouse.account', $1, true), set_config('rowhouse.site', $2, true), set_config('role', 'rowhouse_data', true)";
const pool = new pg.Pool({ connectionString: databaseUrl, max: 20 });

/** Context and statement bound and executed under one Sync: an implicit transaction in one round trip. */
class Pair {
  callback: (error: Error | null, text: string) => void;
  #name: string;
  #values: string[];
  #completed = 0;
  #text = "";
  constructor(name: string, values: string[], callback: (error: Error | null, text: string) => void) {
    this.#name = name;
    this.#values = values;
    this.callback = callback;
  }
  submit(connection: never) {
    const wire = connection as {
      stream: { cork(): void; uncork(): void };
      known?: Set<string>;
      parse(m: object): void;
      bind(m: object): void;
      execute(m: object): void;
      sync(): void;
    };
    wire.known ??= new Set();
    wire.stream.cork();
    for (const [name, text, values] of [
      ["context", CONTEXT, [account, site]],
      [this.#name, TEXTS[this.#name], this.#values],
    ] as const) {
      if (!wire.known.has(name)) wire.parse({ name, text });
      wire.known.add(name);
      wire.bind({ portal: "", statement: name, values });
      wire.execute({ portal: "" });
    }
    wire.sync();
    wire.stream.uncork();
    return null;
  }
  handleDataRow(message: { fields: string[] }) {
    if (this.#completed === 1) this.#text = message.fields[0] as string;
  }
  handleCommandComplete() {
    this.#completed++;
  }
  handleError(error: Error) {
    this.callback(error, "");
  }
  handleReadyForQuery() {
    this.callback(null, this.#text);
  }
  handleRowDescription() {}
  handlePortalSuspended() {}
  handleEmptyQuery() {}
}

async function run(name: string, values: string[]): Promise<string> {
  const statement = { name, text: TEXTS[name] as string, values };
  if (variant === "limit") return (await pool.query({ ...statement, rowMode: "array" })).rows[0]?.[0];
  const client = await pool.connect();
  try {
    if (variant === "pipelined") {
      return await new Promise((done, fail) => {
        client.query(new Pair(name, values, (error, text) => (error ? fail(error) : done(text))) as never);
      });
    }
    await client.query("begin");
    await client.query({ name: "context", text: CONTEXT, values: [account, site] });
    const { rows } = await client.query({ ...statement, text: statement.text.replaceAll("::text", "") });
    await client.query("commit");
    return JSON.stringify(Object.values(rows[0] as object)[0]);
  } finally {
    client.release();
  }
}

const server = createServer(async (req, res) => {
  const url = new URL(req.url as string, "http://x");
  let body = "";
  for await (const chunk of req) body += chunk;
  const [, name, value] = url.pathname.split("/");
  const text = await run(
    name as string,
    name === "insert" ? [body] : value ? [decodeURIComponent(value)] : [],
  );
  res.writeHead(200, { "content-type": "application/json", "content-length": Buffer.byteLength(text) });
  res.end(text);
});
server.listen(0, "127.0.0.1", () => console.log((server.address() as AddressInfo).port));
