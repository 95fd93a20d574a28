import { LRUCache } from "lru-cache";
import type { Pool } from "pg";
import { execute } from "postgraphile/grafast";
import {
  type DocumentNode,
  type ExecutionResult,
  GraphQLError,
  getOperationAST,
  parse,
  validate,
} from "postgraphile/graphql";
import { transactions } from "./adaptor.ts";
import { LIMITS, refuseTooLarge, tooMuch } from "./limits.ts";
import { refuseTooManyRecords, withPages } from "./lists.ts";
import type { Built } from "./schema.ts";

/** A request's body, checked for shape. */
export type GraphqlRequest = {
  query: string;
  variables: Record<string, unknown>;
  operationName: string | null;
};

/** What an execution gave; data is JSON text. */
export type GraphqlResult = { data: string | null; errors: readonly GraphQLError[]; executed: boolean };

const DOCUMENTS_KEPT = 200; // parsed and validated, of one schema
const MOST_ERRORS = 10;

/** A schema that answers requests: the one of an app at one version of its definition, or the control plane's. */
export class Endpoint {
  readonly #built: Built;
  readonly #withPgClient: ReturnType<typeof transactions>;
  readonly #documents = new LRUCache<string, DocumentNode | readonly GraphQLError[]>({ max: DOCUMENTS_KEPT });

  /** `salt` is different for every definition, see transactions(). */
  constructor(built: Built, pool: Pool, salt: string) {
    this.#built = built;
    this.#withPgClient = transactions(pool, salt);
  }

  /** Runs a request with the settings of its transactions: role and claims. */
  async run(request: GraphqlRequest, settings: Record<string, string>): Promise<GraphqlResult> {
    const document = this.#document(request.query);
    if (!("kind" in document)) return { data: null, errors: document, executed: false };
    const operation = getOperationAST(document, request.operationName);
    const refusal = operation
      ? caught(() => refuseTooManyRecords(document, operation, request.variables))
      : new GraphQLError("Name the operation to run: operationName must be one of the document's");
    if (refusal) return { data: null, errors: [refusal], executed: false };
    const isQuery = operation?.operation === "query";
    const result = (await execute({
      schema: this.#built.schema,
      document,
      variableValues: request.variables,
      operationName: request.operationName,
      contextValue: {
        pgSettings: isQuery ? { transaction_read_only: "on", ...settings } : settings,
        withPgClient: this.#withPgClient,
      },
      resolvedPreset: this.#built.resolvedPreset,
      outputDataAsString: true,
    })) as ExecutionResult & { data?: unknown };
    const { data, errors = [] } = result;
    return {
      data: typeof data === "string" ? data : data == null ? null : JSON.stringify(data),
      errors,
      executed: data !== undefined,
    };
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
      if (query.length > LIMITS.characters) {
        throw tooMuch(`has ${query.length} characters`, LIMITS.characters, "Send values as variables.");
      }
      document = parseWithin(query);
      refuseTooLarge(document);
    });
    if (refusal || !document) return [refusal ?? new GraphQLError("There is no document")];
    const errors = validate(this.#built.schema, document, undefined, { maxErrors: MOST_ERRORS });
    return errors.length > 0 ? errors : withPages(this.#built.schema, document);
  }
}

function parseWithin(query: string): DocumentNode {
  try {
    return parse(query, { maxTokens: LIMITS.tokens, noLocation: false });
  } catch (error) {
    if (error instanceof GraphQLError && /more that|token limit|tokens/i.test(error.message)) {
      throw tooMuch("has too many tokens", LIMITS.tokens, "Send less at once; send values as variables.");
    }
    if (error instanceof RangeError) throw tooMuch("is nested too deeply", LIMITS.depth, "Ask for less.");
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
