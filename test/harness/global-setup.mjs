import { startCluster } from "./cluster.ts";

export default async function globalSetup() {
  const cluster = await startCluster();
  process.env.TEST_CLUSTER = JSON.stringify({
    operatorUrl: cluster.operatorUrl,
    gatewayPassword: cluster.gatewayPassword,
    workerPassword: cluster.workerPassword,
  });
  globalThis.rowhouseTestCluster = cluster;
}
