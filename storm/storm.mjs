/** `npm run storm`: many agents find the same expired login at once, and a real OAuth server counts their calls. */
import { parseArgs } from "node:util";
import { Agent } from "../__test__/support/agents.mjs";
import { expired, Host, PROFILE, storeText } from "../__test__/support/host.mjs";
import { startProvider } from "../__test__/support/oauth/provider.mjs";
import coordinators from "../lib/coordinators/postgres.js";
import { installed, missing, startEtcd, startPostgres } from "../scripts/hosts/engines.mjs";
import { drawTimeline } from "./timeline.mjs";

const { postgresSchema } = coordinators;

const HELP = `Usage: npm run storm -- [options]

Lets many agents find the same expired OAuth login at once, on a real OAuth 2.0
server whose refresh tokens are good for one use: a second use revokes the login.

  --agents N     how many agents, 1 to 200, in one process 1000 (default 20)
  --hosts N      spread over so many hosts, 1 to 20 (default 1): a state directory
                 each, and a PostgreSQL or etcd of its own between them, if one is
                 installed; with --no-lock, or --no-coordinator, nothing
  --no-coordinator  hosts that do not know of each other
  --in-process   all agents in one process, instead of a process each
  --latency MS   how long the server takes to answer a refresh, 0 to 60000
                 (default 200)
  --json         one JSON object on standard output, and nothing else
                 (with npm run --silent, for npm prints a line of its own)
  --no-lock      without oauth-refresh-lock, to see the storm
  --help         this text

Exit code: 0 if exactly one call was made, everyone was served the one token, the
login is alive and every store is in order; 1 if not; 2 for a bad option.
`;

function readOptions() {
  const flag = { type: "boolean", default: false };
  const number = (fallback) => ({ type: "string", default: fallback });
  const options = { "in-process": flag, json: flag, "no-lock": flag, help: flag };
  const { values } = parseArgs({
    options: { ...options, agents: number("20"), latency: number("200"), hosts: number("1"), "no-coordinator": flag },
  });
  const wholeNumber = (name, least, most) => {
    const value = /^\d{1,9}$/.test(values[name]) ? Number(values[name]) : Number.NaN;
    if (value >= least && value <= most) return value;
    throw new Error(`--${name} takes a whole number from ${least} to ${most}, not "${values[name]}"`);
  };
  const agents = wholeNumber("agents", 1, values["in-process"] ? 1000 : 200);
  return { ...values, agents, latency: wholeNumber("latency", 0, 60_000), hosts: wholeNumber("hosts", 1, 20) };
}

/** A new engine for the hosts, and what it is. */
async function startCoordinator() {
  if (installed.postgres) {
    const postgres = await startPostgres();
    postgres.sql(postgresSchema());
    return { url: postgres.url, name: "PostgreSQL", stop: () => postgres.stop() };
  }
  if (!installed.etcd) throw new Error(`--hosts needs an engine: ${missing("postgres")}, or ${missing("etcd")}`);
  const etcd = await startEtcd();
  return { url: etcd.url, name: "etcd", stop: () => etcd.stop() };
}

