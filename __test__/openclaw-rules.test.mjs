import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { describe, expect, test, vi } from "vitest";
import {
  isSafeToCopyOAuthIdentity,
  OAUTH_REFRESH_CALL_TIMEOUT_MS,
  OAUTH_REFRESH_LOCK_OPTIONS,
  resolveOAuthRefreshLockPath,
  withOAuthProfileLock,
  withOAuthRefreshLock,
} from "../index.mjs";
import { holdLock, startAgent } from "./support/agents.mjs";
import { held, listen, stopClock, typedRejection, unwanted } from "./support/calls.mjs";
import { createHost, expired, PROFILE, PROVIDER } from "./support/host.mjs";
import { Random } from "./support/random.mjs";

const vectors = JSON.parse(readFileSync(new URL("vectors/identity-gate.json", import.meta.url), "utf8"));
const PAIRS = 60_000;
const LAST_CODE_POINT = 0x10ffff;

/** The rule, in the language whose `trim()` and `toLowerCase()` it is defined by. */
function reference(existing, incoming) {
  const evidence = (value, normalise) => {
    if (value == null) return undefined;
    if (typeof value !== "string") return JSON.stringify([value]);
    return normalise(value.trim()) || undefined;
  };
  return [
    ["accountId", (text) => text],
    ["email", (text) => text.toLowerCase()],
  ].every(([field, normalise]) => {
    const kept = evidence(existing[field], normalise);
    return kept === undefined || kept === evidence(incoming[field], normalise);
  });
}

const SPACES = ["", "", "", " ", "\t", "\u00a0", "\ufeff", "\u2028", "\u3000", "\u0085", "\u200b", "\u180e", "\u001c"];
const PIECES = [
  ..."aAbBzZ09@.'’-·:",
  ..."ΣσςΑαİiıIßẞſKkéÉ",
  ..."\u0301\u0307\u0345\u00ad\u200d\u{1f600}",
  "\u{10400}\u{10428}",
  "Ǆǅǆ",
];
const NOT_TEXT = [undefined, null, 0, 1, -0, 1.5, true, false, [], ["a"], {}, { a: 1 }];

function identities(random) {
  const field = (base) => {
    switch (random.below(8)) {
      case 0:
        return undefined;
      case 1:
        return random.of(NOT_TEXT);
      case 2:
        return random.of(SPACES);
      case 3:
        return random.text(PIECES, 4);
      default: {
        // The same thing, said in another way.
        const cased = random.of([base, base, base.toLowerCase(), base.toUpperCase(), base.normalize("NFD")]);
        return `${random.of(SPACES)}${cased}${random.of(SPACES)}`;
      }
    }
  };
  const [accountId, email] = [random.text(PIECES, 5), random.text(PIECES, 5)];
  const identity = () => ({ accountId: field(accountId), email: field(email), other: random.below(3) });
  return [identity(), identity()];
}

function faultsOf(check) {
  const random = new Random(0x9a7e);
  const faults = [];
  for (let count = 0; count < PAIRS; count++) {
    const [existing, incoming] = identities(random);
    if (!check(existing, incoming)) faults.push(JSON.stringify({ existing, incoming }));
  }
  return faults;
}

test(`all ${vectors.length} rows of the table hold`, () => {
  expect(vectors.length).toBeGreaterThan(1_000);
  const wrong = vectors.filter(
    ({ existing, incoming, safe }) => isSafeToCopyOAuthIdentity(existing, incoming) !== safe,
  );
  expect(wrong).toEqual([]);
});

describe(`over ${PAIRS} generated pairs`, () => {
  test("the gate decides as the reference does", () => {
    let allowed = 0;
    const faults = faultsOf((existing, incoming) => {
      const expected = reference(existing, incoming);
      allowed += Number(expected);
      return isSafeToCopyOAuthIdentity(existing, incoming) === expected;
    });
    expect(faults).toEqual([]);
    // Pairs of one kind would show nothing.
    expect(allowed).toBeGreaterThan(PAIRS / 10);
    expect(allowed).toBeLessThan((PAIRS * 9) / 10);
  });

  test("an identity is safe to copy over itself", () => {
    expect(faultsOf((existing) => isSafeToCopyOAuthIdentity(existing, existing))).toEqual([]);
  });

  test("two different account ids are never accepted", () => {
    let pairs = 0;
    const faults = faultsOf((existing, incoming) => {
      const [one, other] = [existing.accountId, incoming.accountId];
      if (typeof one !== "string" || typeof other !== "string" || !one.trim() || one.trim() === other.trim())
        return true;
      pairs += 1;
      return !isSafeToCopyOAuthIdentity(existing, incoming);
    });
    expect(faults).toEqual([]);
    expect(pairs).toBeGreaterThan(1_000);
  });

  test("evidence is never let go", () => {
    let pairs = 0;
    const faults = faultsOf((existing, incoming) =>
      ["accountId", "email"].every((field) => {
        if (typeof existing[field] !== "string" || !existing[field].trim()) return true;
        pairs += 1;
        return [undefined, null, "", " \ufeff"].every(
          (nothing) => !isSafeToCopyOAuthIdentity(existing, { ...incoming, [field]: nothing }),
        );
      }),
    );
    expect(faults).toEqual([]);
    expect(pairs).toBeGreaterThan(1_000);
  });

  test("the answer is the same every time", () => {
    const first = [];
    faultsOf((existing, incoming) => first.push(isSafeToCopyOAuthIdentity(existing, incoming)));
    const again = first.values();
    expect(
      faultsOf((existing, incoming) => isSafeToCopyOAuthIdentity(existing, incoming) === again.next().value),
    ).toEqual([]);
  });
});

