/** The main figures as bars, readable on light and on dark. */
import { situation } from "./cases/storm.mjs";
import { middle, short } from "./figures.mjs";

const PANELS = [
  {
    name: "storm",
    what: situation({ agents: 20, processes: 20 }, 200),
    key: "last",
    title: "The storm: 20 processes, 200 ms provider. Last agent fresh, ms",
  },
  { name: "handoff", what: "20 processes", key: "p50", title: "Hand-off among 20 processes, p50, µs" },
  {
    name: "killed",
    what: "SIGKILL of the holder to the next owner",
    key: "p50",
    title: "Killed holder to the next owner, p50, ms",
  },
  { name: "pair", what: "lock and unlock", key: "p50", title: "A free lock: lock and unlock, p50, µs" },
];

const WIDTH = 760;
const LABEL_WIDTH = 250;
const BAR_WIDTH = 420;
const LINE = 22;
const GAP = 26;

const escaped = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");

/** @returns {string | undefined} an SVG image, if any of its figures were measured */
export function drawChart(results) {
  const panels = PANELS.map(({ name, what, key, title }) => {
    const rows = results.find((one) => one.case.name === name)?.rows ?? [];
    const bars = rows
      .filter((row) => row.what === what && !row.reason)
      .map((row) => ({ who: row.who, value: middle(row, key) }))
      .filter(({ value }) => value > 0);
    return { title, bars };
  }).filter(({ bars }) => bars.length > 1);
  if (panels.length === 0) return undefined;

  let y = 20;
  const parts = [];
  for (const { title, bars } of panels) {
    parts.push(text(12, y, "title", title));
    y += LINE;
    const width = scale(bars.map(({ value }) => value));
    for (const { who, value } of bars) {
      const kind = who.startsWith("ours") ? "ours" : "other";
      parts.push(
        `<text class="label" x="${LABEL_WIDTH}" y="${y}">${escaped(who)}</text>`,
        `<rect class="${kind}" x="${LABEL_WIDTH + 8}" y="${y - 12}" width="${width(value)}" height="15" rx="2"/>`,
        text(LABEL_WIDTH + 14 + width(value), y, "value", short(value)),
      );
      y += LINE;
    }
    y += GAP;
  }
  parts.push(text(12, y - 8, "note", "Logarithmic: each bar begins at half of the least figure. Shorter is better."));
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${y + 6}" role="img" aria-label="Benchmarks">
${STYLE}
${parts.join("\n")}
</svg>
`;
}

/** How long a bar is, in pixels. */
function scale(values) {
  const least = Math.min(...values) / 2;
  const span = Math.log(Math.max(...values) / least);
  return (value) => Math.round((Math.log(value / least) / span) * BAR_WIDTH);
}

const text = (x, y, kind, words) => `<text class="${kind}" x="${x}" y="${y}">${escaped(words)}</text>`;

const STYLE = `<style>
  text { font: 13px system-ui, sans-serif; fill: #1f2328; }
  .title { font-weight: 600; }
  .label { text-anchor: end; }
  .note { font-size: 11px; fill: #59636e; }
  .ours { fill: #1a7f5a; }
  .other { fill: #9aa4af; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; }
    .note { fill: #9198a1; }
    .ours { fill: #3fb984; }
    .other { fill: #6e7681; }
  }
</style>`;
