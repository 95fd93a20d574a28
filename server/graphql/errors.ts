import { isSafeError } from "postgraphile/grafast";
import { GraphQLError, type GraphQLFormattedError } from "postgraphile/graphql";
import { Problem, problemOf } from "../http/problem.ts";

const OVERFLOW = /^Maximum call stack/;

/** 400 for values with more levels than the stack has room for. */
export function nestedTooDeeply(cause: unknown): Problem {
  return new Problem(400, "This request is nested too deeply", { code: "nested_too_deeply", cause });
}

/** What is known only to the one who called it, in GraphQL's words; the cause goes to the log. */
export function formatError(
  error: GraphQLError,
  requestId: string,
  log: (problem: Problem) => void,
): GraphQLFormattedError {
  // graphql-js tells an overflow within a variable's value without its cause.
  const cause = error.originalError ?? (OVERFLOW.test(error.message) ? error : undefined);
  if (!cause || (cause instanceof GraphQLError && cause !== error)) {
    const { code = "invalid_query", status = 400, ...more } = (cause ?? error).extensions ?? {};
    return { ...place(error), message: error.message, extensions: { code, status, ...more } };
  }
  const problem = ofGrafast(cause) ?? problemOf(cause);
  if (problem.status >= 500) log(problem);
  return {
    ...place(error),
    message: problem.message,
    extensions: {
      code: problem.code ?? "error",
      status: problem.status,
      ...(problem.hint ? { hint: problem.hint } : {}),
      ...(problem.status === 429 ? { retry_after: Number(problem.headers["retry-after"]) } : {}),
      ...(problem.errors ? { errors: problem.errors } : {}),
      ...(problem.explanation ? { explanation: problem.explanation } : {}),
      ...(problem.status >= 500 ? { request_id: requestId } : {}),
    },
  };
}

function place(error: GraphQLError): Pick<GraphQLFormattedError, "locations" | "path"> {
  return {
    ...(error.locations ? { locations: error.locations } : {}),
    ...(error.path ? { path: error.path } : {}),
  };
}

/** Errors that grafast and PostGraphile raise themselves, which would otherwise be a 500. */
function ofGrafast(cause: Error): Problem | undefined {
  if (OVERFLOW.test(cause.message)) return nestedTooDeeply(cause);
  if (/ forbidden in filter argument/.test(cause.message)) {
    return new Problem(400, "A filter compares with null, or is empty where it must not be", {
      code: "invalid_filter",
      hint: "Ask for missing values with isNull: true; leave out what should not filter.",
      cause,
    });
  }
  if (isSafeError(cause)) return new Problem(400, cause.message, { code: "invalid_value", cause });
  if (/timed out|timeout/i.test(cause.message) && !("code" in cause)) {
    return new Problem(504, "This query took too long and was stopped", {
      code: "timeout",
      hint: "Ask for less.",
      cause,
    });
  }
  if ((cause as { code?: string }).code === "0A000") {
    return new Problem(503, "The app's definition was changed at this moment", {
      code: "busy",
      hint: "Send the request again.",
      cause,
    });
  }
  return undefined;
}
