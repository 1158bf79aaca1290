/** An engine that does not answer: callers hear of it, and not of the lock that the first of them holds meanwhile. */
import { expect, test } from "vitest";
import { listen, refreshAs, typedRejection, unwanted } from "../support/calls.mjs";
import { createHost, expired, MINUTE, usable } from "../support/host.mjs";

const CALLERS = 5;
const never = () => new Promise(() => {});
const silent = () => ({ name: "silent", load: never, compareAndSwap: never });

test("callers without a good token are told of it, also those in line behind another", async () => {
  const host = createHost({ main: expired() });
  const before = host.store("main");
  const coordinator = silent();
  const options = { coordinator, timeoutMs: 1_000 };
  const call = () => typedRejection(refreshAs(host, "main", unwanted(), options), "coordinator_unavailable");
  for (const { message } of await Promise.all(Array.from({ length: CALLERS }, call)))
    expect(message).toMatch(/\(silent\) has not answered for \d+\.\d s/);
  expect(host.store("main")).toBe(before);
});

test("a good token is served, and says so", async () => {
  const credential = usable({ expires: Date.now() + MINUTE });
  const host = createHost({ main: credential });
  const options = { coordinator: silent(), timeoutMs: 1_000, refreshMarginMs: 5 * MINUTE };
  const result = await refreshAs(host, "main", unwanted(), options);
  expect(result).toMatchObject({ credential, refreshError: { code: "coordinator_unavailable" } });
});

test("a caller behind one that asks the provider for long is not told of the engine", async () => {
  const host = createHost({ main: expired() });
  const rows = new Map();
  const coordinator = {
    name: "prompt",
    load: async (key) => rows.get(key) ?? null,
    compareAndSwap: async (key, expected, value) => {
      if ((rows.get(key)?.version ?? null) !== expected) return null;
      const version = `${Number(expected ?? 0) + 1}`;
      rows.set(key, { version, value });
      return version;
    },
  };
  const log = listen();
  const first = refreshAs(host, "main", never, { coordinator, timeoutMs: 1_500 });
  await log.seen({ type: "dispatched" });
  await typedRejection(refreshAs(host, "main", unwanted(), { coordinator, timeoutMs: 300 }), "file_lock_timeout");
  await typedRejection(first, "caller_timeout");
});
