const { phrases } = require("./failures.json");
const { attemptsOf, connectionOf } = require("./connection.js");
const { bodiesOf, causes, evidenceOf } = require("./evidence.js");
const { native } = require("./native.js");

/**
 * @typedef {object} RefreshFailure how a provider call failed; the class decides what the next caller may do
 * @property {"not_asked" | "not_sent" | "answered_unspent" | "answered_dead" | "uncertain"} class
 * @property {number} [retryAfterMs] for how long everyone waits because the provider asked for it
 */

/** The classes, the one first that leaves least in doubt. Only a host says that it has not asked. */
const CLASSES = ["not_asked", "not_sent", "answered_unspent", "answered_dead", "uncertain"];
/** What fetch says of a connection, where a host's words have taken its error's place and the cause is gone. */
const BARE_FETCH = /(?:^|: )fetch failed$/;
/** How far errors within an error are followed, and how many of them. */
const MAX_DEPTH = 3;
const MAX_ATTEMPTS = 16;
const REUSE_PHRASES = phrases.flatMap((fact) => fact.phrases);

/**
 * Classifies what a refresh function threw. In doubt it is uncertain: the provider may have rotated. Never rejects.
 *
 * @param {unknown} error
 * @param {(error: any) => unknown} [own] the host's option `classify`
 * @returns {Promise<RefreshFailure>}
 */
async function classify(error, own) {
  return (await lookAt(error, own)).failure;
}

/**
 * The same, and whether an answer came, even a gateway's: then every caller waits before it is asked again; whether it may work
 * in a moment, without help; and whether the network or the provider failed, not the function.
 */
async function lookAt(error, own) {
  const theirs = askHost(error, own);
  let ours;
  try {
    ours = await findingOf(error);
  } catch {
    // An error that throws when it is looked at tells nothing.
    ours = { class: "uncertain" };
  }
  const failure = { class: theirs ?? ours.class };
  if (failure.class !== "answered_dead" && ours.pauseMs != null) failure.retryAfterMs = ours.pauseMs;
  // What others call unspent is temporary, unless we know better.
  const isTemporary = ours.class === "answered_unspent" ? ours.isTemporary : true;
  return {
    failure,
    isAnswer: ours.isAnswer ?? false,
    isTemporary,
    isNetworkOrProvider: ours.isNetworkOrProvider ?? false,
  };
}

/** The host's word, if it has one. Whatever else comes of asking it, be it a promise, leaves the word to us. */
function askHost(error, own) {
  try {
    const theirs = own?.(error);
    // We ignore it, and an unhandled rejection ends the process.
    if (typeof theirs?.then === "function") Promise.resolve(theirs).catch(() => {});
    return CLASSES.includes(theirs) ? theirs : undefined;
  } catch {
    return undefined;
  }
}

/** What an error is marked with: by the host itself, or by a call of ours that was made inside a refresh function. */
function markOf(chain) {
  const marks = chain.map((one) => one.refreshFailure);
  const mark = marks.find((failure) => CLASSES.includes(failure?.class));
  if (!mark) return undefined;
  const { class: failureClass, retryAfterMs: asked } = mark;
  return { class: failureClass, ...(typeof asked === "number" && asked >= 0 && { retryAfterMs: asked }) };
}

/** The class, and the pause that the provider asked for. */
async function findingOf(error, depth = 0) {
  const chain = causes(error);
  const mark = markOf(chain);
  const evidence = await evidenceOf(error);
  // The innermost one is nearest to the wire.
  const connections = chain.map((one, at) => connectionOf(one, chain[at - 1]));
  const connection = connections.findLast((found) => found !== undefined);
  const found = native().classifyFailure({
    ...evidence,
    retryAfterMs: mark?.retryAfterMs ?? evidence.retryAfterMs,
    neverConnected: connection === "not_sent",
    connectionLost: connection === "uncertain",
  });
  const isNetworkOrProvider =
    (evidence.status ?? evidence.toldStatus ?? connection) !== undefined ||
    BARE_FETCH.test(evidence.messages.at(-1) ?? "");
  const finding = { ...found, isNetworkOrProvider };
  if (mark)
    return { ...finding, class: mark.class, isTemporary: found.class !== "answered_unspent" || found.isTemporary };
  if (finding.class !== "uncertain" || evidence.status !== undefined || depth === MAX_DEPTH) return finding;
  const attempts = chain.map((one) => attemptsOf(one)).find((found) => found !== undefined) ?? [];
  // A client that has tried so often has not asked once.
  if (attempts.length === 0 || attempts.length > MAX_ATTEMPTS) return finding;
  const findings = await Promise.all(attempts.map((each) => findingOf(each, depth + 1)));
  return findings.reduce(worse);
}

/** Of two findings the one that leaves more in doubt. */
function worse(one, other) {
  return CLASSES.indexOf(other.class) > CLASSES.indexOf(one.class) ? other : one;
}

function isRefreshTokenReusedError(error) {
  try {
    const words = causes(error).map(wordsOf).join("\n").toLowerCase();
    return REUSE_PHRASES.some((phrase) => words.includes(phrase));
  } catch {
    return false;
  }
}

/** What an error says of itself. */
function wordsOf(one) {
  const said = [one, one.message, one.error_description, one.code, ...bodiesOf(one)];
  for (const body of bodiesOf(one))
    said.push(body.error, body.error?.message, body.error?.code, body.error_description);
  return said.filter((word) => typeof word === "string").join("\n");
}

module.exports = { classify, isRefreshTokenReusedError, lookAt };
