import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { expect, test } from "vitest";
import { resolveOAuthRefreshLockPath } from "../index.mjs";
import { createHost } from "./support/host.mjs";
import { Random } from "./support/random.mjs";

const STATE_DIR = join(import.meta.dirname, "no such directory");
const LOCK_DIR = join(STATE_DIR, "locks", "oauth-refresh");
const vectors = JSON.parse(readFileSync(new URL("vectors/lock-names.json", import.meta.url), "utf8"));

const PAIRS = 40_000;
const LONG = 4_000;

const TRAVERSAL = ["..", "../", "..\\", "/", "\\", "./", "~", "%2e%2e%2f", "C:", "//", "locks", "sha256-", ".lock"];
const SEPARATORS = [":", "|", "@", "#", "?", "&", "=", ",", ";", " ", "\t", "_", "-"];
const CONTROLS = ["\u0000", "\u0001", "\u0007", "\n", "\r", "\u001b", "\u007f", "\u0085", "\u009f", "\u2028"];
const BIDI = ["\u200e", "\u200f", "\u202a", "\u202e", "\u2066", "\u2069", "\u061c", "\ufeff", "\u200b", "\u00ad"];
const SURROGATES = ["\ud800", "\udbff", "\udc00", "\udfff", "\ud83d\ude00", "\ufffd", "\udbff\udfff"];
const LETTERS = ["a", "b", "A", "é", "e\u0301", "ß", "ss", "İ", "ı", "Σ", "ς", "ﬁ", "日", "0", "\u212a", "K"];
const ALPHABETS = [TRAVERSAL, SEPARATORS, CONTROLS, BIDI, SURROGATES, LETTERS];
const EVERYTHING = ALPHABETS.flat();

/** Node's own view of text as UTF-8: each lone surrogate becomes U+FFFD. */
const wellFormed = (text) => Buffer.from(text, "utf8").toString("utf8");

function expectedName(provider, profileId) {
  return `sha256-${createHash("sha256").update(`${provider}\0${profileId}`, "utf8").digest("hex")}`;
}

/** Pairs that are out to collide or to escape. */
function* adversarialPairs() {
  const random = new Random(0x10c4);
  for (;;) {
    const alphabet = random.below(4) === 0 ? EVERYTHING : random.of(ALPHABETS);
    const text = random.text(alphabet, 12);
    const cut = random.below(text.length + 1);
    // The same text, parted at different places and joined by what a careless name would join it by.
    yield [text.slice(0, cut), text.slice(cut)];
    yield [text, random.text(alphabet, 3)];
    yield [random.of(["p", "openai-codex", text]), text];
    yield [text.slice(0, cut), `${random.of(SEPARATORS)}${text.slice(cut)}`];
    if (random.below(50) === 0) {
      const long = random.of(EVERYTHING).repeat(LONG).slice(0, LONG);
      yield [long, text];
      yield ["p", long];
      yield ["p", `${long.slice(0, -1)}x`];
    }
  }
}

test.each(vectors)("the lock of $provider and $profileId has the golden name", ({ provider, profileId, name }) => {
  expect(resolveOAuthRefreshLockPath(provider, profileId, { stateDir: STATE_DIR })).toBe(join(LOCK_DIR, name));
});

test("adversarial ids neither collide nor escape", () => {
  const seen = new Map();
  const faults = [];
  for (const [provider, profileId] of adversarialPairs()) {
    if (seen.size === PAIRS) break;
    // A provider with a NUL is refused by every call that takes a lock.
    if (provider.includes("\0")) continue;
    const pair = JSON.stringify([wellFormed(provider), wellFormed(profileId)]);
    const path = resolveOAuthRefreshLockPath(provider, profileId, { stateDir: STATE_DIR });
    const name = basename(path);
    if (dirname(path) !== LOCK_DIR) faults.push({ pair, escapes: path });
    if (!/^sha256-[0-9a-f]{64}$/.test(name)) faults.push({ pair, misnamed: name });
    if (name !== expectedName(provider, profileId)) faults.push({ pair, unexpected: name });
    seen.set(pair, name);
  }
  expect(faults).toEqual([]);
  expect(seen.size).toBe(PAIRS);
  expect(new Set(seen.values()).size).toBe(PAIRS);
});

test("lone surrogates that differ only as surrogates share the name of U+FFFD", () => {
  const name = (profileId) => basename(resolveOAuthRefreshLockPath("p", profileId, { stateDir: STATE_DIR }));
  expect(new Set(["a\ud800", "a\udbff", "a\udc00", "a\ufffd"].map(name)).size).toBe(1);
  expect(name("a\ud83d\ude00")).not.toBe(name("a\ufffd\ufffd"));
});

test("resolving a path creates nothing", () => {
  const host = createHost();
  const before = host.tree();
  const path = resolveOAuthRefreshLockPath("p", "x", { stateDir: host.stateDir });
  expect(dirname(path)).toBe(join(host.stateDir, "locks", "oauth-refresh"));
  expect(host.tree()).toEqual(before);
  expect(existsSync(STATE_DIR)).toBe(false);
});

test("the state directory is normalised as text, whatever is in it", () => {
  const named = (stateDir) => resolveOAuthRefreshLockPath("p", "x", { stateDir });
  expect(named("/a/b/../c/./d/")).toBe(named("/a/c/d"));
  expect(named("/a//b")).toBe(named("/a/b"));
  expect(named("/sp ace/ünï/日本")).toBe(join("/sp ace/ünï/日本/locks/oauth-refresh", expectedName("p", "x")));
});
