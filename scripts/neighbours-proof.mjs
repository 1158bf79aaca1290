// Runs the real Codex CLI or Claude Code from npm: several processes at once with one expired login, which get their token by the
// recipe of docs/recipes.md; Codex also by its own auth.json. The provider and the model are on loopback; nothing else is reached.
// 0.4 GB are installed below target/ at the first run. Linux on x64. Ends with 1 if, with this package, a round goes wrong.
import { spawn, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { ended } from "../__test__/support/child.mjs";
import { packagesDir } from "./fetch.mjs";
import { ANSWER, login, startServices } from "./neighbours/services.mjs";

const HELP = `Usage: npm run codex|claude-code -- [options]

  --processes N    at once (default 4)
  --rounds N       of each (default 3)
  --latency MS     how long the token endpoint takes (default 200)
  --verbose        what each of them says
`;
const {
  values,
  positionals: [name = "codex"],
} = parseArgs({
  allowPositionals: true,
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
/** A process that has not ended by then is stuck. */
const PATIENCE_MS = 120_000;

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const CLI = join(root, "cli", "main.mjs");
// Platforms' packages, which hold the program; the package beside them is its launcher.
const installed = (name, specifier) => join(packagesDir(name, { [name]: specifier }), "node_modules", name);

const recipes = readFileSync(join(root, "docs", "recipes.md"), "utf8");
const blocks = (language) =>
  [...recipes.matchAll(RegExp(`^\`\`\`${language}\\n(.*?)^\`\`\`$`, "gms"))].map(([, code]) => code);

/** As docs/recipes.md has it, but for where the API is. */
const [recipe] = blocks("toml");
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

/** The recipe's command, by its name, and its login. */
function storeLogin(home, url, { access, refresh }) {
  const program = join(home, "bin", "oauth-refresh-lock");
  mkdirSync(dirname(program));
  writeFileSync(program, `#!/bin/sh\nexec "${process.execPath}" "${CLI}" "$@"\n`, { mode: 0o755 });
  const where = ["--token-endpoint", `${url}/oauth/token`, "--client-id", "agents", "--state-dir", join(home, "state")];
  const input = JSON.stringify({ access, refresh, expires: Date.now() - 60_000 });
  const options = { input, encoding: "utf8" };
  const { status, stderr } = spawnSync(program, ["login", "add", "acme", "acme:me", ...where], options);
  if (status !== 0) throw new Error(`login add failed: ${stderr}`);
}

/**
 * `variants`: each prepares a home, with its directory `work`. `ours`: the one that has to go well. `start`: the command line in that
 * directory, and its environment.
 */
const PROGRAMS = {
  codex: {
    version: "0.171.0",
    ours: "auth.command",
    variants: {
      "its own auth.json": (home, url, { access, idToken, refresh }) => {
        const tokens = { id_token: idToken, access_token: access, refresh_token: refresh, account_id: "account" };
        const auth = { auth_mode: "chatgpt", OPENAI_API_KEY: null, tokens, last_refresh: new Date().toISOString() };
        writeFileSync(join(home, "auth.json"), JSON.stringify(auth), { mode: 0o600 });
        writeFileSync(join(home, "config.toml"), config(url, own));
      },
      "auth.command": (home, url, login) => {
        storeLogin(home, url, login);
        writeFileSync(join(home, "config.toml"), config(url, recipe));
      },
    },
    start(home, url) {
      const directory = installed("codex", `npm:@openai/codex@${this.version}-linux-x64`);
      const program = join(directory, "vendor", "x86_64-unknown-linux-musl", "bin", "codex");
      const env = { CODEX_HOME: home, CODEX_REFRESH_TOKEN_URL_OVERRIDE: `${url}/oauth/token` };
      return { command: [program, "exec", "--strict-config", "--skip-git-repo-check", "Say a word."], env };
    },
  },
  "claude-code": {
    version: "2.1.332",
    ours: "apiKeyHelper, headersHelper",
    variants: {
      "apiKeyHelper, headersHelper": (home, url, login) => {
        storeLogin(home, url, login);
        const [settings, servers] = blocks("json").map((text) => text.replace("https://api.acme.example", url));
        mkdirSync(join(home, ".claude"));
        writeFileSync(join(home, ".claude", "settings.json"), settings);
        writeFileSync(join(home, "work", ".mcp.json"), servers);
      },
    },
    start() {
      const directory = installed("claude-code", `npm:@anthropic-ai/claude-code-linux-x64@${this.version}`);
      const env = { DISABLE_AUTOUPDATER: "1", CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: "1" };
      return { command: [join(directory, "claude"), "-p", "Say a word.", "--mcp-config", ".mcp.json"], env };
    },
  },
};
const program = PROGRAMS[name];
if (!program) throw new Error(`no such program; there are: ${Object.keys(PROGRAMS).join(", ")}`);

/** Whether it was answered. */
async function run(home, url) {
  const { command, env } = program.start(home, url);
  const child = spawn(command[0], command.slice(1), {
    cwd: join(home, "work"),
    stdio: ["ignore", "pipe", "pipe"],
    timeout: PATIENCE_MS,
    killSignal: "SIGKILL",
    env: {
      PATH: `${join(home, "bin")}:${process.env.PATH}`,
      OPENCLAW_STATE_DIR: join(home, "state"),
      HOME: home,
      // Whatever it would look for elsewhere, it does not find.
      HTTPS_PROXY: "http://127.0.0.1:9",
      HTTP_PROXY: "http://127.0.0.1:9",
      NO_PROXY: "127.0.0.1",
      ...env,
    },
  });
  const { stdout, stderr, status } = await ended(child);
  if (values.verbose) process.stderr.write(`${stdout}${stderr}\n`);
  return status === 0 && stdout.trim() === ANSWER;
}

async function round(prepare) {
  const first = login();
  const home = mkdtempSync(join(tmpdir(), "oauth-refresh-lock-neighbour-"));
  const services = await startServices(first.refresh, latency);
  try {
    mkdirSync(join(home, "work"));
    prepare(home, services.url, first);
    const answered = await Promise.all(Array.from({ length: processes }, () => run(home, services.url)));
    const { calls, reused, isRevoked } = services.grant;
    return { calls, reused, isRevoked, ...services.stats, answered: answered.filter(Boolean).length };
  } finally {
    await services.close();
    rmSync(home, { recursive: true, force: true, maxRetries: 5 });
  }
}

const range = (numbers) => {
  const [least, most] = [Math.min(...numbers), Math.max(...numbers)];
  return least === most ? `${least}` : `${least}–${most}`;
};

let isProven = true;
const { version, variants, ours } = program;
console.log(
  `${name} ${version}, ${processes} processes, one expired login, a token endpoint that takes ${latency} ms\n`,
);
console.log("| token from | token calls | a spent token sent | login revoked | processes that were answered |");
console.log("| --- | --: | --: | --: | --: |");
for (const [variant, prepare] of Object.entries(variants)) {
  const results = [];
  for (let at = 0; at < rounds; at += 1) results.push(await round(prepare));
  const of = (column) => range(results.map((result) => result[column]));
  const revoked = results.filter(({ isRevoked }) => isRevoked).length;
  const cells = [variant, of("calls"), of("reused"), `${revoked} of ${rounds}`, `${of("answered")} of ${processes}`];
  console.log(`| ${cells.join(" | ")} |`);
  if (variant.includes("headersHelper")) console.log(`\nrequests to the MCP server with the token: ${of("helped")}`);
  const isRight = ({ calls, isRevoked, answered, helped }) =>
    calls === 1 && !isRevoked && answered === processes && (!variant.includes("headersHelper") || helped >= processes);
  // Without a call nothing has been shown.
  isProven &&= variant === ours ? results.every(isRight) : results.every(({ calls }) => calls > 0);
}
process.exitCode = isProven ? 0 : 1;
