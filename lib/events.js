const { channel } = require("node:diagnostics_channel");
const { soon } = require("./caller.js");

/** How long the news of a failure waits for what its file system has to tell of the call. */
const DETAILS_MS = 250;

const events = channel("oauth-refresh-lock");

/**
 * Publishes what happens to a key; see `OAuthRefreshLockEvent` in index.d.ts. Costs nothing without a listener.
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

/** Whether there is a listener. */
const hasSubscribers = () => events.hasSubscribers;

/** Publishes that a caller got an error, from any source; once it is `known` what the call is about, if that is soon. */
function tellFailure(caller, subject, known) {
  caller.promise.catch(async (error) => {
    if (subject.key === undefined) await soon(known, DETAILS_MS);
    publish("failed", subject, { code: error?.code });
  });
}

module.exports = { hasSubscribers, publish, tellFailure };
