/**
 * What lies on disk is what docs/formats.md says.
 */
import { createHash } from "node:crypto";
import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { resolveOAuthRefreshLockPath, withOAuthRefreshLock } from "../index.mjs";
import { createHost, expired, PROFILE, PROVIDER } from "./support/host.mjs";
import { memoryStore } from "./support/host-stores.mjs";
import { answering } from "./support/refresh-functions.mjs";
import { rejection } from "./support/rejections.mjs";

const SLOT_BYTES = 128 << 10;
const HEADER_BYTES = 52;

/** The fields in a section's last table. */
function documented(section) {
  const text = readFileSync(join(import.meta.dirname, "..", "docs", "formats.md"), "utf8");
  const table = text.split(/^## /m).find((part) => part.startsWith(section));
  const cells = [
    ...table
      .split("| field | |")
      .at(-1)
      .matchAll(/^\| (`[^|]*) \|/gm),
  ].map(([, cell]) => cell);
  return cells.flatMap((cell) => [...cell.matchAll(/`(\w+)`/g)].map(([, field]) => field)).sort();
}

/** The record of the slot that counts. */
function journaled(path) {
  const file = readFileSync(path);
  expect(file.length).toBe(2 * SLOT_BYTES);
  const slots = [0, SLOT_BYTES].map((at) => {
    const [magic, version] = [file.toString("latin1", at, at + 4), file.readUInt32LE(at + 4)];
    const text = file.subarray(at + HEADER_BYTES, at + HEADER_BYTES + file.readUInt32LE(at + 16));
    const sum = createHash("sha256")
      .update(file.subarray(at + 8, at + 16))
      .update(text)
      .digest();
    const isValid = magic === "ORLJ" && version === 1 && sum.equals(file.subarray(at + 20, at + HEADER_BYTES));
    return isValid ? { sequence: file.readBigUInt64LE(at + 8), record: JSON.parse(text) } : { sequence: -1n };
  });
  return slots.sort((one, other) => Number(other.sequence - one.sequence))[0].record;
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
  const call = (refresh) => withOAuthRefreshLock(PROVIDER, PROFILE, refresh, { stateDir, store });

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
  await rejection(call(unavailable));
  expect(look().failures[0].verdict).toBe("unspent");
  // And an answer that its store can't take.
  store.compareAndSwap.mockRejectedValueOnce(new Error("full"));
  await call(answering());
  const [receipt] = look().receipts;
  expect([receipt.store, JSON.parse(receipt.credential).type]).toEqual(["host:own", "oauth"]);
  await call(answering());
  expect(look()).not.toHaveProperty("receipts");
  expect([...found].sort()).toEqual(documented("Journal"));
});
