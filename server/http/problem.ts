import { STATUS_CODES } from "node:http";
import type { Guessed } from "../database/guesses.ts";

/** One thing that is wrong, by JSON pointer into the body or by query parameter. */
export type ProblemItem = { pointer?: string; parameter?: string; message: string };

type ProblemExtras = {
  code?: string;
  hint?: string;
  errors?: ProblemItem[];
  /** Why, by the site's roles and policies; for those who may ask. */
  explanation?: Record<string, unknown>;
  headers?: Record<string, string>;
  cause?: unknown;
};

/** An error as the outside world sees it (RFC 9457). The cause stays inside, for the log. */
export class Problem extends Error {
  readonly status: number;
  readonly code: string | undefined;
  readonly hint: string | undefined;
  readonly errors: ProblemItem[] | undefined;
  readonly explanation: Record<string, unknown> | undefined;
  readonly headers: Record<string, string>;

  constructor(status: number, detail: string, extras: ProblemExtras = {}) {
    super(detail, { cause: extras.cause });
    this.status = status;
    this.code = extras.code;
    this.hint = extras.hint;
    this.errors = extras.errors;
    this.explanation = extras.explanation;
    this.headers = extras.headers ?? {};
  }

  /** The application/problem+json document. */
  toJSON(requestId?: string): Record<string, unknown> {
    return {
      type: "about:blank",
      title: STATUS_CODES[this.status] ?? "Error",
      status: this.status,
      detail: this.message,
      code: this.code,
      hint: this.hint,
      errors: this.errors,
      explanation: this.explanation,
      request_id: requestId,
    };
  }
}

/** 401 for a request that needs a token and has none. */
export function unauthenticated(): Problem {
  return new Problem(401, "This request needs an access token", {
    code: "token_missing",
    hint: "Log in (POST /api/v1/auth/login) and send Authorization: Bearer <access token>.",
    headers: { "www-authenticate": "Bearer" },
  });
}

/** 429 for a write that found out one value too many. */
export function guessed({ status, message, hint, code, retry_after }: Guessed): Problem {
  return new Problem(status, message, { hint, code, headers: { "retry-after": String(retry_after) } });
}

/** What a DatabaseError of pg carries, as far as it is used. */
type DatabaseError = Error & {
  code?: string;
  detail?: string;
  hint?: string;
  table?: string;
  column?: string;
  constraint?: string;
};

/**
 * Turns any error into a Problem. `written` are the texts the requester sent: a value that PostgreSQL quotes is
 * repeated only when it is among them.
 */
export function problemOf(error: unknown, written: readonly (string | null)[] = []): Problem {
  if (error instanceof Problem) return error;
  if (!(error instanceof Error)) return internal(error);
  const failure = error as DatabaseError;
  const code = typeof failure.code === "string" ? failure.code : "";
  if (/^RH[45]\d\d$/.test(code)) return raised(failure, Number(code.slice(2)));
  if (/^[0-9A-Z]{5}$/.test(code) && code !== "EPIPE") return placed(ofState(failure, code, written), failure);
  return isUnreachable(failure) ? unavailable(failure) : internal(failure);
}

/** What rowhouse.fail raised: message for people, DETAIL as JSON for programs, HINT with what to do. */
function raised(failure: DatabaseError, status: number): Problem {
  let more: { code?: unknown; errors?: unknown; explanation?: unknown; retry_after?: unknown } = {};
  try {
    more = JSON.parse(failure.detail ?? "{}") as typeof more;
  } catch {
    // A DETAIL that is no JSON is for psql only.
  }
  return new Problem(status, failure.message, {
    cause: failure,
    ...(failure.hint ? { hint: failure.hint } : {}),
    ...(typeof more.code === "string" ? { code: more.code } : {}),
    ...(Array.isArray(more.errors) ? { errors: more.errors as ProblemItem[] } : {}),
    ...(more.explanation ? { explanation: more.explanation as Record<string, unknown> } : {}),
    ...(status === 401 ? { headers: { "www-authenticate": 'Bearer error="invalid_token"' } } : {}),
    ...(more.retry_after ? { headers: { "retry-after": String(more.retry_after) } } : {}),
  });
}

// data.refuse_operation says in DETAIL which part of a transaction an error of PostgreSQL belongs to.
function placed(problem: Problem, { detail }: DatabaseError): Problem {
  const at = /^\{"pointer": "([\w/]+)"\}$/.exec(detail ?? "")?.[1];
  if (at === undefined) return problem;
  const errors = problem.errors ?? [{ pointer: "", message: problem.message }];
  return new Problem(problem.status, problem.message, {
    ...problem,
    errors: errors.map((item) => ({ ...item, pointer: `${at}${item.pointer ?? ""}` })),
    cause: problem.cause,
  } as ProblemExtras);
}

