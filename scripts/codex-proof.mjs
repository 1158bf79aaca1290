// Runs the real Codex CLI from npm: several `codex exec` at once with one expired login, by its own auth.json, and by
// `oauth-refresh-lock token` as its provider's `auth.command`. The provider and the model are on loopback; nothing else is reached.
// 0.4 GB are installed below target/ at the first run. Linux on x64. Ends with 1 if, with this package, a round goes wrong.
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { ANSWER, login, startServices } from "./codex/services.mjs";
import { packagesDir } from "./fetch.mjs";

const VERSION = "0.171.0";
const HELP = `Usage: npm run codex -- [options]

  --processes N    \`codex exec\` at once (default 4)
  --rounds N       of each (default 3)
  --latency MS     how long the token endpoint takes (default 200)
  --verbose        what each Codex says
`;
const { values } = parseArgs({
  options: {
    processes: { type: "string", default: "4" },
    rounds: { type: "string", default: "3" },
    latency: { type: "string", default: "200" },
    verbose: { type: "boolean" },
    help: { type: "boolean" },
  },
});
if (values.help) {
  process.stdout.write(HELP);
  process.exit();
}
const [processes, rounds, latency] = [values.processes, values.rounds, values.latency].map(Number);
/** A Codex that has not ended by then is stuck. */
const PATIENCE_MS = 120_000;

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const CLI = join(root, "cli", "main.mjs");
// The platform's package, which holds the program; the package beside it is its launcher.
const codexPackage = join(
  packagesDir("codex", { codex: `npm:@openai/codex@${VERSION}-linux-x64` }),
  "node_modules",
  "codex",
);
const CODEX = join(codexPackage, "vendor", "x86_64-unknown-linux-musl", "bin", "codex");

/** As docs/recipes.md has it, but for where the API is. */
const recipe = readFileSync(join(root, "docs", "recipes.md"), "utf8").match(/^```toml\n(.*?)^```$/ms)[1];
const config = (url, auth) => `
model = "gpt-5"
chatgpt_base_url = "${url}/backend-api"
cli_auth_credentials_store = "file"
check_for_update_on_startup = false
${auth.replace("https://api.acme.example", url)}
[analytics]
enabled = false
`;
/** The same provider without the command, but with Codex's own login. */
const own = recipe.replace(/^\[model_providers\.acme\.auth\].*/ms, "requires_openai_auth = true\n");

/** Each prepares a home for Codex, and returns its configuration. */
const VARIANTS = {
  "its own auth.json": (home, url, { access, idToken, refresh }) => {
    const tokens = { id_token: idToken, access_token: access, refresh_token: refresh, account_id: "account" };
    const auth = { auth_mode: "chatgpt", OPENAI_API_KEY: null, tokens, last_refresh: new Date().toISOString() };
    writeFileSync(join(home, "auth.json"), JSON.stringify(auth), { mode: 0o600 });
    return config(url, own);
  },
  "auth.command": (home, url, { access, refresh }) => {
    const state = ["--state-dir", join(home, "state")];
    const endpoint = ["--token-endpoint", `${url}/oauth/token`, "--client-id", "codex"];
    const add = [CLI, "login", "add", "acme", "acme:me", ...endpoint, ...state];
    const input = JSON.stringify({ access, refresh, expires: Date.now() - 60_000 });
    const { status, stderr } = spawnSync(process.execPath, add, { input, encoding: "utf8" });
    if (status !== 0) throw new Error(`login add failed: ${stderr}`);
    // The recipe's program, by its name.
    const program = join(home, "bin", "oauth-refresh-lock");
    mkdirSync(dirname(program));
    writeFileSync(program, `#!/bin/sh\nexec "${process.execPath}" "${CLI}" "$@"\n`, { mode: 0o755 });
    return config(url, recipe);
  },
};

async function codex(home, url) {
  const child = spawn(CODEX, ["exec", "--strict-config", "--skip-git-repo-check", "Say a word."], {
    cwd: join(home, "work"),
    stdio: ["ignore", "pipe", "pipe"],
    timeout: PATIENCE_MS,
    killSignal: "SIGKILL",
    env: {
      PATH: `${join(home, "bin")}:${process.env.PATH}`,
      OPENCLAW_STATE_DIR: join(home, "state"),
      HOME: home,
      CODEX_HOME: home,
      CODEX_REFRESH_TOKEN_URL_OVERRIDE: `${url}/oauth/token`,
      // Whatever it would look for elsewhere, it does not find.
      HTTPS_PROXY: "http://127.0.0.1:9",
      HTTP_PROXY: "http://127.0.0.1:9",
      NO_PROXY: "127.0.0.1",
    },
  });
  const closed = once(child, "close");
  const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr)]);
  const [status] = await closed;
  if (values.verbose) process.stderr.write(`${stdout}${stderr}\n`);
  return status === 0 && stdout.trim() === ANSWER;
}

async function round(prepare) {
  const first = login();
  const home = mkdtempSync(join(tmpdir(), "oauth-refresh-lock-codex-"));
  const services = await startServices(first.refresh, latency);
  try {
    mkdirSync(join(home, "work"));
    writeFileSync(join(home, "config.toml"), prepare(home, services.url, first));
    const answered = await Promise.all(Array.from({ length: processes }, () => codex(home, services.url)));
    return { ...services.stats, answered: answered.filter(Boolean).length };
  } finally {
    services.close();
    rmSync(home, { recursive: true, force: true, maxRetries: 5 });
  }
}

const range = (numbers) => {
  const [least, most] = [Math.min(...numbers), Math.max(...numbers)];
  return least === most ? `${least}` : `${least}–${most}`;
};

let isProven = true;
console.log(`codex ${VERSION}, ${processes} processes, one expired login, a token endpoint that takes ${latency} ms\n`);
console.log(
  "| Codex gets its token from | token calls | a spent token sent | login revoked | processes that were answered |",
);
console.log("| --- | --: | --: | --: | --: |");
for (const [variant, prepare] of Object.entries(VARIANTS)) {
  const results = [];
  for (let at = 0; at < rounds; at += 1) results.push(await round(prepare));
  const of = (name) => range(results.map((result) => result[name]));
  const revoked = results.filter(({ isRevoked }) => isRevoked).length;
  const cells = [variant, of("calls"), of("again"), `${revoked} of ${rounds}`, `${of("answered")} of ${processes}`];
  console.log(`| ${cells.join(" | ")} |`);
  const isRight = ({ calls, isRevoked, answered }) => calls === 1 && !isRevoked && answered === processes;
  // Without a call nothing has been shown.
  isProven &&= variant === "auth.command" ? results.every(isRight) : results.every(({ calls }) => calls > 0);
}
process.exitCode = isProven ? 0 : 1;
