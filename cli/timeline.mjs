/** The timeline in the terminal: one line for each agent, from the start signal on. */
import { paint } from "./terminal.mjs";

const WAITED = { glyph: "░", colour: "dim", label: "waited" };
const ASKED = { glyph: "█", colour: "yellow", label: "asked the provider" };
const SAVED = { glyph: "▓", colour: "cyan", label: "saved" };
/** The last cell of a line: how it ended. */
const OUTCOMES = {
  refreshed: { glyph: "●", colour: "green", label: "refreshed" },
  adopted: { glyph: "◆", colour: "green", label: "adopted" },
  fresh: { glyph: "○", colour: "green", label: "found fresh" },
  lost: { glyph: "?", colour: "red", label: "has a dead token" },
  failed: { glyph: "✗", colour: "red", label: "failed" },
};

const draw = (cells) => Array.from(cells, (cell) => (cell ? paint(cell.colour, cell.glyph) : " ")).join("");

/** What an agent did, by column. */
function agentCells({ ms, outcome, events }, column, width) {
  const at = (type) => events.find((event) => event.type === type)?.atMs;
  const asked = at("dispatched") ?? ms;
  const saved = Math.max(asked, at("refreshed") ?? ms);
  const cells = new Array(width);
  cells.fill(WAITED, 0, column(asked) + 1);
  if (asked < ms) cells.fill(ASKED, column(asked), column(saved) + 1);
  if (saved < ms) cells.fill(SAVED, column(saved), column(ms) + 1);
  cells[column(ms)] = OUTCOMES[outcome];
  return cells;
}

/** How many calls the provider is busy with, by column: 1 to 9, `#` for more. */
function callCells(calls, column, width) {
  return Array.from({ length: width }, (_, at) => {
    const count = calls.filter(({ startMs, endMs }) => column(startMs) <= at && at <= column(endMs)).length;
    return count > 0 && { glyph: count > 9 ? "#" : String(count), colour: count > 1 ? "red" : "yellow" };
  });
}

/** Lines of at most `columns` characters. */
export function drawTimeline({ agents, calls }, columns) {
  const span = Math.max(1, ...agents.map(({ ms }) => ms), ...calls.map(({ endMs }) => endMs));
  const nameWidth = Math.max(...agents.map(({ name }) => name.length), "provider".length);
  const width = Math.max(20, columns - nameWidth - 27);
  const column = (ms) => Math.min(width - 1, Math.max(0, Math.floor((ms / span) * width)));
  const rows = agents
    .toSorted((one, other) => one.ms - other.ms)
    .map(({ name, outcome, code, ms, events }) => {
      const drawn = draw(agentCells({ outcome, ms, events }, column, width));
      const note = paint(OUTCOMES[outcome].colour, (code ?? outcome).slice(0, 13).padEnd(13));
      return `${name.padEnd(nameWidth)}  ${drawn}  ${note} ${`${Math.round(ms)} ms`.padStart(9)}`;
    });
  const legend = new Set([WAITED, ASKED, SAVED, ...agents.map(({ outcome }) => OUTCOMES[outcome])]);
  return [
    `${"provider".padEnd(nameWidth)}  ${draw(callCells(calls, column, width))}  calls at once`,
    ...rows,
    "",
    [...legend].map(({ glyph, colour, label }) => `${paint(colour, glyph)} ${label}`).join("  "),
  ].join("\n");
}
