/** `npm run bench`: measures us beside our peers, and writes a page of it. */
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { CASES } from "./cases.mjs";
import { drawChart } from "./chart.mjs";
import { buildFloor, Floor } from "./floor.mjs";
import { gather, versions } from "./peers.mjs";
import { drawPage } from "./report.mjs";
import { Table } from "./table.mjs";

const ROUNDS = 5;

const HELP = `Usage: npm run bench -- [options]

Measures this package beside other locks, and writes benchmarks.md and benchmarks.svg; all figures go to
target/bench/all.md.

  --only CASE  one case; may be repeated: ${CASES.map(({ name }) => name).join(", ")}
  --quick      one short round: whether it works, not what it takes
  --alone      without peers and floor; needs no network and no compiler
  --in DIR     where locks and stores lie, to measure another disk (default target/bench)
  --out DIR    where the page goes (default docs)
  --help       this text
`;

const root = fileURLToPath(new URL("..", import.meta.url));

function options() {
  const { values } = parseArgs({
    options: {
      only: { type: "string", multiple: true },
      quick: { type: "boolean", default: false },
      alone: { type: "boolean", default: false },
      in: { type: "string", default: join(root, "target", "bench") },
      out: { type: "string", default: join(root, "docs") },
      help: { type: "boolean", default: false },
    },
  });
  const unknown = values.only?.find((name) => !CASES.some((one) => one.name === name));
  if (unknown !== undefined) throw new Error(`there is no case "${unknown}"`);
  return values;
}

const tell = (text) => process.stderr.write(`${text}\n`);

async function bench({ only, quick, alone, in: where, out }) {
  // By default in the working copy, which is on a disk; the system's temporary directory may be in memory.
  const directory = resolve(where, `run-${process.pid}`);
  const created = (name) => {
    const path = join(directory, name);
    mkdirSync(path, { recursive: true, mode: 0o700 });
    return path;
  };
  try {
    tell("the contenders");
    const entrants = await gather({ alone, directory: created("contenders") });
    const floor = alone ? undefined : new Floor(buildFloor());
    const results = [];
    for (const one of CASES) {
      if (only && !only.includes(one.name)) continue;
      tell(one.name);
      const table = new Table();
      await one.run({ quick, rounds: quick ? 1 : ROUNDS, directory: created(one.name), entrants, floor }, table);
      results.push({ case: one, rows: table.rows });
    }
    mkdirSync(out, { recursive: true });
    const chart = drawChart(results);
    if (chart) writeFileSync(join(out, "benchmarks.svg"), chart);
    const page = { results, versions: versions(entrants), hasChart: chart !== undefined };
    writeFileSync(join(out, "benchmarks.md"), drawPage({ ...page, isShort: true }));
    const all = join(root, "target", "bench", "all.md");
    mkdirSync(dirname(all), { recursive: true });
    writeFileSync(all, drawPage({ ...page, hasChart: false, isShort: false }));
    tell(`written to ${out}, and all figures to ${all}`);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

try {
  const chosen = options();
  if (chosen.help) process.stdout.write(HELP);
  else await bench(chosen);
} catch (error) {
  tell(error.message);
  process.exitCode = 1;
}
