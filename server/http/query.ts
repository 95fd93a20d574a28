import type { Pool, PoolClient } from "pg";

// Context and query are bound and executed under one Sync: an implicit transaction, one round trip, and the role and
// the claims are gone afterwards, after an error too. 0.7 to 1.07 of the bare statement's rate, where four awaited
// statements (begin, set_config, query, commit) reach 0.4 to 0.5.

const context = (from: string, role: string) => `select set_config('rowhouse.account', $2::text, true),
  set_config('rowhouse.site', r.site_id::text, true), set_config('role', ${role}, true)
from ${from}`;

/** For an app by name or UUID: raises what is wrong. */
const openStatement: Statement = {
  name: "open",
  text: context("tenancy.open_request($1::uuid, $2::uuid, $3::text, $4::text) r", "r.role_name"),
};

/** For an app as it was when a statement was compiled; RH001 when that is not so any more. */
const reopenStatement: Statement = {
  name: "reopen",
  text: context(
    `(values (1)) one left join tenancy.open_requests r on r.session_id = $1::uuid and r.account_id = $2::uuid
  and r.app_id = $3::uuid and r.definition_version = $4::bigint`,
    "coalesce(r.role_name, tenancy.refuse_request())",
  ),
};

/** Prepared statements kept per connection; a backend holds some 10 to 40 KiB for each. */
const statementsPerConnection = 500;

/** Who asks: a session and its account. */
export type Caller = { session: string; account: string };

/** The app that a statement is for: as a request names it, or as it was when a statement was compiled. */
export type AppAsked = { site: string | null; app: string } | { appId: string; version: string };

/** A statement with a name that stands for this text only, in the whole process. */
export type Statement = { name: string; text: string };

/** Text parameters, and the text columns of a row. */
export type Texts = readonly (string | null)[];

// The parts of pg's undocumented submittable protocol that are used here.
type Wire = {
  stream: { cork(): void; uncork(): void };
  parse(message: { name: string; text: string }): void;
  bind(message: { portal: string; statement: string; values: Texts }): void;
  execute(message: { portal: string }): void;
  close(message: { type: "S"; name: string }): void;
  sync(): void;
  on(event: "parseComplete", listener: () => void): void;
};

/** The statements a connection knows, oldest use first, and those whose ParseComplete has not come yet. */
type Prepared = { known: Set<string>; parsing: string[] };

const preparedBy = new WeakMap<Wire, Prepared>();

function preparedOf(wire: Wire): Prepared {
  let prepared = preparedBy.get(wire);
  if (!prepared) {
    const made: Prepared = { known: new Set(), parsing: [] };
    wire.on("parseComplete", () => {
      const name = made.parsing.shift();
      if (name !== undefined) made.known.add(name);
    });
    preparedBy.set(wire, made);
    prepared = made;
  }
  return prepared;
}

class Pipelined {
  readonly #context: Statement;
  readonly #contextValues: Texts;
  readonly #statement: Statement;
  readonly #values: Texts;
  readonly #rows: Texts[] = [];
  #completed = 0;
  #prepared: Prepared | null = null;
  callback: ((error: Error | null, rows: Texts[]) => void) | null;

  constructor(
    { session, account }: Caller,
    app: AppAsked,
    statement: Statement,
    values: Texts,
    callback: (error: Error | null, rows: Texts[]) => void,
  ) {
    const isKnown = "appId" in app;
    this.#context = isKnown ? reopenStatement : openStatement;
    this.#contextValues = isKnown
      ? [session, account, app.appId, app.version]
      : [session, account, app.site, app.app];
    this.#statement = statement;
    this.#values = values;
    this.callback = callback;
  }

  submit(connection: unknown): null {
    const wire = connection as Wire;
    const prepared = preparedOf(wire);
    prepared.parsing = [];
    this.#prepared = prepared;
    wire.stream.cork();
    try {
      // Closed before anything can fail: PostgreSQL skips what follows an error.
      if (!prepared.known.has(this.#statement.name) && prepared.known.size >= statementsPerConnection) {
        for (const oldest of prepared.known) {
          if (oldest === openStatement.name || oldest === reopenStatement.name) continue;
          prepared.known.delete(oldest);
          wire.close({ type: "S", name: oldest });
          break;
        }
      }
      this.#run(wire, prepared, this.#context, this.#contextValues);
      this.#run(wire, prepared, this.#statement, this.#values);
      wire.sync();
    } finally {
      wire.stream.uncork();
    }
    return null;
  }

  #run(wire: Wire, prepared: Prepared, statement: Statement, values: Texts): void {
    if (prepared.known.delete(statement.name)) {
      prepared.known.add(statement.name);
    } else {
      prepared.parsing.push(statement.name);
      wire.parse(statement);
    }
    wire.bind({ portal: "", statement: statement.name, values });
    wire.execute({ portal: "" });
  }

  handleDataRow(message: { fields: Texts }): void {
    if (this.#completed === 1) this.#rows.push(message.fields);
  }

  handleCommandComplete(): void {
    this.#completed++;
  }

  handleError(error: Error): void {
    this.#end(error);
  }

  handleReadyForQuery(): void {
    this.#end(null);
  }

  #end(error: Error | null): void {
    // What an error skipped was not parsed: a later query of somebody else must not mark it as known.
    if (this.#prepared) this.#prepared.parsing = [];
    const { callback } = this;
    this.callback = null;
    callback?.(error, this.#rows);
  }

  handleRowDescription(): void {}
  handlePortalSuspended(): void {}
  handleEmptyQuery(): void {}
  handleCopyInResponse(): void {}
  handleCopyData(): void {}
}

const watched = new WeakSet<PoolClient>();

// A connection that breaks while it is checked out fails its query; without a listener it would also end the process.
function watch(client: PoolClient): void {
  if (watched.has(client)) return;
  watched.add(client);
  client.on("error", () => {});
}

/** Whether an error means that its connection is of no use any more. */
function isBroken(error: Error): boolean {
  const severity = (error as { severity?: string }).severity;
  return severity === undefined || severity === "FATAL" || severity === "PANIC";
}

/**
 * Runs one statement as a member of a site, in one round trip, and returns its rows as text.
 * Throws pg's DatabaseError: RH401 and RH404 where the app is named, RH001 where what is known of it is no longer so,
 * whatever the statement raises, or an error of the connection.
 */
export function queryAs(
  pool: Pool,
  caller: Caller,
  app: AppAsked,
  statement: Statement,
  values: Texts,
): Promise<Texts[]> {
  return new Promise((resolve, reject) => {
    pool.connect((error, client, release) => {
      if (error || !client) return reject(error);
      watch(client);
      client.query(
        new Pipelined(caller, app, statement, values, (failure, rows) => {
          release(failure !== null && isBroken(failure));
          if (failure) reject(failure);
          else resolve(rows);
        }),
      );
    });
  });
}
