import { evaluate, type Json } from "./conditions.ts";

// Who may do what, by the words of docs/access.md and nothing else: the reference that every door is compared with.

export type Action = "create" | "read" | "update" | "delete";
export type Condition = Record<string, unknown>;
export type Permission = { action: Action | "*"; own: boolean; condition: Condition | null };
export type Policy = {
  scope: 0 | 1 | 2;
  name: string;
  effect: "allow" | "deny";
  actions: (Action | "*")[];
  condition: Condition;
  enabled: boolean;
};
export type Account = {
  id: string;
  email: string;
  attributes: Record<string, Json>;
  roles: number[];
  inGroup: boolean;
  /** What others handed on to it: permissions in which own means the delegator's records. */
  delegated?: { by: string; permissions: Permission[] }[];
  env?: Record<string, Json>;
};
export type Model = {
  roles: { permissions: Permission[]; parents: number[] }[];
  groupRoles: number[];
  policies: Policy[];
};

/** The indices of the roles that an account holds, by itself, by its group and by inheritance. */
export function heldRoles(model: Model, account: Account): Set<number> {
  const held = new Set<number>();
  const take = (role: number) => {
    if (held.has(role)) return;
    held.add(role);
    model.roles[role]?.parents.forEach(take);
  };
  account.roles.forEach(take);
  if (account.inGroup) model.groupRoles.forEach(take);
  return held;
}

/** Whether an account may do something with a record: some rule allows it, and no policy denies it. */
export function may(model: Model, account: Account, action: Action, record: Record<string, Json>): boolean {
  const held = heldRoles(model, account);
  const world = {
    account: {
      id: account.id,
      email: account.email,
      attributes: account.attributes,
      roles: [...held].map((role) => `r${role}`).concat("authenticated", "anonymous"),
      groups: account.inGroup ? ["team"] : [],
    },
    env: account.env ?? {},
    action,
  };
  const concerns = (actions: string[]) => actions.includes(action) || actions.includes("*");
  const inEffect = model.policies.filter(
    (policy) =>
      policy.enabled &&
      !model.policies.some((other) => other.name === policy.name && other.scope > policy.scope),
  );
  const isDenied = inEffect.some(
    (policy) =>
      policy.effect === "deny" &&
      concerns(policy.actions) &&
      evaluate(policy.condition, record, world) !== false,
  );
  if (isDenied) return false;
  const isAllowed = inEffect.some(
    (policy) =>
      policy.effect === "allow" &&
      concerns(policy.actions) &&
      evaluate(policy.condition, record, world) === true,
  );
  return (
    isAllowed ||
    [...held].some((role) =>
      model.roles[role]?.permissions.some(
        ({ action: permitted, own, condition }) =>
          concerns([permitted]) &&
          (!own || action === "create" || record.created_by === account.id) &&
          (condition === null || evaluate(condition, record, world) === true),
      ),
    ) ||
    (account.delegated ?? []).some(({ by, permissions }) =>
      permissions.some(
        ({ action: permitted, own, condition }) =>
          concerns([permitted]) &&
          (!own || record.created_by === by) &&
          (condition === null || evaluate(condition, record, world) === true),
      ),
    )
  );
}

export type FieldRules = { readable?: string[]; unmasked?: string[]; masked?: Record<string, string> };
/** A rule for reading: of a role that the account holds, or of a policy. */
export type FieldRule = { effect: "allow" | "deny"; condition: Condition | null; fields: FieldRules | null };

const ranks = ["last_four", "redact", "null"];

/** As what a rule that allows shows a field: "full", a mask, or "hidden"; `marked` is the definition's own mask. */
export function shownAs(fields: FieldRules | null, field: string, marked: string | undefined): string {
  if (fields?.masked?.[field]) return fields.masked[field];
  if (fields?.unmasked?.includes(field)) return "full";
  if (fields?.readable && !fields.readable.includes(field)) return "hidden";
  if (fields?.unmasked?.includes("*")) return "full";
  return marked ?? "full";
}

/** As what an account sees a field of a record that rules let it read: the most that one shows, nothing where one denies. */
export function shown(
  rules: FieldRule[],
  account: Account,
  record: Record<string, Json>,
  field: string,
  marked: string | undefined,
): string {
  const { id, email, attributes } = account;
  const world = {
    account: { id, email, attributes, roles: [], groups: [] },
    env: {},
    action: "read" as const,
  };
  const hides = ({ effect, condition, fields }: FieldRule) =>
    effect === "deny" &&
    fields?.readable?.includes(field) &&
    evaluate(condition ?? {}, record, world) !== false;
  if (rules.some(hides)) return "hidden";
  const shows = rules
    .filter(
      ({ effect, condition }) => effect === "allow" && evaluate(condition ?? {}, record, world) === true,
    )
    .map(({ fields }) => shownAs(fields, field, marked));
  if (shows.includes("full")) return "full";
  return ranks.find((mask) => shows.includes(mask)) ?? "hidden";
}
