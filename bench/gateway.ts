// The gateway as a process of its own (argv: operator, gateway and worker URL); prints its port.
import { openLog } from "../server/log.ts";
import { readSettings } from "../server/settings.ts";
import { startServer } from "../server/start.ts";

const [operatorUrl, gatewayUrl, workerUrl] = process.argv.slice(2) as [string, string, string];
const server = await startServer({
  settings: readSettings({ ROWHOUSE_PORT: "0" }),
  logins: { operatorUrl, gatewayUrl, workerUrl },
  masterKey: () => Buffer.alloc(32, 7),
  log: openLog("info", "/dev/null"),
});
console.log(new URL(server.url).port);
