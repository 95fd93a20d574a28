import type { FieldDef, Pool, PoolClient } from "pg";
import utils from "pg/lib/utils.js";
import { Turns } from "./turns.ts";

// Two statements bound and executed under one Sync: an implicit transaction, one round trip. What the first sets for the
// transaction (role, claims) holds for the second and is gone afterwards, after an error too. 0.7 to 1.07 of the bare
// statement's rate, where four awaited statements (begin, set_config, query, commit) reach 0.4 to 0.5.

/** Prepared statements kept per connection; a backend holds some 10 to 40 KiB for each. */
const statementsPerConnection = 500;

/** A statement with a name that stands for this text only, in the whole process. One that only reads takes turns. */
export type Statement = { name: string; text: string; isRead?: boolean };

/** Text parameters, and the text columns of a row. */
export type Texts = readonly (string | null)[];

/** A statement with its parameters. */
export type Bound = { statement: Statement; values: readonly unknown[] };

/** Rows as text, and the row of the context; `fields` describes their columns where that was asked for. */
export type Rows = { rows: Texts[]; context: Texts; fields: FieldDef[] };

// The parts of pg's undocumented submittable protocol that are used here.
type Wire = {
  stream: { cork(): void; uncork(): void };
  parse(message: { name: string; text: string }): void;
  bind(message: {
    portal: string;
    statement: string;
    values: readonly unknown[];
    valueMapper: (value: unknown) => unknown;
  }): void;
  describe(message: { type: "P"; name: string }): void;
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
  readonly #context: Bound;
  readonly #query: Bound;
  readonly #isDescribed: boolean;
  readonly #answer: Rows = { rows: [], context: [], fields: [] };
  #completed = 0;
  #prepared: Prepared | null = null;
  callback: ((error: Error | null, answer: Rows) => void) | null;

  constructor(
    context: Bound,
    query: Bound,
    isDescribed: boolean,
    callback: (error: Error | null, answer: Rows) => void,
  ) {
    this.#context = context;
    this.#query = query;
    this.#isDescribed = isDescribed;
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
      if (!prepared.known.has(this.#query.statement.name) && prepared.known.size >= statementsPerConnection) {
        for (const oldest of prepared.known) {
          if (oldest === this.#context.statement.name) continue;
          prepared.known.delete(oldest);
          wire.close({ type: "S", name: oldest });
          break;
        }
      }
      this.#run(wire, prepared, this.#context, false);
      this.#run(wire, prepared, this.#query, this.#isDescribed);
      wire.sync();
    } finally {
      wire.stream.uncork();
    }
    return null;
  }

  #run(wire: Wire, prepared: Prepared, { statement, values }: Bound, isDescribed: boolean): void {
    if (prepared.known.delete(statement.name)) {
      prepared.known.add(statement.name);
    } else {
      prepared.parsing.push(statement.name);
      wire.parse(statement);
    }
    wire.bind({ portal: "", statement: statement.name, values, valueMapper: utils.prepareValue });
    if (isDescribed) wire.describe({ type: "P", name: "" });
    wire.execute({ portal: "" });
  }

  handleDataRow(message: { fields: Texts }): void {
    if (this.#completed === 1) this.#answer.rows.push(message.fields);
    else this.#answer.context = message.fields;
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
    callback?.(error, this.#answer);
  }

  handleRowDescription(message: { fields: FieldDef[] }): void {
    this.#answer.fields = message.fields;
  }

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

const turnsOf = new WeakMap<Pool, Turns>();

/**
 * Runs `query` within what `context` sets up, in one round trip; `isDescribed` asks for the columns' types too.
 * Throws pg's DatabaseError, or an error of the connection.
 */
export function runWithin(pool: Pool, context: Bound, query: Bound, isDescribed: boolean): Promise<Rows> {
  return new Promise((resolve, reject) => {
    const run = (end: () => void) => {
      pool.connect((error, client, release) => {
        if (error || !client) {
          end();
          return reject(error);
        }
        watch(client);
        client.query(
          new Pipelined(context, query, isDescribed, (failure, answer) => {
            release(failure !== null && isBroken(failure));
            end();
            if (failure) reject(failure);
            else resolve(answer);
          }),
        );
      });
    };
    if (!query.statement.isRead) return run(() => {});
    let turns = turnsOf.get(pool);
    if (!turns) {
      turns = new Turns();
      turnsOf.set(pool, turns);
    }
    turns.take(run);
  });
}
