// Every name that a module imports from another of ours is exported there: nothing else shows that of scripts that no test runs.
import { readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { rolldown } from "rolldown";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
/** What is laid over OpenClaw's own files imports from those. */
const OPENCLAWS = join("scripts", "openclaw");

const rooms = ["__test__", "bench", "cli", "examples", "lib", "scripts", "smoke"];
const files = rooms.flatMap((room) =>
  readdirSync(join(root, room), { recursive: true }).map((name) => join(room, name)),
);
const bundle = await rolldown({
  cwd: root,
  input: files.filter((file) => /\.m?js$/.test(file) && !file.startsWith(OPENCLAWS)).map((file) => `./${file}`),
  platform: "node",
  external: (id) => !id.startsWith("."),
  logLevel: "silent",
});
await bundle.generate({});
