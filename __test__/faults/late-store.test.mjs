/**
 * A host's store that never answers, and a caller with all patience: it hears of it when the store's 30 s are over.
 */
import { expect, test } from "vitest";
import { inspectOAuthRefreshLocks, withOAuthRefreshLock } from "../../index.mjs";
import { createHost, expired, PROFILE, PROVIDER } from "../support/host.mjs";
import { memoryStore } from "../support/host-stores.mjs";
import { answering, unwanted } from "../support/refresh-functions.mjs";
import { typedRejection } from "../support/rejections.mjs";

const never = () => new Promise(() => {});
const call = (stateDir, refresh, store) => withOAuthRefreshLock(PROVIDER, PROFILE, refresh, { stateDir, store });

test("load and compareAndSwap have 30 s, and what was received by then is kept", { timeout: 120_000 }, async () => {
  const hosts = [createHost(), createHost()];
  const stores = hosts.map(() => memoryStore("own", expired()));
  stores[0].load.mockImplementation(never);
  stores[1].compareAndSwap.mockImplementationOnce(never);
  const refresh = answering();
  const [error, result] = await Promise.all([
    typedRejection(call(hosts[0].stateDir, unwanted(), stores[0]), "store_unreadable"),
    call(hosts[1].stateDir, refresh, stores[1]),
  ]);
  expect(error.message).toMatch(/`load` does not return/);
  expect(result.notSaved.code).toBe("store_unwritable");
  expect(result.notSaved.message).toMatch(/`compareAndSwap` does not return/);
  const [{ waitingCredentials }] = await inspectOAuthRefreshLocks({ stateDir: hosts[1].stateDir });
  expect(waitingCredentials).toBe(1);
  const next = await call(hosts[1].stateDir, refresh, stores[1]);
  expect([next.outcome, next.credential]).toEqual(["recovered", result.credential]);
  expect(stores[1].held).toEqual(result.credential);
  expect(refresh).toHaveBeenCalledTimes(1);
});
