/** What the library refuses is an error of the doctor's, with the library's code; and what it takes is none. */
import { spawn, spawnSync } from "node:child_process";
import { chmodSync, chownSync, mkdirSync, rmSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";
import { resolveOAuthRefreshLockPath } from "oauth-refresh-lock";
import { describe, expect, onTestFinished, test } from "vitest";
import { createHost, expired, PROFILE, PROVIDER } from "../support/host.mjs";
import { cliJson } from "./cli.mjs";

const STRANGER = 12345;
const INDEX = pathToFileURL(join(import.meta.dirname, "..", "..", "index.mjs")).href;

/** A call by a user, in a process of its own: what comes of it. */
function call(host, uid) {
  const code = `
    import { withOAuthRefreshLock } from ${JSON.stringify(INDEX)};
    const [stateDir, agentDir] = process.argv.slice(1);
    const answer = () => ({ access: "a", refresh: "r", expires: Date.now() + 3_600_000 });
    const calling = withOAuthRefreshLock("${PROVIDER}", "${PROFILE}", answer, { stateDir, agentDir, mainAgentDir: agentDir });
    console.log(await calling.then(({ outcome }) => outcome, ({ code }) => code));`;
  const args = ["--input-type=module", "-e", code, host.stateDir, host.agentDir("main")];
  const { stdout, stderr } = spawnSync(process.execPath, args, { encoding: "utf8", uid, gid: uid });
  if (stdout === "") throw new Error(stderr);
  return stdout.trim();
}

/** The doctor's errors, by code and path. */
function errors(host, uid) {
  const { findings } = cliJson(["doctor", "--state-dir", host.stateDir], {}, uid);
  for (const { meaning, advice } of findings) for (const text of [meaning, advice]) expect(text).toMatch(/\.$/);
  return findings.filter(({ level }) => level === "error").map(({ code, path }) => ({ code, path }));
}

const store = (host) => host.storePath("main");
const locks = (host) => join(host.stateDir, "locks");
const keyLocks = (host) => join(locks(host), "oauth-refresh");
const lockFile = (host) => resolveOAuthRefreshLockPath(PROVIDER, PROFILE, { stateDir: host.stateDir });
const make = (path, mode = 0o700) => {
  mkdirSync(path, { recursive: true, mode: 0o700 });
  chmodSync(path, mode);
};
const instead = (host, put) => {
  make(keyLocks(host));
  put(lockFile(host));
};

/** [what, how, code, path] */
const CASES = [
  [
    "everyone may replace the state directory",
    (host) => chmodSync(host.stateDir, 0o777),
    "lock_unavailable",
    "stateDir",
  ],
  ["a store's locks are open to everyone", (host) => make(join(locks(host), "auth-store"), 0o777), "lock_unavailable"],
  [
    "no UTF-8",
    (host) => writeFileSync(store(host), Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x7d])),
    "store_invalid",
    "store",
  ],
  [
    "a profile that is text",
    (host) => host.seed("main", `{"profiles":{"${PROFILE}":"text"}}`),
    "store_invalid",
    "store",
  ],
  ["more than 64 MiB", (host) => truncateSync(store(host), (64 << 20) + 1), "store_too_large", "store"],
  [
    "a link to itself",
    (host) => {
      rmSync(store(host));
      symlinkSync(store(host), store(host));
    },
    "store_unreadable",
    "store",
  ],
  ["a directory for a lock file", (host) => instead(host, (path) => mkdirSync(path)), "lock_unavailable", "lockFile"],
  [
    "a link for a lock file",
    (host) => instead(host, (path) => symlinkSync("/nowhere", path)),
    "lock_unavailable",
    "lockFile",
  ],
  [
    "a FIFO for a lock file",
    (host) => instead(host, (path) => spawnSync("mkfifo", [path])),
    "lock_unavailable",
    "lockFile",
  ],
];

/** The same for a user who is not root, whose all of it is. */
const OF_A_USER = [
  ["an agent's directory is closed", (host) => chmodSync(host.agentDir("main"), 0), "store_unreadable", "store"],
  ["the store is closed", (host) => chmodSync(store(host), 0), "store_unreadable", "store"],
  ["all agents are closed", (host) => chmodSync(join(host.stateDir, "agents"), 0), "store_unreadable"],
  [
    "nothing can be written beside the store",
    (host) => chmodSync(host.agentDir("main"), 0o500),
    "store_unwritable",
    "store",
  ],
  ["nothing can be made in the state directory", (host) => chmodSync(host.stateDir, 0o500), "lock_unavailable"],
  [
    "the locks are closed",
    (host) => {
      make(keyLocks(host));
      spawnSync("chown", ["-R", `${STRANGER}`, locks(host)]);
      chmodSync(keyLocks(host), 0);
    },
    "lock_unavailable",
  ],
];

const OF_ROOT = [
  ["another user's store", (host) => chownSync(store(host), STRANGER, STRANGER), "store_unreadable", "store"],
  [
    "another user's locks",
    (host) => {
      make(locks(host));
      chownSync(locks(host), STRANGER, STRANGER);
    },
    "lock_unavailable",
  ],
];

const paths = (host) => ({ stateDir: host.stateDir, store: store(host), lockFile: lockFile(host) });

function refused(host, uid, code, name) {
  const found = errors(host, uid);
  expect(found).toContainEqual({ code, path: name === undefined ? expect.any(String) : paths(host)[name] });
  expect(call(host, uid)).toBe(code);
}

/** A process of another user's: what of root's is open to everyone is a volume as long as none is there. */
function somebodyElse() {
  if (process.geteuid() !== 0) return;
  const stranger = spawn(process.execPath, ["-e", "setInterval(() => {}, 1e9)"], { uid: STRANGER, gid: STRANGER });
  onTestFinished(() => void stranger.kill("SIGKILL"));
}

test.each(CASES)("%s", (_, spoil, code, name) => {
  somebodyElse();
  const host = createHost({ main: expired() });
  expect(errors(host)).toEqual([]);
  spoil(host);
  refused(host, undefined, code, name);
  // One odd entry hides nothing else.
  expect(cliJson(["status", "--state-dir", host.stateDir]).keys).toEqual(expect.any(Array));
});

describe.runIf(process.geteuid() === 0)("as root", () => {
  test.each(OF_ROOT)("%s", (_, spoil, code, name) => {
    const host = createHost({ main: expired() });
    spoil(host);
    refused(host, undefined, code, name);
  });

  test.each(OF_A_USER)("as a user: %s", (_, spoil, code, name) => {
    const host = createHost({ main: expired() });
    spawnSync("chown", ["-R", `${STRANGER}:${STRANGER}`, host.root]);
    expect(errors(host, STRANGER)).toEqual([]);
    spoil(host);
    refused(host, STRANGER, code, name);
  });

  test("a directory that root has given to a user's group works, and is no error", () => {
    const host = createHost({ main: expired() });
    spawnSync("chown", ["-R", `${STRANGER}:${STRANGER}`, host.root]);
    make(keyLocks(host));
    spawnSync("chown", [`${STRANGER}:${STRANGER}`, locks(host)]);
    for (const path of [dirname(store(host)), keyLocks(host)]) {
      chownSync(path, 0, STRANGER);
      chmodSync(path, 0o2770);
    }
    expect(errors(host, STRANGER)).toEqual([]);
    expect(call(host, STRANGER)).toBe("refreshed");
    expect(errors(host, STRANGER)).toEqual([]);
  });
});
