/** `storm`: processes that share one expired login, in a temporary directory, against a provider of our own. */
import { fork } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { performance } from "node:perf_hooks";
import { fileURLToPath } from "node:url";
import { inspectOAuthRefreshLocks } from "../index.mjs";
import { startProvider } from "./provider.mjs";
import { STORE_FILE } from "./state.mjs";
import { duration, paint, say, sayJson, table } from "./terminal.mjs";

const AGENT = fileURLToPath(new URL("storm-agent.mjs", import.meta.url));
const PROVIDER = "storm";
const PROFILE = "storm:default";
const BAR = 40;
const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"];

/** @returns {Promise<boolean>} whether one call served everyone */
export async function storm({ processes: count, latency, lock, json }) {
  const children = [];
  let stateDir;
  const clear = () => {
    for (const { child } of children) child.kill("SIGKILL");
    if (stateDir) rmSync(stateDir, { recursive: true, force: true, maxRetries: 10 });
  };
  const interrupted = SIGNALS.map((signal) => [signal, () => interrupt(signal, clear)]);
  for (const [signal, listener] of interrupted) process.once(signal, listener);
  process.once("exit", clear);
  stateDir = mkdtempSync(join(tmpdir(), "oauth-refresh-lock-storm-"));
  // Without the addon this fails at once: every agent would.
  await inspectOAuthRefreshLocks({ stateDir });
  const provider = await startProvider(latency);
  try {
    const agentDir = (name) => join(stateDir, "agents", name, "agent");
    const names = Array.from({ length: count }, (_, at) => `agent-${at + 1}`);
    for (const name of ["main", ...names]) write(agentDir(name), provider.refreshToken);
    for (const name of names) children.push(start(name));
    await Promise.all(children.map(({ ready }) => ready));
    const begun = performance.now();
    const options = { stateDir, mainAgentDir: agentDir("main") };
    const agents = await Promise.all(
      children.map(async ({ name, child, settled }) => {
        child.send({
          provider: PROVIDER,
          profileId: PROFILE,
          url: provider.url,
          lock,
          ...options,
          agentDir: agentDir(name),
        });
        const { outcome, access, code } = await settled;
        const isFresh = access !== undefined && access === provider.stats.accessToken;
        return { name, outcome: isFresh || code ? outcome : "lost", code, ms: performance.now() - begun, isFresh };
      }),
    );
    const { calls, reused, revoked } = provider.stats;
    const fresh = agents.filter(({ isFresh }) => isFresh).length;
    const last = Math.max(...agents.map(({ ms }) => ms));
    const stored = names.filter((name) => storedAccess(agentDir(name)) === provider.stats.accessToken).length;
    const report = {
      processes: count,
      lock,
      latencyMs: latency,
      calls,
      reused,
      revoked,
      fresh,
      stored,
      lastMs: Math.round(last),
    };
    if (json) sayJson({ ...report, agents: agents.map(({ ms, ...agent }) => ({ ...agent, ms: Math.round(ms) })) });
    else tell(report, agents);
    return calls === 1 && fresh === count && stored === count;
  } finally {
    for (const { child } of children) child.kill("SIGKILL");
    await Promise.all(children.map(({ gone }) => gone));
    provider.close();
    clear();
    process.off("exit", clear);
    for (const [signal, listener] of interrupted) process.off(signal, listener);
  }
}

/** Leaves nothing behind, then ends as if the signal had not been listened to. */
function interrupt(signal, clear) {
  clear();
  process.kill(process.pid, signal);
}

function write(directory, refresh) {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const credential = { type: "oauth", provider: PROVIDER, access: "expired", refresh, expires: Date.now() - 60_000 };
  const store = { version: 1, profiles: { [PROFILE]: { ...credential, accountId: "demonstration" } } };
  writeFileSync(join(directory, STORE_FILE), `${JSON.stringify(store, null, 2)}\n`, { mode: 0o600 });
}

const storedAccess = (directory) =>
  JSON.parse(readFileSync(join(directory, STORE_FILE), "utf8")).profiles[PROFILE].access;

function start(name) {
  const child = fork(AGENT, { stdio: ["ignore", "ignore", "ignore", "ipc"] });
  const gone = once(child, "exit");
  const message = async (what) => {
    const [said] = await Promise.race([once(child, "message"), gone.then(() => [undefined])]);
    if (said === undefined) throw new Error(`${name} ended before it was ${what}`);
    return said;
  };
  const ready = message("ready");
  const settled = ready.then(() => message("served"));
  settled.catch(() => {});
  return { name, child, gone, ready, settled };
}

function tell({ processes, lock, latencyMs, calls, reused, revoked, fresh, stored, lastMs }, agents) {
  say(`${processes} processes, one expired login, a provider that takes ${latencyMs} ms`);
  if (!lock) say("and without this package");
  say("");
  const scale = BAR / lastMs;
  const rows = agents
    .toSorted((one, other) => one.ms - other.ms)
    .map(({ name, outcome, code, ms }) => [
      name,
      code ?? outcome,
      `${Math.round(ms)} ms`,
      "▇".repeat(Math.max(1, Math.round(ms * scale))),
    ]);
  say(table(["AGENT", "GOT", "AFTER", ""], rows, [10, 14, 8, BAR]));
  say("");
  const isWell = calls === 1 && fresh === processes && stored === processes;
  const spent = reused > 0 ? ` (${reused} with a spent token)` : "";
  say(`${calls} call${calls === 1 ? "" : "s"} to the provider${spent}`);
  say(`${fresh} of ${processes} agents have its newest token, ${stored} have it in their store`);
  if (revoked) say(paint("red", "The provider took that for theft and revoked the login: log in again."));
  say(`${paint(isWell ? "green" : "red", isWell ? "well" : "a storm")}: the last agent after ${duration(lastMs)}`);
}
