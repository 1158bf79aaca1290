const { Caller } = require("./caller.js");
const { HostStore } = require("./host-store.js");

/** How long an answer that came after its call's limit waits for the store's own lock. */
const LATE_HOLD_MS = 30_000;

/** The stores that a host keeps by itself, for one call: its own, and the main agent's if it gave that. */
class HostStores {
  /** Sorted by name, so that all processes lock in the same order: one caller's main store may be another's own store. */
  #stores;
  #released;

  /** @param {import("./arguments.js").CheckedStore[]} given */
  constructor(given) {
    const stores = given.map((store) => new HostStore(store));
    /** For the native side. */
    this.natives = stores.map((store) => store.native);
    this.#stores = stores.toSorted((one, other) => (one.name < other.name ? -1 : 1));
  }

  /** See {@link HostStore.callFor}. */
  callFor(key) {
    for (const store of this.#stores) store.callFor(key);
  }

  /** Takes the locks that the stores' owners have. `false` if the caller gave up first. */
  async hold(profileId, caller, patient) {
    // What was released before.
    await this.#released;
    for (const store of this.#stores) if (!(await store.hold(profileId, caller, patient))) return false;
    return true;
  }

  /**
   * The same, before an answer is saved that came late: the locks were released then. If they can't be taken again, the answer
   * stays in the journal for a later call that holds them.
   */
  async holdLate(profileId) {
    const patience = new Caller({ timeoutMs: LATE_HOLD_MS }, (late) => late.resolve());
    const isHeld = await this.hold(profileId, patience, true).catch(() => false);
    patience.resolve();
    if (!isHeld) this.close();
  }

  /** Lets go of them. Settles when that is done, or takes too long. */
  release() {
    this.#released = Promise.all(this.#stores.toReversed().map((store) => store.release()));
    return this.#released;
  }

  /** Settles when they are let go of, if they are being. */
  released() {
    return this.#released;
  }

  /** Asks the stores no more. */
  close() {
    for (const store of this.#stores) store.close();
  }

  /** Whether there may be an answer to save: for that no store is waited for longer than it takes to know that it is busy. */
  set isSaving(isSaving) {
    for (const store of this.#stores) store.isSaving = isSaving;
  }

  /** See {@link HostStore.sharedLoads}. */
  set sharedLoads(sharedLoads) {
    for (const store of this.#stores) store.sharedLoads = sharedLoads;
  }

  /** Why a caller has waited in vain, if that is a store's doing. */
  get delay() {
    return this.#stores.map((store) => store.delay).find(Boolean);
  }

  /** See {@link HostStore.explain}. */
  explain(error) {
    for (const store of this.#stores) store.explain(error);
  }
}

module.exports = { HostStores };
