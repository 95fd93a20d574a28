// The gateway as a process of its own (argv: operator URL, gateway URL); prints its port.
import { openLog } from "../server/log.ts";
import { readSettings } from "../server/settings.ts";
import { startServer } from "../server/start.ts";

const [operatorUrl, gatewayUrl] = process.argv.slice(2) as [string, string];
const server = await startServer({
  settings: readSettings({ ROWHOUSE_PORT: "0" }),
  database: { operatorUrl, gatewayUrl, gatewayPassword: decodeURIComponent(new URL(gatewayUrl).password) },
  masterKey: Buffer.alloc(32, 7),
  log: openLog("info", "/dev/null"),
});
console.log(new URL(server.url).port);
