export default {
  testEnvironment: "node",
  testMatch: ["<rootDir>/test/**/*.test.ts"],
  extensionsToTreatAsEsm: [".ts"],
  transform: { "\\.ts$": "<rootDir>/test/harness/strip-types.mjs" },
  globalSetup: "<rootDir>/test/harness/global-setup.mjs",
  globalTeardown: "<rootDir>/test/harness/global-teardown.mjs",
  maxWorkers: 2,
  testTimeout: 120_000,
};
