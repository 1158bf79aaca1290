/** What a host owes the coordinator is told by a process that lives, if the thread that asked has ended. */
import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { expect, test } from "vitest";
import { startAgent } from "../support/agents.mjs";
import { refreshAs } from "../support/calls.mjs";
import { startEtcdStandIn } from "../support/etcd-stand-in.mjs";
import { createHost, expired, PROFILE, PROVIDER } from "../support/host.mjs";
import { at, holding, startServer } from "../support/token-server.mjs";

const INDEX = new URL("../../index.mjs", import.meta.url).href;
const WORKER = `
  const { workerData: { index, key, endpoint, options } } = require("node:worker_threads");
  void import(index).then(({ withOAuthRefreshLock }) => withOAuthRefreshLock(...key, endpoint, options));
`;

test.each([
  ["another process, which waited for it", true],
  ["another thread, at its next call", false],
])("by %s", async (_, isElsewhere) => {
  const engine = await startEtcdStandIn();
  const host = createHost({ main: expired() });
  const { script, open } = holding();
  const server = await startServer(script);
  const options = host.as("main", { coordinator: engine.url });
  const workerData = { index: INDEX, key: [PROVIDER, PROFILE], endpoint: at(server), options };
  const worker = new Worker(WORKER, { eval: true, workerData });
  await server.requested();
  const agent = await startAgent();
  const waiting = isElsewhere && agent.refresh({ options });
  if (isElsewhere) await agent.log.seen({ type: "waiting" });
  const ended = once(worker, "exit");
  await worker.terminate();
  await ended;
  open();
  if (isElsewhere) expect((await waiting.settled)[0].result.outcome).toBe("fresh");
  else {
    await expect.poll(() => host.store("main")).not.toContain(server.presented[0]);
    const { outcome } = await refreshAs(host, "main", at(server), { coordinator: engine.url });
    expect(outcome).toBe("fresh");
  }
  const states = () => [...engine.rows.values()].map(({ value }) => JSON.parse(atob(value)).state);
  await expect.poll(states).toEqual(["spent"]);
  expect(server.requests).toHaveLength(1);
});
