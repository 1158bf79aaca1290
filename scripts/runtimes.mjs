// `npm run runtimes`: what has to work wherever the package is installed (smoke/) and the storm, in Bun and in Deno.
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { canFetchNode, packageDir } from "./fetch.mjs";

if (!canFetchNode) {
  console.error("NOT TESTED: Bun and Deno are fetched for Linux on x64 alone");
  process.exit(1);
}
const root = fileURLToPath(new URL("..", import.meta.url));
const bun = join(packageDir("@oven/bun-linux-x64", "1.4.5"), "bin", "bun");
const deno = join(packageDir("@deno/linux-x64-glibc", "2.9.6"), "deno");
const SMOKE = "./smoke/smoke.mjs";
const STORM = ["cli/main.mjs", "storm", "--provider", "__test__/support/oauth/storm.mjs"];

function run(command, args, env) {
  console.log(`\n> ${[command, ...args].join(" ")}`);
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: "inherit", env: { ...process.env, ...env } });
  if (error || status !== 0) throw new Error(`${command}: ${error?.message ?? `exit code ${status}`}`);
}

run(bun, ["test", SMOKE]);
run(bun, STORM);
// A process that Deno starts has only the rights that it is given again.
run(deno, ["test", "--allow-all", "--no-check", SMOKE], { SMOKE_NODE: JSON.stringify([deno, "run", "--allow-all"]) });
run(deno, ["run", "--allow-all", ...STORM]);

// Without the right to load it, the error names that right.
const asks = `
  const { isAvailable, withOAuthProfileLock } = require("./index.js");
  if (isAvailable()) throw new Error("the addon was loaded without the right to it");
  withOAuthProfileLock("acme", "acme:default", () => {}).then(
    () => Promise.reject(new Error("a lock without the addon")),
    ({ code, message }) => {
      console.log(message);
      if (code !== "addon_unavailable" || !message.endsWith("Start Deno with \`--allow-ffi\`")) throw new Error(code);
    },
  );`;
const file = join(mkdtempSync(join(tmpdir(), "oauth-refresh-lock-deno-")), "asks.cjs");
try {
  writeFileSync(file, asks.replace("./index.js", join(root, "index.js")));
  run(deno, ["run", "--no-prompt", "--allow-read", "--allow-env", "--allow-sys", file]);
} finally {
  rmSync(dirname(file), { recursive: true, force: true });
}
