import type { IncomingMessage, ServerResponse } from "node:http";
import type { Claims } from "../auth/tokens.ts";
import type { Denial } from "./denials.ts";
import type { Env } from "./env.ts";
import type { Operation } from "./plan.ts";
import type { Caller } from "./query.ts";

export type { Claims };

/** What a request is about, once its token was verified and its tenant found. */
export type RequestContext = {
  claims: Claims | null;
  /** Name or UUID, as the request gave it; null when an app's UUID alone was given. */
  site: string | null;
  /** Name or UUID, as the request gave it. */
  app: string;
  env: Env;
  /** Is told what was refused within an answer that succeeded. */
  denied?: (denial: Denial) => void;
  /** Is told what an answer that succeeded did with an entity of an app (its UUID), for whom. */
  used?: (app: string, entity: string, operation: Operation, by: Pick<Caller, "account" | "env">) => void;
};

/** A request that belongs to no app: the control plane. */
export type ControlContext = Pick<RequestContext, "claims" | "env" | "denied" | "used">;

/** Verifies access tokens; throws a 401 Problem when one is not valid. */
export type Tokens = { verify(token: string): Claims };

/** The GraphQL endpoints, of one app and of the control plane. */
export type GraphqlHandlers = {
  appHandler(context: RequestContext, req: IncomingMessage, res: ServerResponse): Promise<void>;
  controlHandler(context: ControlContext, req: IncomingMessage, res: ServerResponse): Promise<void>;
};

/** Whether the server can do its work, and what each of its parts says. */
export type Readiness = { ready: boolean; checks: Record<string, string> };