function ofState(failure: DatabaseError, state: string, written: readonly (string | null)[]): Problem {
  const cause = failure;
  switch (state) {
    case "23505":
      return ofField(failure, 409, "not_unique", "is already taken by another record");
    case "23001":
    case "23503":
      return /RESTRICT|still referenced|update or delete on table/.test(
        `${failure.message} ${failure.detail ?? ""}`,
      )
        ? new Problem(409, "Other records still refer to this record", {
            code: "still_referenced",
            hint: "Change or delete those records first.",
            cause,
          })
        : ofField(failure, 422, "missing_reference", "refers to a record that does not exist");
    case "23502":
      return ofField(failure, 422, "missing_value", "is required");
    case "22001":
    case "23514":
    case "23P01":
      return ofField(failure, 422, "invalid_value", "has a value that is not allowed");
    case "42501":
      return new Problem(403, "You may not do this", {
        code: "forbidden",
        ...(/row-level security/.test(failure.message)
          ? { hint: "Your rights do not cover the record as it would be." }
          : {}),
        cause,
      });
    case "54001":
      return new Problem(400, "This request is nested too deeply", { code: "nested_too_deeply", cause });
    case "57014":
      return new Problem(504, "This request took too long and was stopped", {
        code: "timeout",
        hint: "Ask for less: a narrower filter, fewer records, an indexed field.",
        cause,
      });
    case "RH001":
      return new Problem(503, "The definition of this app is changing", {
        code: "busy",
        hint: "Send the request again.",
        headers: { "retry-after": "1" },
        cause,
      });
    case "40001":
    case "40P01":
    case "55P03":
      return new Problem(503, "Another request is changing the same records", {
        code: "busy",
        hint: "Send the request again.",
        headers: { "retry-after": "1" },
        cause,
      });
  }
  if (state.startsWith("22")) return ofValue(failure, state, written);
  if (state.startsWith("08") || state.startsWith("53") || state.startsWith("57P"))
    return unavailable(failure);
  if (state.startsWith("54"))
    return new Problem(422, "A value is too large to be stored", { code: "too_large", cause });
  return internal(failure);
}

// Under row-level security PostgreSQL leaves DETAIL out, and the constraint's name tells the fields (data.unique_name).
function ofField(failure: DatabaseError, status: number, code: string, message: string): Problem {
  const prefix = failure.table?.replace(/_jsonb$/, "");
  const key = /^Key \(([a-z][a-z0-9_, ]*)\)=/.exec(failure.detail ?? "")?.[1];
  const constraint = failure.constraint ?? "";
  let fields = key?.split(", ") ?? (failure.column ? [failure.column] : []);
  if (fields.length === 0 && constraint.endsWith("_pkey")) fields = ["id"];
  if (fields.length === 0 && prefix && constraint.startsWith(`${prefix}_`)) {
    fields = /^(.+)_f?key$/.exec(constraint.slice(prefix.length + 1))?.[1]?.split("__") ?? [];
  }
  const together =
    fields.length > 1 ? `${fields.join(" and ")} together are already taken by another record` : undefined;
  return new Problem(status, together ?? `${fields[0] ?? "A value"} ${message}`, {
    code,
    cause: failure,
    ...(fields.length > 0
      ? { errors: fields.map((field) => ({ pointer: `/${field}`, message: together ?? message })) }
      : {}),
  });
}

const valueProblems: Record<string, string> = {
  "22003": "A number is out of range",
  "22007": "A date or time is not valid",
  "22008": "A date or time is out of range",
  "22021": "The text is not valid UTF-8",
  "22025": "A pattern ends in an escape character",
  "22P05": "The text holds a character that cannot be stored (\\u0000)",
};

function ofValue(failure: DatabaseError, state: string, written: readonly (string | null)[]): Problem {
  const cause = failure;
  const [, type, value] =
    /^invalid input syntax for type ([a-z ]+)(?:: "(.*)")?$/s.exec(failure.message) ?? [];
  if (type?.startsWith("json")) {
    return new Problem(400, "The body is not valid JSON", {
      code: "invalid_json",
      ...(failure.detail && isWritten(/"(.*)"/s.exec(failure.detail)?.[1] ?? "", written)
        ? { hint: failure.detail }
        : {}),
      cause,
    });
  }
  if (type && value !== undefined && isWritten(value, written)) {
    const name = { bigint: "whole number", integer: "whole number", uuid: "UUID" }[type] ?? type;
    return new Problem(400, `${JSON.stringify(value.slice(0, 80))} is not a valid ${name}`, {
      code: "invalid_value",
      cause,
    });
  }
  return new Problem(400, valueProblems[state] ?? "A value has the wrong type or form", {
    code: "invalid_value",
    cause,
  });
}

function isWritten(value: string, written: readonly (string | null)[]): boolean {
  return written.some((text) => text?.includes(value));
}

function isUnreachable(failure: DatabaseError): boolean {
  return (
    /^(ECONN|EPIPE|ETIMEDOUT|EHOST|ENET|ENOTFOUND|ENOENT)/.test(failure.code ?? "") ||
    /connection (terminated|error|ended)|Connection terminated|timeout exceeded when trying to connect|not queryable|pool after calling end/.test(
      failure.message,
    )
  );
}

function unavailable(cause: unknown): Problem {
  return new Problem(503, "The database cannot be reached at the moment", {
    code: "unavailable",
    hint: "Send the request again in a moment.",
    headers: { "retry-after": "2" },
    cause,
  });
}

function internal(cause: unknown): Problem {
  return new Problem(500, "Something went wrong on our side", {
    code: "internal",
    hint: "The log has more under this request_id.",
    cause,
  });
}
