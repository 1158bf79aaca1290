// The rules that JavaScript knows too, for hosts without the addon, beside the core's.
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { Random } from "./support/random.mjs";

const require = createRequire(import.meta.url);
const core = require("../lib/native.js").native();
const here = require("../lib/without-addon.js");
const read = (name) => JSON.parse(readFileSync(new URL(`vectors/${name}.json`, import.meta.url), "utf8"));
const ROUNDS = 30_000;

const SPACES = ["", "", " ", "\t", "\u00a0", "\ufeff", "\u0085"];
const TEXTS = ["a", "A", "É", "e\u0301", "İ", "ΑΣ", "ς", "ß", "a@b", "\ud800", ""];
const NOT_TEXT = [undefined, null, 0, 1, 1.5, true, [], ["a"], { a: 1, b: 2 }, { b: 2, a: 1 }];
const URLS = ["https://ghe.acme.test/", "GHE.acme.test", "http://ghe.acme.test//", "github.com", "https://", "/"];
const INSTANTS = [undefined, null, "1", -1, 0, 1, 2.5, 8.64e15, 8.64e15 + 2, 1e300];

function credentials(random) {
  const text = (texts) => `${random.of(SPACES)}${random.of(texts)}${random.of(SPACES)}`;
  const field = (texts) => (random.below(4) === 0 ? random.of(NOT_TEXT) : text(texts));
  const rarely = (value) => (random.below(3) === 0 ? value : undefined);
  return {
    type: random.of(["oauth", "oauth", "oauth", "oauth", "api_key", undefined, 1]),
    mode: random.of([undefined, "oauth", "token"]),
    provider: random.of(["acme", "acme", "acme", "other", undefined, 1]),
    accountId: rarely(field(TEXTS)),
    email: rarely(field(TEXTS)),
    projectId: rarely(field(TEXTS)),
    enterpriseUrl: rarely(field(URLS)),
    expires: random.of(INSTANTS),
  };
}

test("every row of the table of the identity gate holds", () => {
  const wrong = read("identity-gate").filter(
    ({ existing, incoming, safe }) => here.isSafeToCopy(JSON.stringify(existing), JSON.stringify(incoming)) !== safe,
  );
  expect(wrong).toEqual([]);
});

test("every golden name of a lock holds", () => {
  const wrong = read("lock-names").filter(
    ({ provider, profileId, name }) =>
      here.lockPath(provider, profileId, "/state") !== join("/state/locks/oauth-refresh", name),
  );
  expect(wrong).toEqual([]);
});

test("the gate and the mirror decision are the core's", () => {
  const random = new Random(0x6a7e);
  const reasons = new Set();
  for (let round = 0; round < ROUNDS; round += 1) {
    const pair = [JSON.stringify(credentials(random)), JSON.stringify(credentials(random))];
    expect(here.isSafeToCopy(...pair), pair.join()).toBe(core.isSafeToCopy(...pair));
    const decision = core.mirrorDecision(...pair);
    expect(here.mirrorDecision(...pair), pair.join()).toEqual(decision);
    reasons.add(decision?.reason);
  }
  // Every reason that two credentials alone give, but that there is none yet; and no decision on what is no login.
  expect([...reasons].sort()).toEqual([
    "identity-mismatch-or-regression",
    "incoming-fresher",
    "incoming-not-fresher",
    "invalid-incoming-expiry",
    "non-oauth-existing-credential",
    "provider-mismatch",
    "tenant-mismatch",
    undefined,
  ]);
  const login = JSON.stringify({ type: "oauth", expires: 1 });
  for (const given of [undefined, "1", "[]"]) {
    expect(here.mirrorDecision(given, login)).toEqual(core.mirrorDecision(given, login));
    expect(here.isSafeToCopy(given ?? "null", login)).toBe(false);
  }
});

test("a lock's path is the core's, whatever the surroundings say", () => {
  const random = new Random(0xb0a7);
  const home = mkdtempSync(join(tmpdir(), "oauth-refresh-lock-homes-"));
  try {
    for (const name of ["both/.openclaw", "both/.clawdbot", "legacy/.clawdbot"])
      mkdirSync(join(home, name), { recursive: true });
    const homes = ["both", "legacy", "neither"].map((name) => join(home, name));
    const set = () =>
      random.of([
        undefined,
        undefined,
        "",
        "  ",
        "undefined",
        "null",
        ...homes,
        ` ${homes[0]} `,
        "~",
        "~/x",
        "~\\x",
        "~x",
        "rel/../y",
        "/a/./b//c/..",
      ]);
    const paths = new Set();
    for (let round = 0; round < 5_000; round += 1) {
      const surroundings = {
        openclawStateDir: random.below(2) === 0 ? undefined : set(),
        openclawHome: set(),
        home: set(),
        userProfile: set(),
        osHome: random.of(homes),
        workingDir: home,
      };
      const told = JSON.stringify(surroundings);
      const path = core.lockPath("acme", "acme:default", undefined, surroundings);
      expect(here.lockPath("acme", "acme:default", undefined, surroundings), told).toBe(path);
      paths.add(path);
    }
    expect(paths.size).toBeGreaterThan(10);
    for (const given of ["/a/b/../c/./d/", "/a//b", "/"])
      expect(here.lockPath("p", "x", given)).toBe(core.lockPath("p", "x", given));
  } finally {
    rmSync(home, { recursive: true });
  }
});
