// Draws the README's picture, docs/storm.svg, from two runs of `oauth-refresh-lock storm`: without this package, and with it.
import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const WIDTH = 400;
const ROW = 11;
const TOP = 64;
const LEFT = 16;
const GAP = 40;
const GREEN = "#1a7f5a";
const RED = "#c93a3a";
const GREY = "#6e7781";

function storm(...options) {
  const args = [join(root, "cli", "main.mjs"), "storm", "--json", ...options];
  const { stdout, stderr } = spawnSync(process.execPath, args, { encoding: "utf8" });
  if (!stdout) throw new Error(stderr);
  return JSON.parse(stdout);
}

const runs = [
  { title: "Without", report: storm("--no-lock") },
  { title: "With oauth-refresh-lock", report: storm() },
];
const longest = Math.max(...runs.flatMap(({ report }) => report.agents.map(({ ms }) => ms)));

function panel({ title, report }, at) {
  const { calls, fresh, processes, revoked, agents } = report;
  const x = LEFT + at * (WIDTH + GAP);
  const sub = `${calls} call${calls === 1 ? "" : "s"} · ${fresh} of ${processes} agents go on${revoked ? " · the login is revoked" : ""}`;
  const bars = agents
    .toSorted((one, other) => one.ms - other.ms)
    .map(({ ms, isFresh, outcome, code }, row) => {
      const y = TOP + row * ROW;
      const width = Math.round((ms / longest) * (WIDTH - 110));
      const color = isFresh ? (outcome === "refreshed" ? GREEN : "#69b89a") : RED;
      return (
        `<rect x="${x}" y="${y}" width="${width}" height="${ROW - 3}" rx="1.5" fill="${color}"/>` +
        `<text x="${x + width + 6}" y="${y + ROW - 4}" class="s">${isFresh ? outcome : code}</text>`
      );
    });
  return [
    `<text x="${x}" y="24" class="t">${title}</text>`,
    `<text x="${x}" y="46" class="u">${sub}</text>`,
    ...bars,
  ].join("\n");
}

const height = TOP + runs[0].report.processes * ROW + 28;
const [{ report }] = runs;
const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="${2 * WIDTH + GAP + 2 * LEFT}" height="${height}" role="img">
<title>${report.processes} processes share one expired login: without and with oauth-refresh-lock</title>
<style>text{font-family:system-ui,sans-serif;fill:${GREY}}.t{font-size:16px;font-weight:600}.u{font-size:13px}.s{font-size:8.5px}</style>
${runs.map(panel).join("\n")}
<text x="${LEFT}" y="${height - 8}" class="u" style="font-size:11px">A run of ${report.processes} processes with one expired login; the provider takes ${report.latencyMs} ms. A bar for each: how long until it has a token, or an error (${Math.round(longest)} ms at most).</text>
</svg>
`;
writeFileSync(join(root, "docs", "storm.svg"), svg);
