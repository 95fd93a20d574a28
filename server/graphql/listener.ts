import pgListen from "pg-listen";
import type { Logger } from "pino";

const CHANNEL = "rowhouse_definitions";

/**
 * Calls back with an app's id whenever its definition changed, in whichever process. Only a wake-up: requests compare
 * versions themselves, so nothing is lost while the connection is.
 */
export function listenToDefinitions(connectionString: string, log: Logger, changed: (appId: string) => void) {
  const subscriber = pgListen.default(
    { connectionString, application_name: "rowhouse definitions" },
    {
      parse: (text: string) => text,
      retryTimeout: Number.POSITIVE_INFINITY,
      retryInterval: (attempt) => Math.min(100 * attempt, 5_000),
    },
  );
  let isStopped = false;
  subscriber.notifications.on(CHANNEL, (payload: unknown) => {
    if (typeof payload === "string") changed(payload);
  });
  subscriber.events.on("error", (error) => {
    if (!isStopped)
      log.warn(
        { part: "graphql", message: error.message },
        "The listener for definitions lost its connection",
      );
  });
  const connecting = subscriber
    .connect()
    .then(() => subscriber.listenTo(CHANNEL))
    .catch((error: Error) => {
      if (!isStopped) log.warn({ part: "graphql", message: error.message }, "Cannot listen for definitions");
    });
  return {
    async stop(): Promise<void> {
      isStopped = true;
      await connecting;
      await subscriber.close().catch(() => {});
    },
  };
}
