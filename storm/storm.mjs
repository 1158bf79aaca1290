/**
 * `npm run storm`: many agents, one expired login, a real OAuth server.
 */
import { parseArgs } from "node:util";
import { runStorm } from "./run.mjs";
import { drawTable, drawVerdict } from "./table.mjs";
import { drawTimeline, wantsColour } from "./timeline.mjs";

const HELP = `Usage: npm run storm -- [options]

Lets many agents find the same expired OAuth login at once, on a real OAuth 2.0
server whose refresh tokens are good for one use: a second use revokes the login.

  --agents N     how many agents, 1 to 200, in one process 1000 (default 20)
  --in-process   all agents in one process, instead of a process each
  --latency MS   how long the server takes to answer a refresh, 0 to 60000
                 (default 200)
  --json         one JSON object on standard output, and nothing else
                 (with npm run --silent, for npm prints a line of its own)
  --no-lock      without oauth-refresh-lock, to see the storm
  --help         this text

Exit code: 0 if exactly one call was made, everyone was served the one token, the
login is alive and every store is in order; 1 if not; 2 for a bad option.
`;

/** Exit codes of processes that a signal ended. */
const SIGNALS = { SIGHUP: 129, SIGINT: 130, SIGTERM: 143 };

class UsageError extends Error {}

/** @param {string} name @param {string} text @param {number} least @param {number} most */
function wholeNumber(name, text, least, most) {
  const value = /^\d{1,9}$/.test(text) ? Number(text) : Number.NaN;
  if (value >= least && value <= most) return value;
  throw new UsageError(`--${name} takes a whole number from ${least} to ${most}, not "${text}"`);
}

/** @param {string[]} args */
function readOptions(args) {
  let values;
  try {
    ({ values } = parseArgs({
      args,
      options: {
        agents: { type: "string", default: "20" },
        "in-process": { type: "boolean", default: false },
        latency: { type: "string", default: "200" },
        json: { type: "boolean", default: false },
        "no-lock": { type: "boolean", default: false },
        help: { type: "boolean", default: false },
      },
    }));
  } catch (error) {
    const [line] = /** @type {Error} */ (error).message.split(/\n|\. /);
    throw new UsageError(line.replace(/\.$/, ""));
  }
  const most = values["in-process"] ? 1000 : 200;
  return {
    agents: wholeNumber("agents", values.agents, 1, most),
    inProcess: values["in-process"],
    latencyMs: wholeNumber("latency", values.latency, 0, 60_000),
    json: values.json,
    lock: !values["no-lock"],
    help: values.help,
  };
}

/** One line that is written over itself, for people who watch. @param {import("node:tty").WriteStream} stream */
function statusLine(stream) {
  let shown = "";
  const write = (/** @type {string} */ text) => {
    if (text !== shown) stream.write(`\r\x1b[2K${text}`);
    shown = text;
  };
  return {
    /** @param {import("./run.mjs").Progress} progress */
    show({ phase, ready, processes, settled, agents, calls }) {
      const parts = [phase];
      if (processes > 0) parts.push(`ready ${ready}/${processes}`);
      if (phase === "storm") parts.push(`calls ${calls}`, `served ${settled}/${agents}`);
      write(parts.join(" · "));
    },
    clear: () => write(""),
  };
}

/** @param {import("./report.mjs").StormReport} report */
function drawReport(report) {
  const { agents, inProcess, latencyMs, lock } = report.options;
  const count = `${agents} ${agents === 1 ? "agent" : "agents"}`;
  const where = inProcess ? "in one process" : agents === 1 ? "in a process" : "in a process each";
  const columns = Math.min(80, process.stdout.columns || 80);
  const colour = wantsColour(process.stdout);
  return [
    `${count} ${where}, ${lock ? "with the lock" : "WITHOUT the lock"}; the server answers in ${latencyMs} ms`,
    "",
    drawTimeline(report, { columns, colour }),
    "",
    drawTable(report),
    "",
    drawVerdict(report),
    "",
  ].join("\n");
}

/** @param {string[]} args @returns {Promise<number>} the exit code */
async function main(args) {
  const { help, json, ...options } = readOptions(args);
  if (help) {
    process.stdout.write(HELP);
    return 0;
  }

  const interruption = new AbortController();
  let exitCode = 1;
  for (const [name, code] of Object.entries(SIGNALS)) {
    process.on(name, () => {
      if (interruption.signal.aborted) return;
      exitCode = code;
      interruption.abort();
    });
  }
  const status = statusLine(process.stderr);
  try {
    const report = await runStorm({
      ...options,
      signal: interruption.signal,
      ...(process.stderr.isTTY && { onProgress: status.show }),
    });
    status.clear();
    interruption.signal.throwIfAborted();
    process.stdout.write(json ? `${JSON.stringify(report)}\n` : drawReport(report));
    return report.ok ? 0 : 1;
  } catch (error) {
    status.clear();
    if (interruption.signal.aborted) return exitCode;
    throw error;
  }
}

process.stdout.on("error", (error) => {
  // The reader has seen enough.
  if (/** @type {NodeJS.ErrnoException} */ (error).code !== "EPIPE") throw error;
});
try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  const { message, code } = /** @type {Error & { code?: string }} */ (error);
  const hint = error instanceof UsageError ? " (see --help)" : code ? ` (${code})` : "";
  process.stderr.write(`storm: ${message}${hint}\n`);
  process.exitCode = error instanceof UsageError ? 2 : 1;
}
