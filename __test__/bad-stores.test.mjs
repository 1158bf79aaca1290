/** Stores and lock files that can't be used, or aren't what they should be: the reason is told, and nothing is changed. */
import { spawnSync } from "node:child_process";
import { chmodSync, chownSync, mkdirSync, rmSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, expect, test } from "vitest";
import { resolveOAuthRefreshLockPath, withOAuthProfileLock } from "../index.mjs";
import { startAgent } from "./support/agents.mjs";
import { refreshAs, typedRejection, unwanted } from "./support/calls.mjs";
import {
  answer,
  createHost,
  expired,
  PROFILE,
  PROVIDER,
  storeText,
  storeTextWithout,
  usable,
} from "./support/host.mjs";
import { copyPackage } from "./support/package-copy.mjs";
import { token, toldBy } from "./support/secrets.mjs";

const NOBODY = 65_534;
const isRoot = process.getuid() === 0;

/** How a store can be bad, and what is said then. `undefined` stands for no store. */
const BAD_STORES = [
  ["is empty", "store_invalid", ""],
  ["is blank", "store_invalid", " \n"],
  ["is torn", "store_invalid", () => storeText(expired()).slice(0, 500)],
  ["is torn at the end", "store_invalid", () => storeText(expired()).slice(0, -3)],
  ["is no JSON", "store_invalid", () => `profiles: ${token("yaml")}`],
  ["is followed by garbage", "store_invalid", () => `${storeText(expired())}${token("garbage")}`],
  ["is an array", "store_invalid", () => JSON.stringify([expired()])],
  ["is text", "store_invalid", () => JSON.stringify(token("json-text"))],
  ["is a number", "store_invalid", "1"],
  ["is null", "store_invalid", "null"],
  ["has an array for profiles", "store_invalid", () => JSON.stringify({ profiles: [expired()] })],
  ["has null for profiles", "store_invalid", `{"profiles": null}`],
  ["has text for the profile", "store_invalid", () => storeText(JSON.stringify(token("profile")))],
  ["has null for the profile", "store_invalid", () => storeText("null")],
  ["has an array for the profile", "store_invalid", () => storeText(JSON.stringify([expired()]))],
  [
    "is no UTF-8",
    "store_invalid",
    (path) => writeFileSync(path, Buffer.from(storeText(expired({ displayName: "\u00e9" })), "latin1")),
  ],
  ["is 100 MB long", "store_too_large", (path) => truncateSync(path, 100_000_000)],
  ["is a directory", "store_unreadable", (path) => replaced(path, () => mkdirSync(path))],
  ["is a loop of links", "store_unreadable", (path) => replaced(path, () => symlinkSync(path, path))],
  [
    "is a long loop of links",
    "store_unreadable",
    (path) =>
      replaced(path, () => {
        symlinkSync(`${path}.1`, path);
        symlinkSync(`${path}.2`, `${path}.1`);
        symlinkSync(path, `${path}.2`);
      }),
  ],
  ["is a pipe", "store_unreadable", (path) => replaced(path, () => expect(spawnSync("mkfifo", [path]).status).toBe(0))],
  ["is a device", "store_unreadable", (path) => replaced(path, () => symlinkSync("/dev/null", path))],
  [
    "lies in a file",
    "store_unreadable",
    (path) => {
      rmSync(dirname(path), { recursive: true });
      writeFileSync(dirname(path), "no directory");
    },
  ],
  [
    "belongs to another user",
    "store_unreadable",
    (path) => (isRoot ? chownSync(path, NOBODY, NOBODY) : replaced(path, () => symlinkSync("/etc/passwd", path))),
  ],
  ["has SQLite beside it", "sqlite_store", (path) => writeFileSync(join(dirname(path), "openclaw-agent.sqlite"), "")],
];

function replaced(path, replace) {
  rmSync(path);
  replace();
}

/** Writes a bad store in place of the agent's, which is in order and expired. */
function spoil(host, agent, bad) {
  const text = typeof bad === "function" ? bad(host.storePath(agent)) : bad;
  if (typeof text === "string") host.seed(agent, text);
}

