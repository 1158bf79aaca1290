// Makes the packages that are published: this one, and one for each platform whose addon is there.
//   node scripts/pack.mjs --out DIR [--addons DIR] [--all]
// `--addons` is where `oauth-refresh-lock.<target>.node` files lie (default: here); `--all` refuses if one is missing.
import { spawnSync } from "node:child_process";
import { copyFileSync, cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const { TARGETS } = createRequire(import.meta.url)("../lib/native.js");

const { values } = parseArgs({
  options: { out: { type: "string" }, addons: { type: "string", default: root }, all: { type: "boolean" } },
});
if (!values.out) throw new Error("--out is needed: where the packages go");
const out = resolve(values.out);
mkdirSync(out, { recursive: true });

const manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));

function pack(directory) {
  const args = ["pack", "--pack-destination", out, "--loglevel=error"];
  const { status, error } = spawnSync("npm", args, { cwd: directory, stdio: ["ignore", 1, 2] });
  if (error || status !== 0) throw new Error(`npm pack failed in ${directory}: ${error?.message ?? status}`);
}

/** This package, without what only its clone is for. */
function main(directory) {
  const { scripts, devDependencies, ...published } = manifest;
  published.optionalDependencies = Object.fromEntries(
    TARGETS.map((target) => [`oauth-refresh-lock-${target}`, manifest.version]),
  );
  for (const name of [...manifest.files, "README.md", "LICENSE"]) {
    cpSync(join(root, name), join(directory, name), { recursive: true });
  }
  writeFileSync(join(directory, "package.json"), `${JSON.stringify(published, null, 2)}\n`);
}

function platform(target, directory) {
  const file = `oauth-refresh-lock.${target}.node`;
  const addon = join(resolve(values.addons), file);
  if (!existsSync(addon)) {
    if (values.all) throw new Error(`${addon} is missing`);
    return false;
  }
  cpSync(join(root, "npm", target), directory, { recursive: true });
  copyFileSync(addon, join(directory, file));
  return true;
}

const staging = mkdtempSync(join(tmpdir(), "oauth-refresh-lock-pack-"));
try {
  const directory = (name) => {
    const path = join(staging, name);
    mkdirSync(path);
    return path;
  };
  // The platforms first: nobody is to install one without the other.
  for (const target of TARGETS) {
    const path = directory(target);
    if (platform(target, path)) pack(path);
  }
  const path = directory("main");
  main(path);
  pack(path);
} finally {
  rmSync(staging, { recursive: true });
}
