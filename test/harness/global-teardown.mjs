export default async function globalTeardown() {
  await globalThis.rowhouseTestCluster?.stop();
}
