const { phrases } = require("../failures.json");
const { attemptsOf, connectionOf } = require("./connection.js");
const { OAuthRefreshLockError } = require("./errors.js");
const { bodiesOf, causes, evidenceOf } = require("./evidence.js");
const { native } = require("./native.js");

/**
 * @typedef {object} RefreshFailure how a provider call failed; the class decides what the next caller may do
 * @property {"not_sent" | "answered_unspent" | "answered_dead" | "uncertain"} class
 * @property {number} [retryAfterMs] for how long everyone waits because the provider asked for it
 */

/** The classes, the one first that leaves least in doubt. */
const CLASSES = ["not_sent", "answered_unspent", "answered_dead", "uncertain"];
const REUSE_PHRASES = phrases.flatMap((fact) => fact.phrases);

/**
 * Classifies what a refresh function threw. What can't be told is uncertain: the provider may have rotated. Never rejects.
 *
 * @param {unknown} error
 * @param {(error: unknown) => unknown} [own] the host's option `classify`
 * @returns {Promise<RefreshFailure>}
 */
async function classify(error, own) {
  const theirs = askHost(error, own);
  let ours;
  try {
    ours = await classified(error);
  } catch {
    // An error that throws when it is looked at tells nothing.
    ours = { class: "uncertain" };
  }
  if (theirs === undefined || theirs === ours.class) return ours;
  return { class: theirs };
}

/** The host's word, if it has one. Whatever else comes of asking it leaves the word to us. */
function askHost(error, own) {
  try {
    const theirs = own?.(error);
    return CLASSES.includes(theirs) ? theirs : undefined;
  } catch {
    return undefined;
  }
}

async function classified(error) {
  const chain = causes(error);
  // A call of ours, made inside a refresh function.
  const known = chain.find((one) => one instanceof OAuthRefreshLockError && one.refreshFailure)?.refreshFailure;
  if (known) return { ...known };
  const { retryAfterMs, ...evidence } = await evidenceOf(error);
  const connection = chain
    .toReversed()
    .map(connectionOf)
    .find((found) => found !== undefined);
  const attempts = chain.map((one) => attemptsOf(one)).find((found) => found !== undefined);
  const found = native().classifyFailure({ ...evidence, retryAfterMs, neverConnected: connection === "not_sent" });
  if (found.class === "uncertain" && evidence.status === undefined && attempts) return worstOf(attempts);
  const failure = { class: found.class };
  if (found.retryAfterMs != null) failure.retryAfterMs = found.retryAfterMs;
  return failure;
}

/** Of several errors the one that leaves most in doubt. */
async function worstOf(errors) {
  const all = await Promise.all(errors.map((each) => classified(each)));
  return all.reduce((worst, one) => (CLASSES.indexOf(one.class) > CLASSES.indexOf(worst.class) ? one : worst));
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

module.exports = { classify, isRefreshTokenReusedError };
