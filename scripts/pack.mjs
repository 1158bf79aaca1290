// Makes the packages that are published: this one, and one for each platform whose addon is there. Prints what it made.
//   node scripts/pack.mjs --out DIR [--addons DIR] [--all]
// `--addons` is where `oauth-refresh-lock.<target>.node` files lie (default: here); `--all` refuses if one is missing.
// `GITHUB_REPOSITORY` (owner/name), if set, becomes the packages' `repository`: npm's provenance compares it with the workflow's. Without
// it this package keeps the placeholder, and all stay `private`, so that neither npm nor scripts/publish.mjs publishes them.
// The manifests here are `private`, so that `npm publish` in a clone can't publish a package without its addon.
import { spawnSync } from "node:child_process";
import { copyFileSync, cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { addonKind } from "./addon-kind.mjs";
import { sbom, thirdPartyLicenses } from "./licenses.mjs";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const { TARGETS, packageOf } = createRequire(import.meta.url)("../lib/native.js");

/** Rust's names of our platforms. */
const TRIPLES = {
  "linux-x64-gnu": "x86_64-unknown-linux-gnu",
  "linux-x64-musl": "x86_64-unknown-linux-musl",
  "linux-arm64-gnu": "aarch64-unknown-linux-gnu",
  "linux-arm64-musl": "aarch64-unknown-linux-musl",
  "darwin-x64": "x86_64-apple-darwin",
  "darwin-arm64": "aarch64-apple-darwin",
  "win32-x64-msvc": "x86_64-pc-windows-msvc",
  "win32-arm64-msvc": "aarch64-pc-windows-msvc",
};

const { values } = parseArgs({
  options: { out: { type: "string" }, addons: { type: "string", default: root }, all: { type: "boolean" } },
});
if (!values.out) fail("--out is needed: where the packages go");
const out = resolve(values.out);

function fail(message) {
  console.error(message);
  process.exit(1);
}

const read = (...path) => readFileSync(join(root, ...path), "utf8");
const manifestOf = (...path) => JSON.parse(read(...path, "package.json"));
const manifest = manifestOf();

/** A release that a file was forgotten in would depend on platform packages that there are none of. */
function refuseOtherVersions() {
  const found = {
    "package-lock.json": JSON.parse(read("package-lock.json")).version,
    "Cargo.toml": /^\[package\]\n(?:[^[].*\n)*?version = "(.*)"/m.exec(read("Cargo.toml"))?.[1],
    "Cargo.lock": /^name = "oauth-refresh-lock"\nversion = "(.*)"/m.exec(read("Cargo.lock"))?.[1],
    ...Object.fromEntries(TARGETS.map((target) => [`npm/${target}/package.json`, manifestOf("npm", target).version])),
  };
  const others = Object.entries(found).filter(([, version]) => version !== manifest.version);
  if (others.length > 0)
    fail(
      `package.json has version ${manifest.version}; ${others.map(([file, version]) => `${file} has ${version}`).join(", ")}`,
    );
}

/** The manifest as it is published. */
function published({ private: isPrivate, ...manifest }) {
  const repository = process.env.GITHUB_REPOSITORY;
  if (!repository) return { ...manifest, private: isPrivate };
  const home = `https://github.com/${repository}`;
  // The platforms' packages have one page, npm's own.
  const pages = manifest.homepage ? { homepage: `${home}#readme`, bugs: `${home}/issues` } : {};
  return { ...manifest, ...pages, repository: { type: "git", url: `git+${home}.git` } };
}

function writeManifest(directory, manifest) {
  writeFileSync(join(directory, "package.json"), `${JSON.stringify(published(manifest), null, 2)}\n`);
}

/** Packs a directory; what is to be in it, npm may leave out (`files`, ignore files). */
function pack(directory, expected) {
  const args = ["pack", "--json", "--pack-destination", out, "--loglevel=error"];
  const options = { cwd: directory, stdio: ["ignore", "pipe", 2], encoding: "utf8" };
  const { status, error, stdout } = spawnSync("npm", args, options);
  if (error || status !== 0) fail(`npm pack failed in ${directory}: ${error?.message ?? status}`);
  const [{ filename, files }] = JSON.parse(stdout);
  const missing = expected.filter((file) => !files.some(({ path }) => path === file));
  if (missing.length > 0) {
    rmSync(join(out, filename));
    fail(`${filename} would lack ${missing.join(", ")}`);
  }
  console.log(filename);
}

/** This package, without what only its clone is for. */
function packMain(directory) {
  const { scripts, devDependencies, ...rest } = manifest;
  const optionalDependencies = Object.fromEntries(TARGETS.map((target) => [packageOf(target), manifest.version]));
  for (const name of [...manifest.files, "README.md", "LICENSE"]) {
    cpSync(join(root, name), join(directory, name), { recursive: true });
  }
  writeManifest(directory, { ...rest, optionalDependencies });
  pack(directory, ["index.js", "index.mjs", "index.d.ts", "cli/main.mjs", "README.md", "LICENSE"]);
}

function packPlatform(target, addon, directory) {
  const kind = addonKind(readFileSync(addon));
  if (kind !== target) fail(`${addon} is ${kind ? `for ${kind}` : "no addon for any platform"}`);
  const file = `oauth-refresh-lock.${target}.node`;
  cpSync(join(root, "npm", target), directory, { recursive: true });
  copyFileSync(addon, join(directory, file));
  copyFileSync(join(root, "LICENSE"), join(directory, "LICENSE"));
  writeFileSync(join(directory, "THIRD-PARTY-LICENSES"), thirdPartyLicenses(TRIPLES[target]));
  const manifest = manifestOf("npm", target);
  writeFileSync(join(directory, "sbom.cdx.json"), sbom(TRIPLES[target], manifest));
  writeManifest(directory, manifest);
  pack(directory, [file, "README.md", "LICENSE", "THIRD-PARTY-LICENSES", "sbom.cdx.json"]);
}

refuseOtherVersions();
const addons = TARGETS.map((target) => [target, join(resolve(values.addons), `oauth-refresh-lock.${target}.node`)]);
const missing = addons.filter(([, addon]) => !existsSync(addon));
if (values.all && missing.length > 0) fail(`missing: ${missing.map(([, addon]) => addon).join(", ")}`);

mkdirSync(out, { recursive: true });
const staging = mkdtempSync(join(tmpdir(), "oauth-refresh-lock-pack-"));
process.on("exit", () => rmSync(staging, { recursive: true }));
const directory = (name) => {
  const path = join(staging, name);
  mkdirSync(path);
  return path;
};
for (const [target, addon] of addons) if (existsSync(addon)) packPlatform(target, addon, directory(target));
packMain(directory("main"));
