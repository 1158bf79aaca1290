const { connections } = require("./failures.json");

/** How far the errors within an error are followed. */
const MAX_DEPTH = 8;

const FACTS = connections.map(({ message, ...fact }) => ({ ...fact, message: message && new RegExp(message) }));

/**
 * What an error says of the connection: `not_sent` if there never was one, `uncertain` if there was, or nothing. Only what the
 * runtime or the client itself sets counts: codes, classes, system calls. A message counts where the runtime gives no more, and
 * only as a whole beside its code or class; what a server or a proxy says ends up in messages as well, and proves nothing.
 *
 * @param {any} error
 * @param {any} [outer] the error that it is the cause of
 * @returns {"not_sent" | "uncertain" | undefined}
 */
function connectionOf(error, outer, depth = 0) {
  if (typeof error !== "object" || error === null) return undefined;
  // Several addresses were tried, and none answered.
  const attempts = attemptsOf(error);
  if (attempts && depth < MAX_DEPTH) {
    return attempts.every((each) => connectionOf(each, error, depth + 1) === "not_sent") ? "not_sent" : "uncertain";
  }
  const { name, code, syscall, event, message } = error;
  return FACTS.find(
    (fact) =>
      (!fact.codes || fact.codes.includes(code)) &&
      (!fact.names || fact.names.includes(name)) &&
      (!fact.within || fact.within === outer?.name) &&
      (!fact.events || fact.events.includes(event)) &&
      (!fact.syscalls || fact.syscalls.includes(syscall)) &&
      (!fact.message || (typeof message === "string" && fact.message.test(message))) &&
      // What failed was another call than that for a connection.
      (fact.syscalls || fact.message || fact.class !== "not_sent" || typeof syscall !== "string" || isLookup(syscall)),
  )?.class;
}

function isLookup(syscall) {
  return /^(?:connect$|getaddrinfo|query)/.test(syscall);
}

/** The attempts of a connection, as an `AggregateError` has them; not an answer's list of what is wrong with a request. */
function attemptsOf(error) {
  const { errors } = error;
  const isAttempt = (each) => typeof each?.syscall === "string" || typeof each?.stack === "string";
  return Array.isArray(errors) && errors.length > 0 && errors.every(isAttempt) ? errors : undefined;
}

module.exports = { attemptsOf, connectionOf };
