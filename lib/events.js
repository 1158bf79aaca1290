const { channel } = require("node:diagnostics_channel");

const events = channel("oauth-refresh-lock");

/**
 * Publishes what happens to a key; see `OAuthRefreshLockEvent` in index.d.ts. Costs nothing when nobody listens.
 *
 * @param {string} type
 * @param {{ provider: string, profileId: string, lockPath: string, agentDir?: string }} subject
 * @param {object} [details]
 */
function publish(type, subject, details) {
  if (!events.hasSubscribers) return;
  const { provider, profileId, lockPath, agentDir } = subject;
  const at = performance.timeOrigin + performance.now();
  events.publish({ type, provider, profileId, lockPath, agentDir, at, ...details });
}

/** Publishes that a caller was given an error, whoever gave it. */
function tellFailure(caller, subject) {
  caller.promise.catch((error) => publish("failed", subject, { code: error?.code }));
}

module.exports = { publish, tellFailure };