describe("a store is refused, with the reason, and nothing is changed", () => {
  async function expectRefused(host, code, agent, where) {
    const before = host.tree({ locks: false });
    const refresh = unwanted();
    const error = await typedRejection(refreshAs(host, agent, refresh), code);
    expect(error.path).toBe(where);
    expect(error.message).toContain(where);
    expect(refresh).not.toHaveBeenCalled();
    expect(host.tree({ locks: false })).toEqual(before);
    expect(await withOAuthProfileLock(PROVIDER, PROFILE, () => "free", { stateDir: host.stateDir })).toBe("free");
  }

  // Main's is looked at before the provider is asked: peers that read it would send the token that we spend.
  describe.each([
    ["the main agent's", { main: expired() }, "main", "main"],
    ["a sub-agent's", { main: usable(), sub: expired() }, "sub", "sub"],
    ["main's when a sub-agent would refresh", { main: expired(), sub: expired() }, "sub", "main"],
    ["main's when a sub-agent would inherit", { main: expired(), sub: storeTextWithout() }, "sub", "main"],
  ])("if %s", (_, stores, agent, spoilt) => {
    test.each(BAD_STORES)("%s: %s", async (_, code, bad) => {
      const host = createHost(stores);
      spoil(host, spoilt, bad);
      const where =
        code === "sqlite_store" ? join(host.agentDir(spoilt), "openclaw-agent.sqlite") : host.storePath(spoilt);
      await expectRefused(host, code, agent, where);
    });
  });

  test("if the whole state is of the SQLite era, store or no store", async () => {
    for (const stores of [{}, { main: expired() }, { main: usable() }]) {
      const host = createHost(stores);
      const database = join(host.stateDir, "state", "openclaw.sqlite");
      mkdirSync(dirname(database));
      writeFileSync(database, "");
      await expectRefused(host, "sqlite_store", "main", database);
    }
  });

  test("if the profile in it is another provider's than the call says", async () => {
    for (const credential of [
      expired({ provider: "other" }),
      usable({ provider: "other" }),
      usable({ provider: undefined }),
    ]) {
      const host = createHost({ main: credential });
      await expectRefused(host, "provider_mismatch", "main", host.storePath("main"));
    }
  });

  test("if the inherited profile is another provider's than the call says", async () => {
    const host = createHost({ main: usable({ provider: "other" }), sub: storeTextWithout() });
    await expectRefused(host, "provider_mismatch", "sub", host.storePath("main"));
  });

  test("if this user may not read it", async () => {
    const host = createHost({ main: expired() });
    chmodSync(host.storePath("main"), 0);
    if (!isRoot) {
      await expectRefused(host, "store_unreadable", "main", host.storePath("main"));
      return;
    }
    // Root may read anything, so somebody else has to try.
    for (const path of Object.keys(host.tree())) chownSync(join(host.root, path), NOBODY, NOBODY);
    chownSync(host.root, NOBODY, NOBODY);
    const before = host.tree();
    const agent = await startAgent({
      uid: NOBODY,
      script: join(copyPackage({ tests: true }), "__test__", "support", "agent.mjs"),
    });
    const asked = agent.refresh({ options: host.as("main") });
    const [{ error }] = await asked.settled;
    expect(error).toMatchObject({
      name: "OAuthRefreshLockError",
      code: "store_unreadable",
      path: host.storePath("main"),
    });
    expect(asked.calls).toEqual([]);
    expect(host.tree()).toEqual(before);
  });
});

describe("a store that is not there is none", () => {
  test.each([
    ["a dangling link", (path) => symlinkSync(join(dirname(path), "nothing"), path)],
    [
      "a dangling chain of links",
      (path) => {
        symlinkSync(`${path}.1`, path);
        symlinkSync(`${path}.2`, `${path}.1`);
      },
    ],
  ])("%s", async (_, link) => {
    const host = createHost({ main: expired(), sub: expired() });
    replaced(host.storePath("main"), () => link(host.storePath("main")));
    const before = host.tree();
    expect(await refreshAs(host, "main", unwanted())).toBeNull();
    expect(host.tree()).toEqual(before);
  });
});

test("a store that cannot be written after all is told, without the token", async () => {
  const old = expired();
  const host = createHost({ main: old });
  const fields = answer();
  const refresh = () => {
    host.block("main");
    return fields;
  };
  const { outcome, credential, notSaved } = await refreshAs(host, "main", refresh);
  expect({ outcome, credential }).toEqual({ outcome: "refreshed", credential: { ...old, ...fields } });
  expect(notSaved).toEqual({ code: "store_unwritable", message: expect.stringContaining(host.storePath("main")) });
  expect(toldBy(new Error(notSaved.message))).toEqual([]);
  expect(host.store("main")).toBe(storeText(old));
});

describe("a lock file that cannot be used is told, and the provider is not asked", () => {
  test.each([
    ["is a directory", (path) => mkdirSync(path, { recursive: true })],
    [
      "is a link",
      (path) => {
        mkdirSync(dirname(path), { recursive: true });
        writeFileSync(`${path}.real`, "");
        symlinkSync(`${path}.real`, path);
      },
    ],
    [
      "is a pipe",
      (path) => {
        mkdirSync(dirname(path), { recursive: true });
        expect(spawnSync("mkfifo", [path]).status).toBe(0);
      },
    ],
    [
      "has a file for its directory",
      (path) => {
        mkdirSync(dirname(dirname(path)), { recursive: true });
        writeFileSync(dirname(path), "");
      },
    ],
  ])("%s", async (_, obstruct) => {
    const host = createHost({ main: expired() });
    const path = resolveOAuthRefreshLockPath(PROVIDER, PROFILE, { stateDir: host.stateDir });
    obstruct(path);
    const before = host.tree();
    const fn = unwanted();
    for (const start of [
      () => refreshAs(host, "main", fn),
      () => withOAuthProfileLock(PROVIDER, PROFILE, fn, { stateDir: host.stateDir }),
    ]) {
      const error = await typedRejection(start(), "lock_unavailable");
      expect([path, dirname(path)]).toContain(error.path);
      expect(error.message).toContain(error.path);
    }
    expect(fn).not.toHaveBeenCalled();
    expect(host.tree()).toEqual(before);
  });
});

test("the helper that looks for secrets finds them", () => {
  const secret = token("found");
  const hidden = new Error("nothing");
  Object.defineProperty(hidden, "hidden", { value: { deep: [secret] } });
  for (const error of [new Error(`a ${secret}`), Object.assign(new Error(), { secret }), hidden]) {
    expect(toldBy(error)).toEqual([secret]);
  }
  expect(toldBy(new Error("nothing", { cause: secret }))).toEqual([]);
});
