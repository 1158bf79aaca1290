import { dirname } from "node:path";
import { defineConfig } from "vitest/config";

/** What `npm run hosts` runs: too long for `npm test`, which has the short part. */
export default defineConfig({
  test: {
    root: dirname(dirname(import.meta.dirname)),
    include: ["__test__/hosts/*.test.mjs", "__test__/hosts/*.scenarios.mjs"],
    // Each file starts engines of its own, and dozens of processes.
    maxWorkers: 2,
    testTimeout: 300_000,
    hookTimeout: 300_000,
  },
});
