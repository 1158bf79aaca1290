import { spawnSync } from "node:child_process";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));

/** Has cargo build. Returns what it made, as it tells of it. */
export function built(...args) {
  const options = { cwd: root, stdio: ["ignore", "pipe", "inherit"], encoding: "utf8", maxBuffer: 1 << 28 };
  const { status, error, stdout } = spawnSync("cargo", [...args, "--message-format=json-render-diagnostics"], options);
  if (error || status !== 0) throw new Error(`\`cargo ${args.join(" ")}\` failed`, { cause: error });
  const messages = stdout.split("\n").filter((line) => line.startsWith("{"));
  return messages.map((line) => JSON.parse(line)).filter(({ reason }) => reason === "compiler-artifact");
}

/** The path of the library among what cargo made. */
export const libraryAmong = (artifacts) =>
  artifacts
    .filter(({ target }) => target.kind.includes("cdylib"))
    .flatMap(({ filenames }) => filenames)
    .find((file) => /\.(so|dylib|dll)$/.test(file));