/** Lets the agents go, and tells when and how each was served, in milliseconds after the start. */
async function run(options, cleanUps) {
  const { agents: count, "in-process": inProcess, "no-lock": noLock, latency } = options;
  const isShared = options.hosts > 1 && !noLock && !options["no-coordinator"];
  const coordinator = isShared ? await startCoordinator() : undefined;
  if (coordinator) cleanUps.push(() => coordinator.stop());
  const provider = await startProvider({ latencyMs: latency });
  cleanUps.push(() => provider.close());
  const hosts = Array.from({ length: options.hosts }, () => new Host());
  for (const host of hosts) cleanUps.push(() => host.remove());
  const hostOf = (at) => hosts[at % hosts.length];
  const names = Array.from({ length: count }, (_, at) => `agent-${String(at + 1).padStart(3, "0")}`);
  const old = expired(await provider.obtainGrant().then(({ access, refresh }) => ({ access, refresh })));
  for (const host of hosts) host.seed("main", old);
  for (const [at, name] of names.entries()) hostOf(at).seed(name, old);

  const processes = Array.from({ length: inProcess ? 1 : count }, () => new Agent());
  for (const agent of processes) cleanUps.push(() => agent.kill());
  const { issuer, clientId } = provider;
  const calls = names.map((name, at) => {
    const agent = processes[at % processes.length];
    const request = {
      options: { ...hostOf(at).as(name), coordinator: coordinator?.url },
      server: { issuer, clientId },
      barrier: true,
    };
    const call = noLock ? agent.alone(request) : agent.refresh(request);
    // It need not ask us before it asks the server.
    call.answer();
    return { name, host: hostOf(at), agent, call };
  });
  await Promise.all(calls.map(({ call }) => call.ready));
  const start = Date.now();
  for (const { call } of calls) call.go();
  const agents = await Promise.all(
    calls.map(async ({ name, host, agent, call }) => {
      const [{ result, error }] = await call.settled;
      const endMs = Date.now() - start;
      const { events } = agent.log;
      const own = events.filter(({ agentDir }) => agentDir === host.agentDir(name));
      const outcome = error ? "failed" : (result?.outcome ?? "none");
      const told = own.map(({ type, at }) => ({ type, atMs: at - start }));
      return {
        name,
        outcome,
        code: error && (error.oauth ?? error.code ?? error.name),
        credential: result?.credential,
        endMs,
        events: told,
      };
    }),
  );
  const stats = provider.stats();
  const tokens = new Set(agents.map(({ credential }) => credential?.access).filter(Boolean));
  const { access, refresh, expires } = agents.find(({ outcome }) => outcome === "refreshed")?.credential ?? {};
  // Another host's expiry is what was left when it was told.
  const holds = (host, name) => {
    const stored = hosts.length > 1 ? JSON.parse(host.store(name)).profiles[PROFILE]?.expires : expires;
    return host.store(name) === storeText({ ...old, access, refresh, expires: stored });
  };
  const stores = [...hosts.map((host) => [host, "main"]), ...names.map((name, at) => [hostOf(at), name])];
  const wrong = noLock ? [] : stores.filter(([host, name]) => !holds(host, name)).map(([, name]) => name);
  const served = agents.filter(({ credential }) => credential).length;
  const faults = [
    stats.refreshCalls !== 1 && `the server counted ${stats.refreshCalls} calls, not 1`,
    stats.reuseErrors > 0 && `it refused a spent token ${stats.reuseErrors} times`,
    !provider.isGrantAlive(old.refresh) && "it revoked the login",
    tokens.size !== 1 && `the agents were given ${tokens.size} different tokens, not 1`,
    served !== count && `${count - served} of ${count} agents were not served`,
    wrong.length > 0 && `the stores of ${wrong.join(", ")} are not as they should be`,
  ].filter(Boolean);
  return {
    ok: faults.length === 0,
    coordinator: coordinator?.name,
    faults,
    lastMs: Math.max(...agents.map(({ endMs }) => endMs)),
    calls: stats.calls.map(({ start: from, end = from, answer }) => ({
      startMs: from - start,
      endMs: end - start,
      answer,
    })),
    agents: agents.map(({ credential: _, ...agent }) => agent),
  };
}

function tell({ agents, hosts, latency, "in-process": inProcess, "no-lock": noLock }, report) {
  const among = hosts > 1 ? ` on ${hosts} hosts (${report.coordinator ?? "no coordinator"})` : "";
  const where = `${inProcess ? "in one process" : "in a process each"}${among}`;
  console.log(
    `${agents} agents ${where}, ${noLock ? "WITHOUT" : "with"} the lock; the server answers in ${latency} ms\n`,
  );
  console.log(drawTimeline(report, { columns: Math.min(80, process.stdout.columns || 80) }));
  console.log(`\nthe last agent after ${report.lastMs} ms`);
  console.log(
    report.ok ? "One call, one token, everyone served." : report.faults.map((fault) => `- ${fault}`).join("\n"),
  );
}

let options;
try {
  options = readOptions();
} catch (error) {
  console.error(`storm: ${error.message} (see --help)`);
  process.exit(2);
}
if (options.help) console.log(HELP);
else {
  const cleanUps = [];
  const cleanUp = async () => {
    for (const end of cleanUps.reverse()) await end();
  };
  for (const [signal, code] of [
    ["SIGHUP", 129],
    ["SIGINT", 130],
    ["SIGTERM", 143],
  ]) {
    process.once(signal, () => void cleanUp().then(() => process.exit(code)));
  }
  try {
    const report = await run(options, cleanUps);
    if (options.json) console.log(JSON.stringify(report));
    else tell(options, report);
    process.exitCode = report.ok ? 0 : 1;
  } finally {
    await cleanUp();
  }
}
