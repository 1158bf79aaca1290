// Publishes what scripts/pack.mjs made, and can be run again after it was interrupted.
//   node scripts/publish.mjs --packages DIR [--provenance]
// The platforms' packages come first, and this one only when npm has all of them: nobody is to install it without its addon.
// What npm has already is skipped if it is the same to the byte, and is an error if not: a version can't be published twice.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";

const { TARGETS, packageOf } = createRequire(import.meta.url)("../lib/native.js");
const MAIN = "oauth-refresh-lock";
/** Whose repository it is, in package.json, until it is packed. */
const PLACEHOLDER = "/OWNER/";
/** How long npm may take to show what it accepted. */
const PATIENCE_MS = 10 * 60_000;
/** The first npm that exchanges a workflow's identity for a token. */
const TRUSTED_PUBLISHING = [11, 5, 1];

const { values } = parseArgs({ options: { packages: { type: "string" }, provenance: { type: "boolean" } } });
if (!values.packages) fail("--packages is needed: where the packages are");

function fail(message) {
  console.error(message);
  process.exit(1);
}

function npm(args, stdio) {
  const { stdout, status, error } = spawnSync("npm", args, { stdio, encoding: "utf8" });
  if (error) fail(`npm can't be run: ${error.message}`);
  return { stdout, status };
}

function packed(file) {
  const { stdout, status } = spawnSync("tar", ["-xzOf", file, "package/package.json"], { encoding: "utf8" });
  if (status !== 0) fail(`${file} is no package`);
  const { name, version, ...manifest } = JSON.parse(stdout);
  if (["homepage", "bugs", "repository"].some((field) => JSON.stringify(manifest[field] ?? "").includes(PLACEHOLDER)))
    fail(`${file} has a placeholder for its repository: pack it again, with GITHUB_REPOSITORY=owner/name`);
  const integrity = `sha512-${createHash("sha512").update(readFileSync(file)).digest("base64")}`;
  return { file, name, version, integrity };
}

/** All nine, in the order in which they are published. */
function release() {
  const directory = resolve(values.packages);
  const files = readdirSync(directory).filter((name) => name.endsWith(".tgz"));
  const found = new Map(files.map((name) => packed(join(directory, name))).map((one) => [one.name, one]));
  const names = [...TARGETS.map(packageOf), MAIN];
  const missing = names.filter((name) => !found.has(name));
  if (missing.length > 0) fail(`${directory} lacks ${missing.join(", ")}`);
  const packages = names.map((name) => found.get(name));
  const versions = [...new Set(packages.map(({ version }) => version))];
  if (files.length > names.length || versions.length > 1)
    fail(`${directory} has more than one release: ${files.join(", ")}`);
  return packages;
}

/** What npm has under this version. @returns {string | undefined} its digest */
function publishedIntegrity({ name, version }) {
  const args = ["view", `${name}@${version}`, "dist.integrity", "--json", "--prefer-online", "--loglevel=silent"];
  const { stdout, status } = npm(args, ["ignore", "pipe", 2]);
  const answer = stdout.trim() === "" ? undefined : JSON.parse(stdout);
  // Without the version, npm 10 succeeds and says nothing; without the package, it fails.
  if (status === 0) return answer;
  if (answer?.error?.code === "E404") return undefined;
  return fail(`npm can't tell whether there is ${name}@${version}: ${answer?.error?.summary ?? `status ${status}`}`);
}

function isPublished(one) {
  const integrity = publishedIntegrity(one);
  if (integrity !== undefined && integrity !== one.integrity)
    fail(`npm has other bytes as ${one.name}@${one.version}: ${integrity}, and ${one.file} has ${one.integrity}`);
  return integrity !== undefined;
}

/** Whether it was published now, and not before. */
function publish(one) {
  const { name, version, file } = one;
  if (isPublished(one)) return console.log(`${name}@${version} is published already`);
  // A pre-release is for those who ask for it.
  const tag = version.includes("-") ? ["--tag", "next"] : [];
  const provenance = values.provenance ? ["--provenance"] : [];
  const { status } = npm(["publish", file, "--access", "public", ...tag, ...provenance], "inherit");
  if (status !== 0) fail(`npm did not take ${name}@${version}; what it took before stays: run this again`);
  return true;
}

async function untilPublished(packages) {
  const end = performance.now() + PATIENCE_MS;
  let pause = 500;
  for (const one of packages) {
    while (!isPublished(one)) {
      if (performance.now() > end) fail(`npm does not show ${one.name}@${one.version} yet: run this again`);
      await sleep(pause);
      pause = Math.min(2 * pause, 10_000);
    }
  }
}

function refuseOldNpm() {
  const version = npm(["--version"], ["ignore", "pipe", 2]).stdout.trim();
  const parts = version.split(".").map((part) => Number.parseInt(part, 10));
  const at = TRUSTED_PUBLISHING.findIndex((part, at) => part !== parts[at]);
  if (at >= 0 && parts[at] < TRUSTED_PUBLISHING[at])
    fail(`npm ${TRUSTED_PUBLISHING.join(".")} or newer is needed to publish from a workflow, this is ${version}`);
}

if (values.provenance) refuseOldNpm();
const packages = release();
const platforms = packages.slice(0, -1);
const [main] = packages.slice(-1);
await untilPublished(platforms.filter(publish));
publish(main);
