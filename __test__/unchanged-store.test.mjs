/**
 * A store that was read is not read again while its file is unchanged: nothing that happens to it may be missed by that.
 */
import { mkdirSync, renameSync, rmSync, statSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { setImmediate as turn } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { refreshAs } from "./support/calls.mjs";
import { createHost, HOUR, storeText, storeTextWithout, usable } from "./support/host.mjs";
import { answering, unwanted } from "./support/refresh-functions.mjs";
import { typedRejection } from "./support/rejections.mjs";

/** Timestamps have steps; what is older than this is remembered. */
const STEP_MS = 100;
const WRITES = 300;

/** Resolves once an agent's store is old enough to be remembered. */
async function aged(host, agent) {
  while (Date.now() - statSync(host.storePath(agent)).ctimeMs <= STEP_MS) await turn();
}

/** A host whose one store has been served from, twice. */
async function served(fields) {
  const credential = usable(fields);
  const host = createHost({ main: credential });
  await aged(host, "main");
  const serve = () => refreshAs(host, "main", unwanted());
  for (const result of [await serve(), await serve()]) expect(result).toEqual({ outcome: "fresh", credential });
  return { host, credential, path: host.storePath("main"), serve };
}

/** Another credential, whose store is as long. */
const another = (credential) => ({
  ...credential,
  access: credential.access.replace(/.$/, (last) => (last === "0" ? "1" : "0")),
});

describe("a change shows:", () => {
  test.each([
    ["written in place", (path, text) => writeFileSync(path, text)],
    [
      "written in place, with the old times",
      (path, text) => {
        const { atime, mtime } = statSync(path);
        writeFileSync(path, text);
        utimesSync(path, atime, mtime);
      },
    ],
    [
      "replaced",
      (path, text) => {
        writeFileSync(`${path}.new`, text, { mode: 0o600 });
        renameSync(`${path}.new`, path);
      },
    ],
    [
      "replaced by a link to another",
      (path, text) => {
        writeFileSync(`${path}.other`, text, { mode: 0o600 });
        rmSync(path);
        symlinkSync(`${path}.other`, path);
      },
    ],
  ])("%s", async (_, change) => {
    const { host, credential: old, path, serve } = await served();
    const credential = another(old);
    const { size } = statSync(path);
    change(path, storeText(credential));
    expect(statSync(path).size).toBe(size);
    expect(await serve()).toEqual({ outcome: "fresh", credential });
    await aged(host, "main");
    expect(await serve()).toEqual({ outcome: "fresh", credential });
  });

  test(`${WRITES} times, each as soon as the one before was served`, async () => {
    const { credential: first, path, serve } = await served();
    let credential = first;
    for (let writes = 0; writes < WRITES; writes++) {
      credential = another(credential);
      writeFileSync(path, storeText(credential));
      expect((await serve()).credential).toEqual(credential);
      expect((await serve()).credential).toEqual(credential);
    }
  });

  test("a logout, a store that is gone, and one that is damaged", async () => {
    const { host, path, serve } = await served();
    host.seed("main", storeTextWithout());
    expect(await serve()).toBeNull();
    writeFileSync(path, "{");
    await typedRejection(serve(), "store_invalid");
    rmSync(path);
    expect(await serve()).toBeNull();
  });

  test("a store of its own, for an agent that inherits main's", async () => {
    const mains = usable();
    const own = usable();
    const host = createHost({ main: mains });
    await aged(host, "main");
    const serve = () => refreshAs(host, "sub", unwanted());
    for (const { credential } of [await serve(), await serve()]) expect(credential).toEqual(mains);
    host.seed("sub", own);
    expect((await serve()).credential).toEqual(own);
    await aged(host, "sub");
    expect((await serve()).credential).toEqual(own);
    rmSync(host.storePath("sub"));
    expect((await serve()).credential).toEqual(mains);
  });

  test("a database of OpenClaw's SQLite era", async () => {
    const { host, serve } = await served();
    const database = join(host.stateDir, "state", "openclaw.sqlite");
    mkdirSync(dirname(database));
    writeFileSync(database, "");
    await typedRejection(serve(), "sqlite_store");
  });
});

describe("a caller that wants another one gets it:", () => {
  test.each([
    ["forceRefresh", () => ({ forceRefresh: true })],
    ["rejectedAccess", ({ access }) => ({ rejectedAccess: access })],
    ["a margin beyond its expiry", () => ({ refreshMarginMs: 2 * HOUR })],
  ])("%s", async (_, options) => {
    const { host, credential } = await served();
    const refresh = answering();
    expect((await refreshAs(host, "main", refresh, options(credential))).outcome).toBe("refreshed");
    expect(refresh).toHaveBeenCalledTimes(1);
  });

  test("a caller that has given up already", async () => {
    const { host } = await served();
    await typedRejection(refreshAs(host, "main", unwanted(), { signal: AbortSignal.abort() }), "caller_aborted");
  });
});

test("what one caller does to its credential is no other's business", async () => {
  const { credential, serve } = await served();
  const { credential: mine } = await serve();
  mine.access = "changed";
  expect((await serve()).credential).toEqual(credential);
});
