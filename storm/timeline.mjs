/**
 * The timeline in the terminal: one line for each agent, from the start signal on.
 */

/** @typedef {import("./report.mjs").AgentTimes} AgentTimes */

/** SGR colours. */
const COLOURS = { dim: 2, red: 31, green: 32, yellow: 33, cyan: 36 };

const WAITED = { glyph: "░", colour: "dim", label: "waited" };
const ASKED = { glyph: "█", colour: "yellow", label: "asked the server" };
const SAVED = { glyph: "▓", colour: "cyan", label: "saved" };
/** The last cell of a line: how it ended. */
const OUTCOMES = {
  refreshed: { glyph: "●", colour: "green", label: "refreshed" },
  adopted: { glyph: "◆", colour: "green", label: "adopted" },
  fresh: { glyph: "○", colour: "green", label: "found fresh" },
  none: { glyph: "?", colour: "red", label: "got nothing" },
  failed: { glyph: "✗", colour: "red", label: "failed" },
};

/** @typedef {keyof typeof COLOURS} Colour */
/** @typedef {{ glyph: string, colour: string }} Cell */

/** Whether to colour what is written to a stream. @param {import("node:tty").WriteStream} stream */
export const wantsColour = (stream) => Boolean(stream.isTTY) && !process.env.NO_COLOR && process.env.TERM !== "dumb";

/** @param {boolean} colour */
const painter = (colour) => (/** @type {string} */ name, /** @type {string} */ text) =>
  colour ? `\x1b[${COLOURS[/** @type {Colour} */ (name)]}m${text}\x1b[0m` : text;

/**
 * Cells as text, each run of one colour painted at once.
 *
 * @param {(Cell | undefined)[]} cells
 * @param {number} width
 * @param {ReturnType<typeof painter>} paint
 */
function drawCells(cells, width, paint) {
  let text = "";
  for (let from = 0, to = 0; from < width; from = to) {
    const tint = cells[from]?.colour;
    let run = "";
    for (; to < width && cells[to]?.colour === tint; to += 1) run += cells[to]?.glyph ?? " ";
    text += tint ? paint(tint, run) : run;
  }
  return text;
}

/** A round distance for about five ticks. @param {number} span */
function tickStep(span) {
  const rough = span / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  return power * /** @type {number} */ ([1, 2, 5, 10].find((factor) => factor * power >= rough));
}

/**
 * The axis: labels, and a rule with a tick under the first digit of each.
 *
 * @param {number} span milliseconds
 * @param {number} columns
 */
function axis(span, columns) {
  const step = tickStep(span);
  let labels = "";
  const rule = Array(columns).fill("─");
  for (let tick = 0; tick <= span; tick += step) {
    const column = Math.floor((tick / span) * (columns - 1));
    const label = String(Number(tick.toPrecision(6)));
    rule[column] = "┬";
    if (labels === "" || column > labels.length) labels = labels.padEnd(column) + label;
  }
  return { labels: `${labels} ms`, rule: rule.join("") };
}

/**
 * @param {AgentTimes} agent
 * @param {(ms: number) => number} column
 * @returns {(Cell | undefined)[]}
 */
function agentCells(agent, column) {
  const at = (/** @type {string} */ type) => agent.events.find((event) => event.type === type)?.atMs;
  const asked = at("dispatched") ?? agent.endMs;
  const saved = Math.max(asked, at("refreshed") ?? agent.endMs);
  /** @type {(Cell | undefined)[]} */
  const cells = [];
  const fill = (/** @type {Cell} */ cell, /** @type {number} */ from, /** @type {number} */ to) => {
    for (let index = column(from); index <= column(to); index += 1) cells[index] = cell;
  };
  fill(WAITED, agent.startMs, asked);
  if (asked < agent.endMs) fill(ASKED, asked, saved);
  if (saved < agent.endMs) fill(SAVED, saved, agent.endMs);
  cells[column(agent.endMs)] = OUTCOMES[agent.outcome];
  return cells;
}

/**
 * How many calls the server is busy with, by column.
 *
 * @param {{ startMs: number, endMs: number }[]} calls
 * @param {(ms: number) => number} column
 * @returns {(Cell | undefined)[]}
 */
function callCells(calls, column) {
  /** @type {(Cell | undefined)[]} */
  const cells = [];
  const counts = calls.reduce((/** @type {number[]} */ sums, { startMs, endMs }) => {
    for (let index = column(startMs); index <= column(endMs); index += 1) {
      sums[index] = (sums[index] ?? 0) + 1;
    }
    return sums;
  }, []);
  counts.forEach((count, index) => {
    cells[index] = { glyph: count > 9 ? "#" : String(count), colour: count > 1 ? "red" : "yellow" };
  });
  return cells;
}

/**
 * Draws the timeline.
 *
 * @param {object} run
 * @param {AgentTimes[]} run.agents
 * @param {{ startMs: number, endMs: number }[]} run.calls
 * @param {{ columns?: number, colour?: boolean }} [options]
 * @returns {string} lines of at most `columns` characters
 */
export function drawTimeline({ agents, calls }, { columns = 80, colour = false } = {}) {
  const paint = painter(colour);
  const order = agents.toSorted((a, b) => a.endMs - b.endMs);
  const span = Math.max(1, ...agents.map(({ endMs }) => endMs), ...calls.map(({ endMs }) => endMs));
  const nameWidth = Math.max("server".length, ...agents.map(({ name }) => name.length));
  const timeWidth = `${Math.round(span)} ms`.length;
  const noteWidth = Math.max(...agents.map(({ outcome }) => OUTCOMES[outcome].label.length));
  const width = Math.max(20, columns - nameWidth - noteWidth - timeWidth - 6);
  const column = (/** @type {number} */ ms) => Math.min(width - 1, Math.max(0, Math.floor((ms / span) * width)));

  const { labels, rule } = axis(span, width);
  const margin = " ".repeat(nameWidth + 2);
  const server = drawCells(callCells(calls, column), width, paint);
  const rows = order.map((agent) => ({ agent, cells: agentCells(agent, column) }));
  const drawn = new Set(rows.flatMap(({ cells }) => cells));
  const legend = [WAITED, ASKED, SAVED, ...Object.values(OUTCOMES)].filter((cell) => drawn.has(cell));
  return [
    margin + labels,
    margin + paint("dim", rule),
    `${"server".padEnd(nameWidth)}  ${server}  calls`,
    ...rows.map(({ agent: { name, outcome, endMs }, cells }) => {
      const { label, colour: tint } = OUTCOMES[outcome];
      const time = `${Math.round(endMs)} ms`.padStart(timeWidth);
      const note = paint(tint, label.padEnd(noteWidth));
      return `${name.padEnd(nameWidth)}  ${drawCells(cells, width, paint)}  ${note}  ${time}`;
    }),
    "",
    legend.map(({ glyph, colour: tint, label }) => `${paint(tint, glyph)} ${label}`).join("  "),
    "server: calls at once, 1 to 9, # for more",
  ].join("\n");
}
