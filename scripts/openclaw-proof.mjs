// Runs OpenClaw's own releases from npm, before and after a maintainer's diff, with many processes that share one expired login
// and a provider on loopback. Half a gigabyte is installed below target/ at the first run.
import { fork, spawnSync } from "node:child_process";
import { once } from "node:events";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { performance } from "node:perf_hooks";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { nodeBinary } from "./fetch.mjs";
import { apply, RELEASES } from "./openclaw/releases.mjs";

const HELP = `Usage: npm run openclaw -- [options]

  --processes N    agents, a process each (default 20)
  --rounds N       of each variant (default 5)
  --latency MS     how long the provider takes (default 200)
  --release V      may be repeated (default all)
  --node MAJOR     may be repeated (default all that a release takes)
`;
const { values } = parseArgs({
  options: {
    processes: { type: "string", default: "20" },
    rounds: { type: "string", default: "5" },
    latency: { type: "string", default: "200" },
    release: { type: "string", multiple: true, default: RELEASES.map(({ version }) => version) },
    node: { type: "string", multiple: true, default: ["22", "24"] },
    help: { type: "boolean" },
  },
});
if (values.help) {
  process.stdout.write(HELP);
  process.exit();
}
const [processes, rounds, latency] = [values.processes, values.rounds, values.latency].map(Number);

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const AGENT = join(root, "scripts", "openclaw", "agent.mjs");

const tell = (text) => process.stderr.write(`${text}\n`);

/** Installs a release, and this package beside it as npm would. */
function install({ version, overrides }) {
  const directory = join(root, "target", "openclaw", version);
  const modules = join(directory, "node_modules");
  if (!existsSync(join(modules, "openclaw"))) {
    tell(`installing openclaw@${version}`);
    mkdirSync(directory, { recursive: true });
    const manifest = { name: "proof", private: true, dependencies: { openclaw: version }, overrides };
    writeFileSync(join(directory, "package.json"), JSON.stringify(manifest));
    const args = ["install", "--ignore-scripts", "--omit=optional", "--no-audit", "--no-fund", "--loglevel=error"];
    const { status } = spawnSync("npm", args, { cwd: directory, stdio: ["ignore", 2, 2] });
    if (status !== 0) throw new Error(`npm could not install openclaw@${version}`);
  }
  const { name, files } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  const addons = readdirSync(root).filter((file) => file.endsWith(".node"));
  for (const file of ["package.json", ...files, ...addons]) {
    cpSync(join(root, file), join(modules, name, file), { recursive: true });
  }
  return join(modules, "openclaw");
}

/** The bundle that holds the refresh, as it was published; its original is kept beside it. */
function bundle(openclaw, mark) {
  const dist = join(openclaw, "dist");
  const kept = join(dist, ".unchanged");
  if (existsSync(kept))
    return {
      path: join(dist, readFileSync(join(kept, "name"), "utf8")),
      text: readFileSync(join(kept, "text"), "utf8"),
    };
  const found = readdirSync(dist).filter(
    (name) => /\.m?js$/.test(name) && readFileSync(join(dist, name), "utf8").includes(mark),
  );
  if (found.length !== 1) throw new Error(`${found.length} files of ${dist} have: ${mark}`);
  const path = join(dist, found[0]);
  const text = readFileSync(path, "utf8");
  mkdirSync(kept);
  writeFileSync(join(kept, "text"), text);
  writeFileSync(join(kept, "name"), found[0]);
  return { path, text };
}

const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
/** A JWT as Codex has it; nobody checks its signature. */
const accessToken = (id) => {
  const claims = { jti: id, "https://api.openai.com/auth": { chatgpt_account_id: "account" } };
  return `${part({ alg: "none" })}.${part(claims)}.x`;
};

