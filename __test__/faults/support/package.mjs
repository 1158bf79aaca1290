/** The package with fault injection built in, at a place of its own: the ordinary build has none. */
import { cpSync, existsSync, mkdirSync, readFileSync, renameSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { built, libraryAmong } from "../../../scripts/cargo.mjs";

const ROOT = join(import.meta.dirname, "..", "..", "..");
/** A target directory of its own: other builds overwrite the library in the common one. */
export const FAULTS_TARGET = join(ROOT, "target", "faults");
/** The core's tests are built with them too. With others, cargo would build the library anew for one and for the other in turns. */
export const FAULTS_FEATURES = "binding,faults";
const COPY = join(FAULTS_TARGET, "package");

/** Whether a copy has to be made: what is there is left alone, for tests that run beside this one load it. */
const isStale = (from, to) =>
  !existsSync(to) || statSync(from).isDirectory() || !readFileSync(from).equals(readFileSync(to));

/** Builds and copies the package. Returns the path of its module. */
export function faultyPackage() {
  // Built as for the core's tests, of which the smallest will do: by itself, cargo would compile the library once more.
  const build = ["test", "--no-run", "--locked", "--test", "takeover_model", "--features", FAULTS_FEATURES];
  const library = libraryAmong(built(...build, "--target-dir", FAULTS_TARGET));
  const bytes = readFileSync(library);
  for (const mark of ["napi_register_module_v1", "OAUTH_REFRESH_LOCK_CLOCK_AHEAD"]) {
    if (!bytes.includes(mark)) throw new Error(`${library} is another build's, without ${mark}; remove it`);
  }
  mkdirSync(COPY, { recursive: true });
  const { files } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8"));
  for (const file of ["package.json", ...files.filter((file) => !file.endsWith(".d.ts"))]) {
    cpSync(join(ROOT, file), join(COPY, file), { recursive: true, filter: isStale });
  }
  const { target } = createRequire(import.meta.url)(join(COPY, "lib", "native.js"));
  const addon = join(COPY, `oauth-refresh-lock.${target()}.node`);
  // By rename: a process that has the old addon open must not see its bytes change.
  if (isStale(library, addon)) {
    cpSync(library, `${addon}.${process.pid}`);
    renameSync(`${addon}.${process.pid}`, addon);
  }
  return join(COPY, "index.mjs");
}

if (process.argv[1] === import.meta.filename) faultyPackage();
