import type { TestDatabase } from "./database.ts";
import { startGateway } from "./gateway.ts";

/** What GraphQL answered. */
export type GraphqlReply = {
  status: number;
  // biome-ignore lint/suspicious/noExplicitAny: the shape of a reply is what the tests assert
  data: any;
  errors: { message: string; extensions: Record<string, unknown> }[];
};

/** A gateway with GraphQL on a database. `ask` asks an app (acme/crm) as an account. */
export async function startGraphql(db: TestDatabase): Promise<{
  ask(app: string, email: string, query: string, variables?: object): Promise<GraphqlReply>;
  stop(): Promise<void>;
}> {
  const gateway = await startGateway(db, {}, 5, true);
  return {
    async ask(path, email, query, variables = {}) {
      const [site, app] = path.split("/");
      const response = await fetch(`${gateway.url}/api/v1/sites/${site}/apps/${app}/graphql`, {
        method: "POST",
        headers: {
          "content-type": "application/json",
          authorization: `Bearer ${await gateway.token(email, site)}`,
        },
        body: JSON.stringify({ query, variables }),
      });
      const { data, errors = [] } = (await response.json()) as Partial<GraphqlReply>;
      return { status: response.status, data, errors };
    },
    stop: () => gateway.stop(),
  };
}
