/**
 * Whatever goes wrong, by chance: `npm run chaos [-- --minutes N | --rounds N] [--seed N] [--world NAME]`. Each round has a seed; one
 * that was faulty can be played again by it, as far as machines repeat themselves.
 */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import Table from "cli-table3";
import { startEngine } from "../../__test__/hosts/support/engines.mjs";
import { startProvider } from "../../__test__/hosts/support/provider.mjs";
import { World } from "../../__test__/hosts/support/world.mjs";
import { nodeWithSqlite } from "../../__test__/support/sqlite.mjs";
import { missing } from "../hosts/engines.mjs";
import { canMount } from "./machine.mjs";
import { planOf } from "./plan.mjs";
import { Round } from "./round.mjs";

const WORLDS = ["files", "sqlite", "postgres", "etcd"];
const COUNTS = [
  ..."rounds providerCalls served refused died lost faulty".split(" "),
  ..."kill stop cutProvider cutEngine restartEngine".split(" "),
  ..."fillDisk makeReadOnly removeSidecars restoreStore logIn logOut".split(" "),
];
const CLOCK = join(import.meta.dirname, "..", "..", "__test__", "hosts", "support", "clock.c");

const options = Object.fromEntries(["minutes", "rounds", "seed", "world"].map((name) => [name, { type: "string" }]));
const { values } = parseArgs({ options });
function refuse(why) {
  console.error(why);
  process.exit(1);
}
const number = (name, fallback) => {
  const value = Number(values[name] ?? fallback);
  return value >= 0 ? value : refuse(`--${name} must be a number`);
};
const first = number("seed", Date.now() % 1_000_000_000);
const rounds = number("rounds", values.minutes === undefined ? 100 : Number.POSITIVE_INFINITY);
const until = performance.now() + number("minutes", Number.POSITIVE_INFINITY) * 60_000;
if (values.world !== undefined && !WORLDS.includes(values.world)) refuse(`--world must be one of ${WORLDS.join(", ")}`);

const names = (values.world ? [values.world] : WORLDS).filter((name) => {
  const why = ["postgres", "etcd"].includes(name) ? missing(name) : undefined;
  if (why) console.error(`NOT PART OF IT: ${name}: ${why}`);
  return !why;
});
if (!canMount) console.error("NOT PART OF IT: disks that are full or read-only: they take root, and Linux");

const directory = mkdtempSync(join(tmpdir(), "oauth-refresh-lock-chaos-"));
process.once("exit", () => rmSync(directory, { recursive: true }));
const preload = spawnSync("cc", ["--version"]).status === 0 ? join(directory, "clock.so") : undefined;
if (preload) execFileSync("cc", ["-shared", "-fPIC", "-O1", "-o", preload, CLOCK, "-ldl"]);
else console.error("NOT PART OF IT: clocks that are wrong: they take a C compiler");

// Engines end, and disks are unmounted, when this process exits; by a signal alone it would not.
for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => process.exit(130));
const provider = await startProvider();
const worlds = {};
for (const name of names) {
  const engine = ["postgres", "etcd"].includes(name) ? await startEngine(name) : undefined;
  worlds[name] = new World(engine, provider, name === "sqlite" ? { node: nodeWithSqlite() } : {});
}
const counts = Object.fromEntries(names.map((name) => [name, Object.fromEntries(COUNTS.map((count) => [count, 0]))]));

console.log(`chaos from seed ${first}: ${names.join(", ")}`);
const began = performance.now();
let said = began;
for (let round = 0; round < rounds && performance.now() < until; round += 1) {
  const name = names[round % names.length];
  const seed = first + Math.floor(round / names.length);
  const faults = await new Round(worlds[name], planOf(name, seed), counts[name], preload).play();
  if (faults.length > 0) {
    counts[name].faulty += 1;
    const again = `npm run chaos -- --rounds 1 --seed ${seed} --world ${name}`;
    console.error([`FAULTY; to play it again: ${again}`, ...faults].join("\n  "));
  }
  if (performance.now() - said > 60_000) {
    said = performance.now();
    console.log(`after ${Math.round((said - began) / 60_000)} min: ${JSON.stringify(counts)}`);
  }
}

for (const world of Object.values(worlds)) await world.close();
await provider.close().catch(() => {});
const table = new Table({ head: ["", ...names], style: { head: [], border: [], compact: true } });
for (const count of COUNTS) table.push([count, ...names.map((name) => counts[name][count])]);
console.log(`${table}\n${((performance.now() - began) / 60_000).toFixed(1)} minutes from seed ${first}`);
process.exit(names.some((name) => counts[name].faulty > 0) ? 1 : 0);
