/** Publishing by scripts/publish.mjs, to a registry on loopback: in order, again after an interruption, and never other bytes. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { promisify } from "node:util";
import { expect, onTestFinished, test } from "vitest";
import { startRegistry } from "./support/registry.mjs";

const execFile = promisify((await import("node:child_process")).execFile);
const { TARGETS, packageOf } = createRequire(import.meta.url)("../lib/native.js");
const MAIN = "oauth-refresh-lock";
const NAMES = [...TARGETS.map(packageOf), MAIN];

function temporary() {
  const path = mkdtempSync(join(tmpdir(), "oauth-refresh-lock-publish-"));
  onTestFinished(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** Packages that have our names, and nothing in them but `content`. Returns their directory. */
async function packages({ version = "1.2.3", content = "as built", without = [] } = {}) {
  const directory = temporary();
  for (const [at, name] of NAMES.entries()) {
    if (without.includes(name)) continue;
    const staging = join(temporary(), "package");
    mkdirSync(staging);
    writeFileSync(join(staging, "package.json"), JSON.stringify({ name, version, description: content }));
    await execFile("tar", ["-czf", join(directory, `${at}.tgz`), "-C", join(staging, ".."), "package"]);
  }
  return directory;
}

async function publish(registry, directory, { args = [], env = {} } = {}) {
  const home = temporary();
  const userconfig = join(home, "npmrc");
  writeFileSync(userconfig, `${registry.url.replace("http:", "")}:_authToken=loopback\n`);
  const settings = {
    npm_config_registry: registry.url,
    npm_config_userconfig: userconfig,
    npm_config_cache: join(home, "cache"),
    npm_config_fetch_retries: "0",
    npm_config_update_notifier: "false",
  };
  const script = join(import.meta.dirname, "..", "scripts", "publish.mjs");
  const options = { cwd: home, env: { ...process.env, ...settings, ...env } };
  try {
    const { stdout } = await execFile(process.execPath, [script, "--packages", directory, ...args], options);
    return { status: 0, said: stdout };
  } catch ({ code, stdout, stderr }) {
    return { status: code, said: stdout + stderr };
  }
}

async function registryWith(options = {}) {
  const registry = await startRegistry(options);
  onTestFinished(registry.close);
  return registry;
}

const namesOf = ({ published }) => published.map(({ name }) => name);

test("the platforms come first, this package when npm shows them all, and a second run publishes nothing", async () => {
  let hidden = 2;
  // The last platform's package takes a while to be shown; before it is, this package would be installed without its addon.
  const hide = (name) => name === NAMES.at(-2) && hidden-- > 0;
  const refuse = (name) => name === MAIN && hidden >= 0;
  const registry = await registryWith({ hide, refuse });
  const directory = await packages();
  expect(await publish(registry, directory)).toMatchObject({ status: 0 });
  const expected = NAMES.map((name) => ({ name, version: "1.2.3", tag: "latest", access: "public" }));
  expect(registry.published).toEqual(expected);

  const { status, said } = await publish(registry, directory);
  expect({ status, said }).toMatchObject({ status: 0 });
  for (const name of NAMES) expect(said).toContain(`${name}@1.2.3 is published already`);
  expect(registry.published).toEqual(expected);
});

test("after an interruption it goes on where it stopped; a pre-release is published for those who ask for it", async () => {
  let isRefusing = true;
  const registry = await registryWith({ refuse: (name) => isRefusing && name === NAMES[3] });
  const directory = await packages({ version: "1.3.0-rc.1" });
  const { status, said } = await publish(registry, directory);
  expect(status).toBe(1);
  expect(said).toContain(`npm did not take ${NAMES[3]}@1.3.0-rc.1`);
  expect(namesOf(registry)).toEqual(NAMES.slice(0, 3));
  isRefusing = false;
  expect(await publish(registry, directory)).toMatchObject({ status: 0 });
  expect(namesOf(registry)).toEqual(NAMES);
  expect(new Set(registry.published.map(({ tag }) => tag))).toEqual(new Set(["next"]));
});

test("other bytes under a version that is published are an error, and nothing more is published", async () => {
  const registry = await registryWith({ refuse: (name) => name === NAMES[1] });
  expect(await publish(registry, await packages())).toMatchObject({ status: 1 });
  const { status, said } = await publish(registry, await packages({ content: "built again" }));
  expect(status).toBe(1);
  expect(said).toContain(`npm has other bytes as ${NAMES[0]}@1.2.3`);
  expect(namesOf(registry)).toEqual([NAMES[0]]);
});

test("a release that lacks a platform is not begun, nor is one by an npm that knows no trusted publishing", async () => {
  const registry = await registryWith();
  const [, lacking] = NAMES;
  const incomplete = await publish(registry, await packages({ without: [lacking] }));
  expect(incomplete.status).toBe(1);
  expect(incomplete.said).toContain(`lacks ${lacking}`);

  const bin = temporary();
  writeFileSync(join(bin, "npm"), "#!/bin/sh\necho 11.5.0\n", { mode: 0o755 });
  const env = { PATH: `${bin}${delimiter}${process.env.PATH}` };
  const old = await publish(registry, await packages(), { args: ["--provenance"], env });
  expect(old.status).toBe(1);
  expect(old.said).toContain("npm 11.5.1 or newer is needed to publish from a workflow, this is 11.5.0");
  expect(registry.published).toEqual([]);
});
