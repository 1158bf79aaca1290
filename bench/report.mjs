/** The page: what was measured where, what was aimed at, and a table for each case. */
import os from "node:os";
import { judge } from "./aims.mjs";
import { range, ratio, short } from "./figures.mjs";
import { FLOOR } from "./table.mjs";

const OURS = "ours";

/**
 * @param {Map<string, string>} page.versions of the peers
 * @param {boolean} page.isShort whether it shows what most people want to know, or all
 */
export function drawPage({ results, versions, hasChart, isShort }) {
  const parts = ["# Benchmarks", intro(versions)];
  if (hasChart) parts.push("![The main figures as bars](benchmarks.svg)");
  const aims = judge(results);
  if (aims.length > 0) {
    const why = "[performance.md](performance.md) says why some are missed, with profiles.";
    parts.push("## What we aim at", why, table(["Aim", "Found", ""], aims));
  }
  for (const { case: one, rows } of results) {
    const shown = isShort ? rows.filter(({ what }) => one.isBrief?.(what)) : rows;
    if (shown.length > 0) parts.push(`## ${one.title}`, one.about, ...drawCase(one, shown));
  }
  return `${parts.join("\n\n")}\n`;
}

function intro(versions) {
  const [cpu] = os.cpus();
  const memory = Math.round(os.totalmem() / 2 ** 30);
  const machine = `${os.cpus().length} × ${cpu?.model.trim() ?? "an unknown processor"}, ${memory} GiB, ${os.type()} ${os.release()}`;
  const peers = [...versions].map(([name, version]) => `${name} ${version}`).join(", ");
  return [
    "Written by `npm run bench`; run it to repeat this on your machine. Everything was measured in one run, in rounds in which",
    "the contenders took turns: a figure is the median round, with the best and the worst beside it. Ratios are taken round by",
    "round, so that what else the machine did hits both sides. The floor is the same system calls from a small Rust program.",
    "The run writes all its figures to `target/bench/all.md`; this page shows what most people want to know.",
    "",
    `${new Date().toISOString().slice(0, 10)} · ${machine} · Node ${process.versions.node}${peers && ` · ${peers}`}`,
  ].join("\n");
}

function drawCase({ columns }, rows) {
  const [first] = columns;
  const whats = [...new Set(rows.map(({ what }) => what))];
  return whats.flatMap((what) => {
    const shown = rows.filter((row) => row.what === what);
    const bases = [FLOOR, OURS].flatMap(
      (name) => shown.find(({ who, reason }) => who.startsWith(name) && !reason) ?? [],
    );
    const head = ["", ...columns.map(({ title, unit }) => (unit ? `${title}, ${unit}` : title))];
    const body = shown.map((row) => {
      if (row.reason) return [row.who, `not available: ${row.reason}`];
      const times = bases.map((base) => `${short(ratio(row.figures[first.key], base.figures[first.key]))} ×`);
      return [row.who, ...columns.map(({ key }) => range(row.figures[key])), ...times];
    });
    return [`**${what}**`, table([...head, ...bases.map(({ who }) => `to ${who}`)], body)];
  });
}

function table(head, rows) {
  const line = (cells) => `| ${head.map((_, at) => cells[at] ?? "").join(" | ")} |`;
  const rule = head.map((_, at) => (at === 0 ? "---" : "--:"));
  return [line(head), line(rule), ...rows.map(line)].join("\n");
}
