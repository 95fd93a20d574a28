import { LRUCache } from "lru-cache";
import type { Pool } from "pg";
import { execute } from "postgraphile/grafast";
import {
  type DocumentNode,
  type ExecutionResult,
  GraphQLError,
  getOperationAST,
  type OperationDefinitionNode,
  parse,
  validate,
} from "postgraphile/graphql";
import { transactions } from "./adaptor.ts";
import { withExactLiterals } from "./exactness.ts";
import { withHints } from "./hints.ts";
import { type Limits, refuseTooLarge, tooMuch } from "./limits.ts";
import { refuseTooManyRecords, withPages } from "./lists.ts";
import type { Built } from "./schema.ts";
import { type Used, usedBy } from "./used.ts";

/** A request's body, checked for shape. */
export type GraphqlRequest = {
  query: string;
  variables: Record<string, unknown>;
  operationName: string | null;
};

/** What an execution gave; data is JSON text; used is what an execution without errors did with which entities. */
export type GraphqlResult = {
  data: string | null;
  errors: readonly GraphQLError[];
  executed: boolean;
  used: readonly Used[];
};

const DOCUMENTS_KEPT = 200; // parsed and validated, of one schema
const MOST_ERRORS = 10;

/** A schema that answers requests: the one of an app at one version of its definition, or the control plane's. */
export class Endpoint {
  readonly readsAreNoted: boolean;
  readonly #built: Built;
  readonly #limits: Limits;
  readonly #withPgClient: ReturnType<typeof transactions>;
  readonly #readOnly: "on" | "off";
  readonly #used = new WeakMap<OperationDefinitionNode, Used[]>();
  readonly #documents = new LRUCache<string, DocumentNode | readonly GraphQLError[]>({ max: DOCUMENTS_KEPT });

  /** `salt` is different for every definition, see transactions(). `readsAreNoted`: what queries read is written down. */
  constructor(built: Built, pool: Pool, limits: Limits, salt: string, readsAreNoted = false) {
    this.readsAreNoted = readsAreNoted;
    this.#readOnly = readsAreNoted ? "off" : "on";
    this.#built = built;
    this.#limits = limits;
    this.#withPgClient = transactions(pool, salt);
  }

  /** Runs a request with the settings of its transactions: role and claims. */
  async run(request: GraphqlRequest, settings: Record<string, string>): Promise<GraphqlResult> {
    const document = this.#document(request.query);
    if (!("kind" in document)) return refused(document);
    const operation = getOperationAST(document, request.operationName);
    if (operation?.operation === "subscription")
      return refused([new GraphQLError("There are no subscriptions here")]);
    const refusal = operation
      ? caught(() =>
          refuseTooManyRecords(this.#built.schema, document, operation, request.variables, this.#limits),
        )
      : new GraphQLError("Name the operation to run: operationName must be one of the document's");
    if (refusal || !operation) return refused(refusal ? [refusal] : []);
    const isQuery = operation.operation === "query";
    const told: Used[] = [];
    const result = (await execute({
      schema: this.#built.schema,
      document,
      variableValues: request.variables,
      operationName: request.operationName,
      contextValue: {
        pgSettings: isQuery ? { transaction_read_only: this.#readOnly, ...settings } : settings,
        withPgClient: this.#withPgClient,
        used: (one: Used) => told.push(one),
      },
      resolvedPreset: this.#built.resolvedPreset,
      outputDataAsString: true,
    })) as ExecutionResult & { data?: unknown };
    const { data } = result;
    const errors = withHints(this.#built.schema, result.errors ?? []);
    return {
      data: typeof data === "string" ? data : data == null ? null : JSON.stringify(data),
      errors,
      executed: data !== undefined,
      used: data !== undefined && errors.length === 0 ? [...this.#usedBy(document, operation), ...told] : [],
    };
  }

  // Of a document that is kept, once.
  #usedBy(document: DocumentNode, operation: OperationDefinitionNode): Used[] {
    const used = this.#used.get(operation) ?? usedBy(this.#built.schema, document, operation);
    this.#used.set(operation, used);
    return used;
  }

  #document(query: string): DocumentNode | readonly GraphQLError[] {
    const known = this.#documents.get(query);
    if (known) return known;
    const checked = this.#check(query);
    this.#documents.set(query, checked);
    return checked;
  }

  #check(query: string): DocumentNode | readonly GraphQLError[] {
    let document: DocumentNode | undefined;
    const refusal = caught(() => {
      document = parseWithin(query, this.#limits);
      refuseTooLarge(document, this.#limits);
    });
    if (refusal || !document) return [refusal ?? new GraphQLError("There is no document")];
    const { schema } = this.#built;
    const errors = withHints(schema, validate(schema, document, undefined, { maxErrors: MOST_ERRORS }));
    return errors.length > 0
      ? errors
      : withExactLiterals(schema, withPages(schema, document, this.#limits), query);
  }
}

function parseWithin(query: string, limits: Limits): DocumentNode {
  const refuse = (what: string, name: keyof Limits) =>
    tooMuch(what, name, limits, "Ask for less at once; send values as variables.");
  if (query.length > limits.ROWHOUSE_GRAPHQL_CHARACTERS) {
    throw refuse(`has ${query.length} characters`, "ROWHOUSE_GRAPHQL_CHARACTERS");
  }
  try {
    return parse(query, { maxTokens: limits.ROWHOUSE_GRAPHQL_TOKENS });
  } catch (error) {
    if (error instanceof GraphQLError && /more tha[nt] \d+ tokens/.test(error.message)) {
      throw refuse("has too many words and signs", "ROWHOUSE_GRAPHQL_TOKENS");
    }
    if (error instanceof RangeError) throw refuse("is nested too deeply", "ROWHOUSE_GRAPHQL_DEPTH");
    throw error;
  }
}

function caught(work: () => void): GraphQLError | undefined {
  try {
    work();
  } catch (error) {
    if (error instanceof GraphQLError) return error;
    throw error;
  }
  return undefined;
}

function refused(errors: readonly GraphQLError[]): GraphqlResult {
  return { data: null, errors: [...errors], executed: false, used: [] };
}
