import { spawnSync } from "node:child_process";
import { expect, test } from "vitest";
import { createHost, expired, PROFILE, PROVIDER } from "./support/host.mjs";
import { startProgram } from "./support/programs.mjs";

const canLimit = process.platform === "linux" && spawnSync("prlimit", ["--version"]).status === 0;

test.runIf(canLimit)("a process that can start no thread is told so, and lives on", async () => {
  const host = createHost({ main: expired() });
  const call = { provider: PROVIDER, profileId: PROFILE, options: host.as("main", { timeoutMs: 20_000 }) };
  // A thread that can't be started is told there as well.
  const program = startProgram("without-threads", { root: host.root, ...call }, { stderr: "ignore" });
  await program.told({ type: "ended" }, 1);
  expect(program.log.matching({ type: "ended" })).toMatchObject([{ status: 0, code: "lock_unavailable", asked: [] }]);
});
