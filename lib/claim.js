const args = require("./arguments.js");
const { Caller } = require("./caller.js");
const { unwrap } = require("./errors.js");
const { acquire, lockTimeout } = require("./lock.js");
const { native } = require("./native.js");
const { json, resolveOAuthRefreshLockPath } = require("./policy.js");

const WHERE = ["stateDir", "lockPath", "trustedVolume", "claimId"];

/** Claims that are held: collected, one would be let go of while its owner lives. */
const held = new Set();

async function holdOAuthRefreshClaim(provider, profileId, options) {
  const given = args.optionsObject(options, "options", [...WHERE, "generation", "credential", "uncertain"]);
  const generation = args.id("generation", given.generation);
  const credential = json("credential", given.credential);
  const mayProbe = args.oneOf("uncertain", given.uncertain, ["probe", "fail"]) !== "fail";
  const { claim } = open(provider, profileId, given);
  unwrap(await claim.hold(generation, credential, mayProbe));
  return holding(claim);
}

async function awaitOAuthRefreshClaim(provider, profileId, options) {
  const given = args.optionsObject(options, "options", [...WHERE, "signal", "timeoutMs"]);
  const { claim, limits } = open(provider, profileId, given);
  const subject = { provider, profileId, lockPath: claim.lockPath() };
  const caller = new Caller(limits, async () => caller.reject(await lockTimeout(subject.lockPath)));
  if (!caller.gone) void wait(subject, claim, caller);
  return caller.promise;
}

async function wait(subject, claim, caller) {
  try {
    if (!unwrap(await claim.isOnRecord())) return caller.resolve({ state: "unknown" });
    const lock = await acquire(subject, caller, { lock: claim.lock() });
    if (!lock) return;
    const left = unwrap(await claim.takeOver(lock));
    if (!left) return caller.resolve({ state: "settled" });
    // Its caller has left, so no one else would let go of it.
    if (caller.gone) return void claim.release();
    const { mayProbe, credential } = left;
    caller.resolve({ state: "ownerDead", credential, mayProbe, ...holding(claim) });
  } catch (error) {
    caller.reject(error);
  }
}

function open(provider, profileId, { claimId, ...options }) {
  args.checkKey(provider, profileId);
  const id = args.id("claimId", claimId);
  const { stateDir, lockPath, ...limits } = args.checkedLock(options);
  const base = lockPath ?? resolveOAuthRefreshLockPath(provider, profileId, { stateDir });
  return { claim: new (native().NativeClaim)(base, id), limits };
}

function holding(claim) {
  held.add(claim);
  const end = (how) => async () => {
    held.delete(claim);
    unwrap(await claim[how]());
  };
  return { settle: end("settle"), release: end("release") };
}

module.exports = { awaitOAuthRefreshClaim, holdOAuthRefreshClaim };
