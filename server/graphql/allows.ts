import { loadOneWithPgClient, type PgResource } from "postgraphile/@dataplan/pg";
import { access, type FieldArgs, lambda, object, type Step } from "postgraphile/grafast";
import { extendSchema, gql } from "postgraphile/utils";

/** Query.accessAnswers of an app: what one may do, as access.allows_each says it; not where an entity has that name. */
export const allows = (appName: string): GraphileConfig.Plugin =>
  extendSchema((build) => {
    const { pgExecutors, pgResources } = build.input.pgRegistry;
    const executor = Object.values(pgExecutors)[0];
    const isTaken = (Object.values(pgResources) as PgResource[]).some(({ codec }) =>
      /^Access(Question|Answer)$/.test(build.inflection.tableType(codec as never)),
    );
    if (!executor || isTaken) return { typeDefs: [] };
    return {
      typeDefs: gql`
        "Whether one may do action (create, read, update, delete) with a record of an entity, by its name in the definition; without id, with any."
        input AccessQuestion { entity: String! action: String! id: UUID }
        type AccessAnswer { entity: String! action: String! id: UUID allowed: Boolean! }
        extend type Query {
          "What one may do, up to 200 questions, answered in their order. For oneself; who may ask about others, also for the account with an email."
          accessAnswers(questions: [AccessQuestion!]!, account: String): [AccessAnswer!]
        }
      `,
      objects: {
        Query: {
          plans: {
            accessAnswers(_root: Step, args: FieldArgs) {
              const $asked = lambda(
                object({ questions: args.getRaw("questions"), account: args.getRaw("account") }),
                (asked) => JSON.stringify(asked),
              );
              return loadOneWithPgClient(executor, $asked, (client, all) =>
                Promise.all(
                  all.map(async (asked) => {
                    const { questions, account } = JSON.parse(asked);
                    const { rows } = await client.query<{ answers: string }>({
                      text: "select (access.allows_each(null, $1::jsonb, $2::text, $3::text)->'data')::text as answers",
                      values: [JSON.stringify(questions), account ?? null, appName],
                    });
                    return JSON.parse(rows[0]?.answers ?? "[]") as object[];
                  }),
                ),
              );
            },
          },
        },
        AccessAnswer: {
          plans: Object.fromEntries(
            ["entity", "action", "id", "allowed"].map((name) => [
              name,
              ($answer: Step) => access($answer, name),
            ]),
          ),
        },
      },
    };
  }, "AllowsPlugin");
