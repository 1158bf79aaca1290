/** What lies on disk is what docs/formats.md says. */
import { createHash } from "node:crypto";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { holdOAuthRefreshClaim, resolveOAuthRefreshLockPath, withOAuthRefreshLock } from "../index.mjs";
import { answering, rejection } from "./support/calls.mjs";
import { startEtcdStandIn } from "./support/etcd-stand-in.mjs";
import { deferred } from "./support/events.mjs";
import { answer, createHost, expired, IMPATIENT, PROFILE, PROVIDER } from "./support/host.mjs";
import { memoryStore } from "./support/host-stores.mjs";
import { at, gives, startServer } from "./support/token-server.mjs";

const HALF_BYTES = 128 << 10;
const HEADER_BYTES = 52;

const text = readFileSync(join(import.meta.dirname, "..", "docs", "formats.md"), "utf8");

/** The fields in a section's last table. */
function documented(section) {
  const table = text.split(/^## /m).find((part) => part.startsWith(section));
  const cells = [
    ...table
      .split("| field | |")
      .at(-1)
      .matchAll(/^\| (`[^|]*) \|/gm),
  ].map(([, cell]) => cell);
  return cells.flatMap((cell) => [...cell.matchAll(/`(\w+)`/g)].map(([, field]) => field)).sort();
}

/** The record of the half that counts. */
function journaled(path) {
  const file = readFileSync(path);
  expect(file.length).toBe(2 * HALF_BYTES);
  const halves = [0, HALF_BYTES].map((at) => {
    const [magic, version] = [file.toString("latin1", at, at + 4), file.readUInt32LE(at + 4)];
    const text = file.subarray(at + HEADER_BYTES, at + HEADER_BYTES + file.readUInt32LE(at + 16));
    const sum = createHash("sha256")
      .update(file.subarray(at + 8, at + 16))
      .update(text)
      .digest();
    const isValid = magic === "ORLJ" && version === 1 && sum.equals(file.subarray(at + 20, at + HEADER_BYTES));
    return isValid ? { sequence: file.readBigUInt64LE(at + 8), record: JSON.parse(text) } : { sequence: -1n };
  });
  return halves.sort((one, other) => Number(other.sequence - one.sequence))[0].record;
}

test("lock file, sidecar and journal have the fields that are documented", async () => {
  const host = createHost();
  const { stateDir } = host;
  const base = resolveOAuthRefreshLockPath(PROVIDER, PROFILE, { stateDir });
  const store = memoryStore("own", expired());
  const found = new Set();
  const look = () => {
    const record = journaled(`${base}.journal`);
    for (const field of Object.keys(record)) found.add(field);
    return record;
  };
  const call = (refresh, options) => withOAuthRefreshLock(PROVIDER, PROFILE, refresh, { stateDir, store, ...options });

  const unavailable = answering();
  unavailable.mockImplementationOnce(() => {
    const holder = readFileSync(base, "utf8");
    expect([holder.length, holder.at(-1), statSync(base).mode & 0o777]).toEqual([256, "\n", 0o600]);
    expect(Object.keys(JSON.parse(holder)).sort()).toEqual(documented("Lock file"));
    const [, json, owner] = readFileSync(`${base}.lock`, "utf8").match(/^(.*\n\})\n(.*)\n$/s);
    expect(Object.keys(JSON.parse(json)).sort()).toEqual(documented("Sidecar"));
    expect(owner).toMatch(/^\t{8}[\t ]{128}$/);
    expect(look().state).toBe("dispatched");
    throw Object.assign(new Error("later"), { status: 503, headers: { "retry-after": "0" } });
  });
  await rejection(call(unavailable, IMPATIENT));
  expect(look().failures[0].outcome).toBe("unspent");
  // And an answer that its store can't take.
  store.compareAndSwap.mockRejectedValueOnce(new Error("full"));
  await call(answering());
  const [receipt] = look().receipts;
  expect([receipt.origin.store, JSON.parse(receipt.credential).type]).toEqual(["host:own", "oauth"]);
  await call(answering());
  expect(look().receipts).toEqual([]);

  // And what hosts tell each other.
  const { url: coordinator } = await startEtcdStandIn();
  const [asked, given] = [deferred(), deferred()];
  const shared = { coordinator, forceRefresh: true, serveUnexpired: false };
  const ask = () => {
    asked.resolve();
    return given.promise;
  };
  const elsewhere = { stateDir: createHost().stateDir, store: memoryStore("own", store.held), ...shared };
  const theirs = withOAuthRefreshLock(PROVIDER, PROFILE, ask, elsewhere);
  await asked.promise;
  const waiting = await rejection(call(answering(), { ...shared, timeoutMs: 1_000 }));
  expect(waiting.message).toContain(`on host "${hostname()}" has been refreshing`);
  expect(look().ownClaims).toEqual([expect.objectContaining({ sent: false })]);
  given.resolve(answer());
  await theirs;
  expect(await call(answering(), shared)).toMatchObject({ outcome: "adopted" });
  expect(look().answered).toEqual([expect.objectContaining({ isTold: true })]);
  expect([...found].sort()).toEqual(documented("Journal"));
});

/** The names that the page gives files below this directory, as patterns. Any of them may have a sidecar. */
function documentedNames(directory) {
  const [, tree] = text.match(/^```text\n(.*?)^```$/ms);
  const rows = tree.split(/^(?=<)/m).find((part) => part.startsWith(directory));
  // A name has single spaces in it.
  const cells = rows.slice(directory.length).split(/\n| {2,}/);
  const names = cells.filter((cell) => /^(?:sha256-|slot-|claims$|probe$)/.test(cell));
  const patterns = {
    "<64 hex>": "[0-9a-f]{64}",
    "<32 hex>": "[0-9a-f]{32}",
    "<16 hex>": "[0-9a-f]{16}",
    "<n>": "\\d+",
    "<i>": "\\d+",
  };
  const pattern = (name) =>
    Object.entries(patterns).reduce((made, [word, digits]) => made.replace(word, digits), name.replaceAll(".", "\\."));
  return names.map((name) => ({ name, pattern: new RegExp(`^${pattern(name)}(?:\\.lock)?$`) }));
}

test("every file in the lock directories is documented, and all but those of a takeover are there", async () => {
  const host = createHost({ main: expired(), sub: expired() });
  const found = { "<state>/locks/oauth-refresh/": new Set(), "<state>/locks/auth-store/": new Set() };
  const look = () => {
    for (const [directory, names] of Object.entries(found)) {
      for (const name of readdirSync(directory.replace("<state>", host.stateDir))) names.add(name);
    }
  };
  const server = await startServer((...asked) => {
    look();
    gives()(...asked);
  });
  await withOAuthRefreshLock(PROVIDER, PROFILE, at(server, { maxParallel: 3 }), host.as("sub"));
  const claim = { stateDir: host.stateDir, claimId: "1", generation: "g", credential: expired() };
  const { settle } = await holdOAuthRefreshClaim(PROVIDER, PROFILE, claim);
  look();
  await settle();
  for (const [directory, names] of Object.entries(found)) {
    const known = documentedNames(directory);
    const isKnown = (name) => known.some(({ pattern }) => pattern.test(name));
    expect([...names].filter((name) => !isKnown(name))).toEqual([]);
    const missing = known.filter(
      ({ name, pattern }) => !name.includes(".t1") && ![...names].some((one) => pattern.test(one)),
    );
    expect(missing).toEqual([]);
  }
});