describe("for every character that this Node knows", () => {
  const characters = [];
  for (let code = 0; code <= LAST_CODE_POINT; code++) {
    const character = String.fromCodePoint(code);
    if (/\p{Assigned}/u.test(character) && !/\p{Surrogate}/u.test(character)) characters.push(character);
  }
  const hex = (text) => Array.from(text, (character) => character.codePointAt(0).toString(16)).join(" ");
  const agree = (one, other, expected) =>
    isSafeToCopyOAuthIdentity(one, other) === expected ? [] : [`${JSON.stringify([one, other])} is not ${expected}`];

  test("an e-mail address is lower-cased as toLowerCase() does", () => {
    let changed = 0;
    const faults = characters.flatMap((character) => {
      const upper = character.toUpperCase();
      const related = new Set([character.toLowerCase(), upper, upper.toLowerCase(), character.normalize("NFKC")]);
      related.delete(character);
      changed += related.size;
      return [...related].flatMap((other) => {
        const [one, two] = [`x${character}x`, `x${other}x`];
        return agree({ email: one }, { email: two }, one.toLowerCase() === two.toLowerCase()).map(
          (fault) => `${hex(character)}: ${fault}`,
        );
      });
    });
    expect(faults).toEqual([]);
    expect(changed).toBeGreaterThan(2_500);
  });

  test("an account id is trimmed as trim() does", () => {
    const faults = characters.flatMap((character) => {
      const padded = `${character}a${character}`;
      return agree({ accountId: padded }, { accountId: "a" }, padded.trim() === "a");
    });
    expect(faults).toEqual([]);
  });

  test("a value that trim() leaves nothing of counts as absent", () => {
    const blank = characters.filter((character) =>
      isSafeToCopyOAuthIdentity({ accountId: character, email: character }, {}),
    );
    expect(blank).toEqual(characters.filter((character) => character.trim() === ""));
  });
});

test("case is a difference in an account id", () => {
  expect(isSafeToCopyOAuthIdentity({ accountId: "Acct" }, { accountId: "acct" })).toBe(false);
});

test("a sigma at the end of a word is a final one", () => {
  expect(isSafeToCopyOAuthIdentity({ email: "ΟΔΥΣΣΕΥΣ@X" }, { email: "οδυσσευς@x" })).toBe(true);
  expect(isSafeToCopyOAuthIdentity({ email: "ΟΔΥΣΣΕΥΣ@X" }, { email: "οδυσσευσ@x" })).toBe(false);
});

describe("lock names", () => {
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
});

const { stale } = OAUTH_REFRESH_LOCK_OPTIONS;
/** As index.d.ts says of `timeoutMs`. */
const DEFAULT_PATIENCE_MS = 200_000;

test("the constants are OpenClaw's", () => {
  expect(OAUTH_REFRESH_CALL_TIMEOUT_MS).toBe(120_000);
  expect(OAUTH_REFRESH_LOCK_OPTIONS).toStrictEqual({
    retries: { retries: 20, factor: 2, minTimeout: 100, maxTimeout: 10_000, randomize: true },
    stale: 180_000,
  });
});

test("the constants cannot be changed", () => {
  expect(Object.isFrozen(OAUTH_REFRESH_LOCK_OPTIONS)).toBe(true);
  expect(Object.isFrozen(OAUTH_REFRESH_LOCK_OPTIONS.retries)).toBe(true);
});

test("a call is over well before its owner counts as stuck", () => {
  expect(OAUTH_REFRESH_CALL_TIMEOUT_MS).toBeLessThan(stale);
  expect(stale - OAUTH_REFRESH_CALL_TIMEOUT_MS).toBeGreaterThanOrEqual(30_000);
});

test("by default a provider call is aborted at the call timeout, not before", async () => {
  const host = createHost({ main: expired() });
  const { refresh, called } = held();
  const pass = stopClock();
  const result = withOAuthRefreshLock(PROVIDER, PROFILE, refresh, host.as("main"));
  const failed = typedRejection(result, "refresh_call_timeout");
  const { signal } = await called;
  pass(OAUTH_REFRESH_CALL_TIMEOUT_MS - 1);
  expect(signal.aborted).toBe(false);
  pass(1);
  expect(signal.reason).toBe(await failed);
});

test.each([
  [
    "withOAuthRefreshLock",
    (host, fn) => withOAuthRefreshLock(PROVIDER, PROFILE, fn, host.as("main", { serveUnexpired: false })),
  ],
  ["withOAuthProfileLock", (host, fn) => withOAuthProfileLock(PROVIDER, PROFILE, fn, { stateDir: host.stateDir })],
])("by default a waiter of %s outlasts the longest call and a stuck owner", async (_, call) => {
  const host = createHost({ main: expired() });
  const log = listen();
  const lock = await holdLock(await startAgent(), { options: { stateDir: host.stateDir } });
  const pass = stopClock();
  const fn = unwanted();
  const failed = typedRejection(call(host, fn), "file_lock_timeout");
  await log.seen({ type: "waiting" });
  const pending = vi.getTimerCount();
  pass(stale);
  expect(vi.getTimerCount()).toBe(pending);
  pass(DEFAULT_PATIENCE_MS - stale);
  await failed;
  expect(vi.getTimerCount()).toBe(pending - 1);
  await lock.release();
  expect(fn).not.toHaveBeenCalled();
});
