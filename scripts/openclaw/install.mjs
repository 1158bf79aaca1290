// Releases from npm, each once as it is and once more for every variant of it: a copy of links, in which only what a diff changes
// is a file of its own.
import { spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { apply, NOT_OF_SOURCE, sourcesOf } from "./patch.mjs";

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

/** The `node_modules` that a release is installed in, with this package beside it as npm would put it there. */
export function install({ version, overrides }) {
  const directory = join(root, "target", "openclaw", version);
  const modules = join(directory, "node_modules");
  if (!existsSync(join(modules, "openclaw"))) {
    process.stderr.write(`installing openclaw@${version}\n`);
    mkdirSync(directory, { recursive: true });
    const manifest = { name: "proof", private: true, dependencies: { openclaw: version }, overrides };
    writeFileSync(join(directory, "package.json"), JSON.stringify(manifest));
    const args = ["install", "--ignore-scripts", "--omit=optional", "--no-audit", "--no-fund", "--loglevel=error"];
    run("npm", args, { cwd: directory });
  }
  const { name, files } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  const addons = readdirSync(root).filter((file) => file.endsWith(".node"));
  for (const file of ["package.json", ...files, ...addons]) {
    cpSync(join(root, file), join(modules, name, file), { recursive: true, filter: isChanged });
  }
  return modules;
}

/** Not what another run may have loaded: its processes would die of an addon that is overwritten. */
function isChanged(from, to) {
  return !existsSync(to) || statSync(from).isDirectory() || !readFileSync(from).equals(readFileSync(to));
}

/**
 * The package directory of a release with a diff applied, and how many lines of its files the diff adds and removes.
 *
 * @param {string} modules see {@link install}
 */
export function variantOf(modules, variant, diff) {
  const original = join(modules, "openclaw");
  if (!diff) return { openclaw: original, added: 0, removed: 0 };
  const openclaw = join(modules, `openclaw-${variant.replaceAll(/\W+/g, "-")}`);
  if (!existsSync(openclaw)) run("cp", ["-al", original, openclaw]);
  const { bundles, others } = bundlesOf(join(original, "dist"), sourcesOf(diff));
  const changed = apply(bundles, diff, others);
  const total = { openclaw, added: 0, removed: 0 };
  for (const [name, text] of bundles) {
    const path = join(openclaw, "dist", name);
    const now = changed.get(name) ?? text;
    write(path, now);
    const { stdout } = spawnSync("git", ["diff", "--no-index", "--numstat", join(original, "dist", name), path]);
    const [added = 0, removed = 0] = String(stdout).trim().split("\t").map(Number);
    total.added += added - (now.split(NOT_OF_SOURCE).length - 1);
    total.removed += removed;
  }
  return total;
}

/** The bundles that have these source files, and the text of all. */
function bundlesOf(dist, sources) {
  const bundles = new Map();
  const others = [];
  for (const name of readdirSync(dist).filter((name) => /\.m?js$/.test(name))) {
    const text = readFileSync(join(dist, name), "utf8");
    others.push(text);
    if (sources.some((source) => text.includes(`//#region ${source}\n`))) bundles.set(name, text);
  }
  return { bundles, others };
}

/** In the place of a link to the original, or of what an earlier run has written. */
function write(path, text) {
  if (readFileSync(path, "utf8") === text) return;
  writeFileSync(`${path}.new`, text);
  renameSync(`${path}.new`, path);
}

function run(command, args, options) {
  const { status, error } = spawnSync(command, args, { stdio: ["ignore", 2, 2], ...options });
  if (error || status !== 0) throw new Error(`${command} ${args.join(" ")}: ${error?.message ?? `exit ${status}`}`);
}
