import type { TestDatabase } from "./database.ts";

/** A row of data.operations. */
export type Operation = {
  id: string;
  kind: string;
  state: string;
  step: string;
  records_done: string;
  records_total: string;
  note: string | null;
  statement: string | null;
  arguments: { statements: string[] };
  error: {
    code: string;
    message: string;
    errors: { pointer: string; message: string; id?: string }[];
  } | null;
};

/** What data.plan says, as far as an operation follows from it. */
export type Plan = {
  plan: string;
  deferred: string[];
  statements: string[];
  rewrites: number;
  locks: { message: string }[];
};

/** Operations as a worker runs them, step by step: of entities by name, the last of each. */
export function operations(database: () => TestDatabase) {
  const query: TestDatabase["query"] = (text, values) => database().query(text, values);
  const last = async (name: string) =>
    (
      await query<Operation>(
        "select o.* from data.operations o join data.entities e on e.id = o.entity_id where e.name = $1 order by o.created_at desc limit 1",
        [name],
      )
    )[0] as Operation;
  const step = async (id: string) =>
    (await query<{ s: string }>("select data.run_step($1) as s", [id]))[0]?.s as string;
  return {
    last,
    step,
    /** Runs an entity's last operation to its end. */
    async finish(name: string): Promise<Operation> {
      const { id } = await last(name);
      for (let state = "running"; state === "running"; ) state = await step(id);
      return last(name);
    },
    /** Runs it until a step comes next. */
    async until(name: string, wanted: string): Promise<void> {
      const { id } = await last(name);
      while ((await last(name)).step !== wanted) await step(id);
    },
    /** Cancels what has not ended. */
    async cancelAll(): Promise<void> {
      for (const { id } of await query<Operation>(
        "select * from data.operations where state in ('waiting', 'running')",
      ))
        await query("select data.cancel_operation($1)", [id]);
    },
  };
}
