import { describe, expect, test } from "vitest";
import { resolveOAuthRefreshLockPath } from "../index.mjs";
import { holdLock, startAgent } from "./support/agents.mjs";
import { refreshAs } from "./support/calls.mjs";
import { stopClock } from "./support/clock.mjs";
import { createHost, expired, PROFILE, PROVIDER } from "./support/host.mjs";
import { listen } from "./support/listen.mjs";
import { answering, unwanted } from "./support/refresh-functions.mjs";
import { rejection, typedRejection } from "./support/rejections.mjs";
import { toldBy } from "./support/secrets.mjs";

describe("events", () => {
  test("tell what happened to which key, for whom and when, and no token", async () => {
    const host = createHost({ main: expired(), sub: expired() });
    const log = listen();
    const from = performance.timeOrigin + performance.now();
    await refreshAs(host, "sub", answering());
    const until = performance.timeOrigin + performance.now();
    const subject = {
      provider: PROVIDER,
      profileId: PROFILE,
      lockPath: resolveOAuthRefreshLockPath(PROVIDER, PROFILE, { stateDir: host.stateDir }),
      agentDir: host.agentDir("sub"),
      at: expect.any(Number),
    };
    expect(log.events).toEqual([
      { ...subject, type: "acquired" },
      { ...subject, type: "dispatched" },
      { ...subject, type: "refreshed" },
      { ...subject, type: "mirrored", reason: "incoming-fresher" },
    ]);
    const times = log.events.map(({ at }) => at);
    expect([from, ...times, until]).toEqual([from, ...times, until].sort((one, other) => one - other));
    expect(toldBy(new Error(JSON.stringify(log.events)))).toEqual([]);
  });
});

describe("a call that fails says so on the channel, with its code", () => {
  test("a result that is no credential", async () => {
    const host = createHost({ main: expired() });
    const log = listen();
    await rejection(refreshAs(host, "main", async () => ({})));
    expect(log.types()).toEqual(["acquired", "dispatched", "failed"]);
    expect(log.matching({ code: "invalid_refresh_result" })).toHaveLength(1);
  });

  test("a store that cannot be read", async () => {
    const host = createHost({ main: "" });
    const log = listen();
    await rejection(refreshAs(host, "main", unwanted()));
    expect(log.types()).toEqual(["failed"]);
    expect(log.matching({ code: "store_invalid" })).toHaveLength(1);
  });

  test.each([
    ["a wait that ran out", "file_lock_timeout", {}, (pass) => pass(5_000)],
    ["a caller that left", "caller_aborted", { signal: true }, (_, controller) => controller.abort()],
  ])("%s", async (_, code, { signal }, end) => {
    const host = createHost({ main: expired() });
    const lock = await holdLock(await startAgent(), { options: { stateDir: host.stateDir } });
    const log = listen();
    const pass = stopClock();
    const controller = new AbortController();
    const options = { timeoutMs: 5_000, ...(signal && { signal: controller.signal }) };
    const failed = typedRejection(refreshAs(host, "main", unwanted(), options), code);
    await log.seen({ type: "waiting" });
    end(pass, controller);
    await failed;
    await lock.release();
    expect(log.types()).toEqual(["waiting", "failed"]);
    expect(log.events[1].code).toBe(code);
  });
});
