/** `storm`: processes that share one expired login, in a temporary directory, against a provider of our own. */
import { fork } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { fileURLToPath, pathToFileURL } from "node:url";
import { coordinatorOf } from "./coordinator.mjs";
import { Grant, startProvider } from "./provider.mjs";
import { refusal } from "./refusal.mjs";
import { STORE_FILE, survey } from "./state.mjs";
import { duration, paint, say, sayJson } from "./terminal.mjs";
import { drawTimeline } from "./timeline.mjs";

const AGENT = fileURLToPath(new URL("storm-agent.mjs", import.meta.url));
const PROVIDER = "storm";
const PROFILE = "storm:default";
const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"];

/**
 * The provider of a storm. Another module that exports the same can take its place, `--provider`; it may also start what hosts share
 * the login by, as `startStormCoordinator`.
 *
 * @param {number} latencyMs how long an answer takes
 */
export async function startStormProvider(latencyMs) {
  // A coordinator remembers the tokens of earlier storms.
  const id = randomUUID();
  const grant = new Grant((count) => ({ access: `access-${id}-${count}`, refresh: `refresh-${id}-${count}` }));
  const calls = [];
  const { url, close } = await startProvider(async (sent) => {
    const call = { start: Date.now(), end: Number.POSITIVE_INFINITY };
    calls.push(call);
    const answer = grant.exchange(sent.get("refresh_token"));
    await pause(latencyMs);
    call.end = Date.now();
    return answer;
  });
  return {
    url,
    refreshToken: grant.newest.refresh,
    stats: () => ({ calls, reused: grant.reused, revoked: grant.isRevoked }),
    isNewest: (access) => access === grant.newest.access,
    close,
  };
}

/** @returns {Promise<boolean>} whether one call served everyone */
export async function storm({ processes: count, hosts, latency, lock, json, provider: module, ...options }) {
  const { coordinator: url } = coordinatorOf(options);
  const children = [];
  let stateDir;
  let coordinator;
  let provider;
  const clear = () => {
    for (const { child } of children) child.kill("SIGKILL");
    if (stateDir) rmSync(stateDir, { recursive: true, force: true, maxRetries: 10 });
  };
  const interrupted = SIGNALS.map((signal) => [signal, () => void interrupt(signal, clear, coordinator)]);
  for (const [signal, listener] of interrupted) process.once(signal, listener);
  process.once("exit", clear);
  stateDir = mkdtempSync(join(tmpdir(), "oauth-refresh-lock-storm-"));
  try {
    // Without the addon, or with a coordinator that can't be used, this fails at once: every agent would.
    const { coordinator: engine } = await survey(stateDir, options);
    if (engine?.problem) throw refusal(engine.problem.code, `${engine.problem.message}.`);
    const starter = module ? await import(pathToFileURL(resolve(module)).href) : { startStormProvider };
    if (lock && url) coordinator = { url };
    else if (lock && hosts > 1) coordinator = await starter.startStormCoordinator?.();
    provider = await starter.startStormProvider(latency);
    const agents = Array.from({ length: count }, (_, at) => {
      const host = hosts > 1 ? join(stateDir, `host-${(at % hosts) + 1}`) : stateDir;
      return { name: `agent-${at + 1}`, host };
    });
    const report = await play({ agents, coordinator: coordinator?.url, lock, provider, children });
    const { agents: settled, ...rest } = report;
    const place =
      hosts > 1 ? { hosts, coordinator: coordinator ? new URL(coordinator.url).protocol.slice(0, -1) : null } : {};
    const summary = { processes: count, ...place, lock, latencyMs: latency, ...rest, calls: rest.calls.length };
    if (json) sayJson({ ...summary, agents: settled.map(({ events: _, ...agent }) => agent) });
    else tell(summary, report);
    return isWell(summary);
  } finally {
    for (const { child } of children) child.kill("SIGKILL");
    await Promise.all(children.map(({ gone }) => gone));
    await provider?.close();
    await coordinator?.stop?.();
    clear();
    process.off("exit", clear);
    for (const [signal, listener] of interrupted) process.off(signal, listener);
  }
}

const isWell = ({ processes, calls, fresh, stored }) => calls === 1 && fresh === processes && stored === processes;

/** Lets the agents go, and tells what became of them, in milliseconds from the start. */
async function play({ agents: began, coordinator, lock, provider, children }) {
  const agentDir = ({ host, name }) => join(host, "agents", name, "agent");
  const mains = [...new Set(began.map(({ host }) => host))].map((host) => ({ host, name: "main" }));
  for (const agent of [...mains, ...began]) write(agentDir(agent), provider.refreshToken);
  for (const agent of began) children.push({ ...agent, ...start(agent.name) });
  await Promise.all(children.map(({ ready }) => ready));
  const begun = Date.now();
  const work = { provider: PROVIDER, profileId: PROFILE, url: provider.url, lock, coordinator };
  const settled = await Promise.all(
    children.map(async ({ name, host, child, settled }) => {
      const mainAgentDir = agentDir({ host, name: "main" });
      child.send({ ...work, stateDir: host, mainAgentDir, agentDir: agentDir({ host, name }) });
      return { name, ...(await settled), ms: Date.now() - begun };
    }),
  );
  const agents = settled.map(({ name, outcome, access, code, events, ms }) => {
    const isFresh = access !== undefined && provider.isNewest(access);
    const told = events.map(({ type, at }) => ({ type, atMs: at - begun }));
    return { name, outcome: isFresh || code ? outcome : "lost", code, ms, isFresh, events: told };
  });
  const { calls, reused, revoked } = provider.stats();
  return {
    agents,
    calls: calls.map(({ start, end }) => ({ startMs: start - begun, endMs: end - begun })),
    reused,
    revoked,
    fresh: agents.filter(({ isFresh }) => isFresh).length,
    stored: began.filter((agent) => provider.isNewest(storedAccess(agentDir(agent)))).length,
    lastMs: Math.max(...agents.map(({ ms }) => ms)),
  };
}

/** Leaves nothing behind, then ends as if the signal had not been listened to. */
async function interrupt(signal, clear, coordinator) {
  clear();
  await coordinator?.stop?.();
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
  return { child, gone, ready, settled };
}

function tell(summary, report) {
  const { processes, hosts, coordinator, lock, latencyMs, calls, reused, revoked, fresh, stored, lastMs } = summary;
  say(`${processes} processes, one expired login, a provider that takes ${latencyMs} ms`);
  if (hosts)
    say(`on ${hosts} hosts ${coordinator ? `that share it by ${coordinator}` : "that do not know of each other"}`);
  if (!lock) say("and without this package");
  say("");
  say(drawTimeline(report, Math.min(80, process.stdout.columns || 80)));
  say("");
  const spent = reused > 0 ? ` (${reused} with a spent token)` : "";
  say(`${calls} call${calls === 1 ? "" : "s"} to the provider${spent}`);
  say(`${fresh} of ${processes} agents have its newest token, ${stored} have it in their store`);
  if (revoked) say(paint("red", "The provider took that for theft and revoked the login: log in again."));
  const verdict = isWell(summary) ? paint("green", "well") : paint("red", "a storm");
  say(`${verdict}: the last agent after ${duration(lastMs)}`);
}
