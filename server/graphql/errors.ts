import { isSafeError } from "postgraphile/grafast";
import { GraphQLError, type GraphQLFormattedError } from "postgraphile/graphql";
import { Problem, problemOf } from "../http/problem.ts";

/** What is known only to the one who called it, in GraphQL's words; the cause goes to the log. */
export function formatError(
  error: GraphQLError,
  requestId: string,
  log: (problem: Problem) => void,
): GraphQLFormattedError {
  const cause = error.originalError;
  if (!cause || cause instanceof GraphQLError) {
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
      ...(problem.errors ? { errors: problem.errors } : {}),
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
