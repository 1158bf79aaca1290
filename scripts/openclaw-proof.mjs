// Runs OpenClaw's own releases from npm, as they are and with a maintainer's diff, with many processes that share one expired login
// and a provider on loopback. Half a gigabyte for each release is installed below target/ at the first run.
import { parseArgs } from "node:util";
import { nodeBinary } from "./fetch.mjs";
import { install, variantOf } from "./openclaw/install.mjs";
import { RELEASES } from "./openclaw/releases.mjs";
import { ROWS } from "./openclaw/rows.mjs";
import { Stage } from "./openclaw/stage.mjs";

const HELP = `Usage: npm run openclaw -- [options]

  --processes N    agents, a process each (default 20)
  --rounds N       of each cell (default 1)
  --latency MS     how long the provider takes (default 200)
  --release V      may be repeated, or "all" (default the newest)
  --row TEXT       rows whose name has this in it; may be repeated (default all)
  --variant NAME   may be repeated (default all)
  --node MAJOR     may be repeated (default the newest that a release takes)
  --slow           also what takes the unchanged release four minutes a cell
  --list           names the releases, variants and rows
`;
const many = { type: "string", multiple: true };
const { values } = parseArgs({
  options: {
    processes: { type: "string", default: "20" },
    rounds: { type: "string", default: "1" },
    latency: { type: "string", default: "200" },
    release: many,
    row: many,
    variant: many,
    node: many,
    slow: { type: "boolean" },
    list: { type: "boolean" },
    help: { type: "boolean" },
  },
});
if (values.help) {
  process.stdout.write(HELP);
  process.exit();
}
const [processes, rounds, latency] = [values.processes, values.rounds, values.latency].map(Number);
const isWanted = (wanted, name) => !wanted || wanted.includes(name);
const rows = ROWS.filter(({ name }) => !values.row || values.row.some((text) => name.includes(text)));
const chosen = values.release ?? [RELEASES.at(-1).version];
const releases = RELEASES.filter(({ version }) => chosen.includes("all") || chosen.includes(version));
if (values.list) {
  for (const { version, variants } of RELEASES) console.log(`${version}: ${Object.keys(variants).join(", ")}`);
  for (const { name } of ROWS) console.log(`  ${name}`);
  process.exit();
}

const range = (values) => {
  const sorted = values.map(Math.round).sort((one, other) => one - other);
  const [least, middle, most] = [sorted[0], sorted[sorted.length >> 1], sorted.at(-1)];
  return least === most ? `${middle}` : `${middle} (${least}–${most})`;
};
const tell = (text) => process.stderr.write(`${text}\n`);
const of = (part) => (result) => `${result[part]}/${result.living}`;
const each = (results, column) => [...new Set(results.map(column))].join(", ");

/** The variants in which a killed process is not waited for. */
const KNOW_A_DEATH = ["claim", "claim, fail", "full"];

const lines = [];
const missed = [];
/** One cell of the table: one variant of one release in one case. */
async function cell(stage, release, row, variant) {
  const results = [];
  for (let at = 0; at < rounds; at += 1) {
    const result = await stage.play(row);
    results.push(result);
    for (const error of new Set(result.errors)) tell(`  ${error ?? "not served"}`);
    const isServed = result.served === result.living && result.next === result.living;
    const isLeft = result.later === undefined || result.later === result.living;
    const isProven = row.mustFail ? !isServed : (isServed && isLeft) || row.mayFail;
    if (variant === "full" && !isProven) missed.push(`${release.version}: ${row.name}`);
  }
  const column = (name) => range(results.map((result) => result[name]));
  const isLost = results.some(({ next, living }) => next < living);
  const cells = [
    release.version,
    row.name,
    variant,
    column("calls"),
    column("reused"),
    each(results, of("served")),
    each(results, of("next")),
    isLost ? "needed" : "no",
    column("last"),
    ...(row.meanwhile ? [column("operated"), each(results, of("later"))] : ["", ""]),
  ];
  lines.push(`| ${cells.join(" | ")} |`);
  tell(lines.at(-1));
}

function failed(release, row, error) {
  tell(`  ${release.version}, ${row.name}: ${error.message}`);
  missed.push(`${release.version}: ${row.name} could not be played`);
}

/** The rows that a variant is played in, by the fleet that they need: only one with a diff can be mixed, unless some call something else. */
function playedBy({ lacks = [] }, variant, diff) {
  const wanted = rows.filter(({ name, fleet, slow, only, theirs }) => {
    if (lacks.includes(name) || (only && !only.includes(variant))) return false;
    const isSlow = slow === "always" || (slow === "as it is" && !KNOW_A_DEATH.includes(variant));
    return (diff || fleet === "all" || theirs) && (values.slow || !isSlow);
  });
  const fleets = new Map(wanted.map(({ fleet }) => [fleet, []]));
  for (const row of wanted) fleets.get(row.fleet).push(row);
  return fleets;
}

async function prove(release, major, modules) {
  const { openclaw: original } = variantOf(modules, "as it is");
  for (const [variant, diff] of Object.entries(release.variants)) {
    if (!isWanted(values.variant, variant)) continue;
    const { openclaw, added, removed } = variantOf(modules, variant, diff);
    tell(`openclaw@${release.version}, ${variant}, Node ${major}: +${added} −${removed} lines`);
    for (const [fleet, played] of playedBy(release, variant, diff)) {
      const host = { release, node: nodeBinary(major), openclaw, original };
      const stage = await Stage.open(host, { processes, latency, fleet });
      try {
        for (const row of played)
          await cell(stage, release, row, variant).catch((error) => failed(release, row, error));
      } finally {
        await stage.close();
      }
    }
  }
}

for (const release of releases) {
  const modules = install(release);
  for (const major of values.node ?? [release.nodes.at(-1)]) await prove(release, major, modules);
}
console.log(
  [
    "| release | first call | variant | calls | token twice | served | next call | login | last agent, ms | meanwhile, ms | next login |",
    "| --- | --- | --- | --: | --: | --: | --: | --- | --: | --: | --: |",
    ...lines,
  ].join("\n"),
);
for (const cell of new Set(missed)) tell(`missed: ${cell}`);
process.exitCode = missed.length > 0 ? 1 : 0;
