/**
 * What happened in a storm, and what of it should not have.
 */

/**
 * @typedef {object} AgentTimes times in milliseconds after the start signal
 * @property {string} name
 * @property {number} pid
 * @property {"fresh" | "adopted" | "refreshed" | "none" | "failed"} outcome
 * @property {number} startMs
 * @property {number} endMs
 * @property {string} [accessDigest]
 * @property {string} [mirror]
 * @property {string} [code]
 * @property {{ type: string, atMs: number }[]} events
 *
 * @typedef {object} Found
 * @property {{ agents: number, inProcess: boolean, latencyMs: number, lock: boolean }} options
 * @property {number} start the start signal, in milliseconds since the epoch
 * @property {import("./fleet.mjs").AgentRecord[]} records
 * @property {string[]} crashes how processes ended that did not end well
 * @property {import("./provider.mjs").Stats} stats
 * @property {boolean} grantAlive
 * @property {{ faults: string[], accessDigest: string, accessValid: boolean, refreshUnused: boolean } | null} stores
 *   `null` where nobody was to write them
 *
 * @typedef {ReturnType<typeof drawUp>} StormReport
 */

/** @param {number[]} values at least one */
function median(values) {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** To a microsecond; more is noise. @param {number} ms */
const rounded = (ms) => Math.round(ms * 1000) / 1000;

/**
 * Everything that was not "one call, one token, everyone served", a line each.
 *
 * @param {Found} found
 * @param {Set<string | undefined>} tokens
 * @param {number} served
 */
function findFaults({ options: { agents }, crashes, stats, grantAlive, stores }, tokens, served) {
  /** @type {[boolean, string][]} */
  const expectations = [
    [stats.refreshCalls === 1, `the server counted ${stats.refreshCalls} calls, not 1`],
    [tokens.size === 1, `the agents were given ${tokens.size} different tokens, not 1`],
    [served === agents, `${agents - served} of ${agents} agents were not served`],
    [stats.reuseErrors === 0, `the server answered ${stats.reuseErrors} reuse errors`],
    [stats.otherErrors === 0, `the server answered ${stats.otherErrors} other errors`],
    [grantAlive, "the grant was revoked"],
  ];
  if (stores) {
    expectations.push(
      [tokens.has(stores.accessDigest), "the main store holds another token than was served"],
      [stores.accessValid, "the main store's access token is dead"],
      [stores.refreshUnused, "the main store's refresh token is spent"],
    );
  }
  return [
    ...expectations.filter(([held]) => !held).map(([, fault]) => fault),
    ...crashes.map((how) => `an agent's process ended badly: ${how}`),
    ...(stores?.faults ?? []),
  ];
}

/**
 * Draws up the report. It holds no token, only digests.
 *
 * @param {Found} found
 */
export function drawUp(found) {
  const { options, start, records, stats, grantAlive, stores } = found;
  const sinceStart = (/** @type {number} */ at) => rounded(at - start);
  const calls = stats.calls.map(({ start: from, end = from, ...rest }) => ({
    startMs: sinceStart(from),
    endMs: sinceStart(end),
    ...rest,
  }));
  /** @type {AgentTimes[]} */
  const agents = records.map(({ start: from, end, events, ...rest }) => ({
    ...rest,
    startMs: sinceStart(from),
    endMs: sinceStart(end),
    events: events.map(({ type, at }) => ({ type, atMs: sinceStart(at) })),
  }));
  const served = agents.filter(({ accessDigest }) => accessDigest);
  const tokens = new Set(served.map(({ accessDigest }) => accessDigest));
  const answerMs = calls.length ? rounded(median(calls.map(({ startMs, endMs }) => endMs - startMs))) : null;
  const lastMs = Math.max(...agents.map(({ endMs }) => endMs));
  const faults = findFaults(found, tokens, served.length);

  return {
    ok: faults.length === 0,
    faults,
    options,
    server: {
      calls: stats.refreshCalls,
      refreshed: stats.refreshed,
      reuseErrors: stats.reuseErrors,
      otherErrors: stats.otherErrors,
      grant: grantAlive ? "alive" : "revoked",
      accessTokens: stats.accessTokens,
      liveAccessTokens: stats.liveAccessTokens,
      answerMs,
    },
    served: served.length,
    distinctTokens: tokens.size,
    lastMs,
    ratio: answerMs ? rounded(lastMs / answerMs) : null,
    stores: stores && { checked: options.agents + 1, faults: stores.faults.length },
    calls,
    agents,
  };
}
