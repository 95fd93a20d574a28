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
    env: {},
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
    )
  );
}
