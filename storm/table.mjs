/**
 * The table under the timeline: the numbers, and the verdict on them.
 */

/** @param {number | null} value @param {string} unit @param {number} [digits] */
const figure = (value, unit, digits = 0) => (value === null ? "–" : `${value.toFixed(digits)}${unit}`);

/**
 * @param {import("./report.mjs").StormReport} report
 * @returns {string}
 */
export function drawTable(report) {
  const { options, server, stores } = report;
  const rows = [
    ["calls the server counted", server.calls],
    ["distinct tokens served to agents", report.distinctTokens],
    ["issued tokens still honoured", `${server.liveAccessTokens} of ${server.accessTokens}`],
    ["reuse errors", server.reuseErrors],
    ["grant", server.grant],
    ["agents served", `${report.served} of ${options.agents}`],
    ...(stores ? [["stores as they should be", `${stores.checked - stores.faults} of ${stores.checked}`]] : []),
    ["time to the last agent", figure(report.lastMs, " ms")],
    ["the server's own answer time, median", figure(server.answerMs, " ms")],
    ["ratio", figure(report.ratio, "", 2)],
  ];
  const width = Math.max(...rows.map(([label]) => String(label).length));
  return rows.map(([label, value]) => `${String(label).padEnd(width)}  ${value}`).join("\n");
}

/**
 * One call, one token, everyone served; or what was not so.
 *
 * @param {import("./report.mjs").StormReport} report
 * @returns {string}
 */
export function drawVerdict({ ok, faults, options, agents }) {
  if (ok) return "One call, one token, everyone served.";
  const codes = new Map();
  for (const { code } of agents) if (code) codes.set(code, (codes.get(code) ?? 0) + 1);
  const lines = faults.slice(0, 10).map((fault) => `- ${fault}`);
  if (faults.length > 10) lines.push(`- and ${faults.length - 10} more`);
  if (codes.size > 0) {
    const list = [...codes].map(([code, count]) => `${count} × ${code}`).join(", ");
    lines.push(`- what the agents were told: ${list}`);
  }
  const head = options.lock
    ? "Not one call, one token, everyone served:"
    : "This is the expected picture of a storm: every agent used the same refresh token,\n" +
      "the server took the second use for theft and revoked the login.";
  return `${head}\n${lines.join("\n")}`;
}