/** Refresh tokens can be used once; a second use revokes the login. */
async function startProvider() {
  const stats = { calls: 0, reused: 0, access: undefined };
  let live = "r0";
  const server = createServer(async (request, response) => {
    let body = "";
    for await (const chunk of request) body += chunk;
    const id = `${++stats.calls}`;
    const isLive = new URLSearchParams(body).get("refresh_token") === live;
    if (isLive) stats.access = accessToken(id);
    else stats.reused += 1;
    live = isLive ? `r${id}` : undefined;
    const tokens = { access_token: stats.access, refresh_token: live, expires_in: 43_200, token_type: "Bearer" };
    const error = { error: { message: "refresh token has already been used", code: "refresh_token_reused" } };
    setTimeout(() => {
      response.writeHead(isLive ? 200 : 401, { "content-type": "application/json" });
      response.end(JSON.stringify(isLive ? tokens : error));
    }, latency);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return { stats, url: `http://127.0.0.1:${server.address().port}/`, close: () => server.close() };
}

/** Processes of a release, all ready to be told what to do. */
async function fleet({ release, openclaw, node, home, url }, agentDirs) {
  const module = join(openclaw, "dist", "plugin-sdk", "agent-runtime.js");
  const children = agentDirs.map((agentDir) => {
    const profileId = `${release.provider}:default`;
    const env = {
      PATH: process.env.PATH,
      HOME: home,
      OPENCLAW_STATE_DIR: join(home, "state"),
      ...release.env,
      PROOF: JSON.stringify({ module, provider: url, agentDir, profileId }),
    };
    return fork(AGENT, { env, cwd: openclaw, execPath: node, execArgv: [], stdio: ["ignore", "ignore", 2, "ipc"] });
  });
  const kill = () => Promise.all(children.map((child) => child.kill("SIGKILL") && once(child, "exit")));
  await Promise.all(children.map((child) => once(child, "message")));
  const tell = async (child, order) => {
    const heard = once(child, "message");
    child.send(order);
    return (await heard)[0];
  };
  return { children, tell, kill };
}

/** The main agent's login and a copy of it in each agent's store, written by the release itself; it lives `ms` from now. */
async function writeStores(host, agentDirs, ms) {
  const credential = {
    type: "oauth",
    provider: host.release.provider,
    access: accessToken("old"),
    refresh: "r0",
    expires: Date.now() + ms,
    accountId: "account",
  };
  const writer = await fleet(host, [null]);
  const { error } = await writer.tell(writer.children[0], { write: { agentDirs: [null, ...agentDirs], credential } });
  await writer.kill();
  if (error) throw new Error(error);
}

async function round(release, openclaw, node) {
  const home = mkdtempSync(join(tmpdir(), "oauth-refresh-lock-openclaw-"));
  const provider = await startProvider();
  const host = { release, openclaw, node, home, url: provider.url };
  const agentDirs = Array.from({ length: processes }, (_, at) =>
    join(home, "state", "agents", `agent-${at + 1}`, "agent"),
  );
  let agents;
  try {
    // An agent has long been at work when its token expires.
    await writeStores(host, agentDirs, 3_600_000);
    agents = await fleet(host, agentDirs);
    const served = await Promise.all(agents.children.map((child) => agents.tell(child, {})));
    const early = served.find(({ apiKey }) => apiKey !== accessToken("old"));
    if (early) throw new Error(`not served before expiry: ${early.error ?? early.apiKey}`);
    await writeStores(host, agentDirs, -60_000);
    const begun = performance.now();
    const settled = await Promise.all(
      agents.children.map(async (child) => {
        const { apiKey, error } = await agents.tell(child, {});
        return { ms: performance.now() - begun, error, isFresh: Boolean(apiKey) && apiKey === provider.stats.access };
      }),
    );
    const failed = settled.filter(({ isFresh }) => !isFresh);
    for (const { error } of failed.slice(0, 1)) tell(`  ${error ?? "another token"}`);
    const { calls, reused } = provider.stats;
    return { calls, reused, failed: failed.length, last: Math.max(...settled.map(({ ms }) => ms)) };
  } finally {
    await agents?.kill();
    provider.close();
    rmSync(home, { recursive: true, force: true, maxRetries: 10 });
  }
}

const range = (values) => {
  const sorted = values.map(Math.round).sort((one, other) => one - other);
  const [least, middle, most] = [sorted[0], sorted[sorted.length >> 1], sorted.at(-1)];
  return least === most ? `${middle}` : `${middle} (${least}–${most})`;
};

const lines = [
  "| release | variant | Node | provider calls | agents failed | last agent fresh, ms |",
  "| --- | --- | --- | --: | --: | --: |",
];
for (const release of RELEASES.filter(({ version }) => values.release.includes(version))) {
  const openclaw = install(release);
  const { path, text } = bundle(openclaw, release.file);
  try {
    for (const major of release.nodes.filter((major) => values.node.includes(major))) {
      const node = nodeBinary(major);
      for (const [variant, changes] of Object.entries(release.variants)) {
        tell(`openclaw@${release.version}, ${variant}, Node ${major}`);
        writeFileSync(path, apply(text, changes));
        const results = [];
        for (let at = 0; at < rounds; at += 1) results.push(await round(release, openclaw, node));
        const column = (name) => range(results.map((result) => result[name]));
        lines.push(
          `| ${release.version} | ${variant} | ${major} | ${column("calls")} | ${column("failed")} | ${column("last")} |`,
        );
      }
    }
  } finally {
    writeFileSync(path, text);
  }
}
console.log(lines.join("\n"));
