// What happens to a fleet whose shared login has just expired: the table's rows.

/**
 * @typedef {object} Row
 * @property {string} name
 * @property {import("./provider.mjs").Fault & { kills?: boolean, freezes?: number }} fault the process whose call it is is killed, or
 *   stands still for so many milliseconds, or until all others have been served or have failed
 * @property {"all" | "patched first" | "unpatched first" | "one unpatched" | "one unpatched later" | "worker first" |
 *   "worker later" | "rebuilt worker first" | "no addon" | "half without addon"} fleet half or one as it is, or half in a worker's
 *   single file, with the first call on either side; or a variant whose addon some can't load
 * @property {boolean} [atOnce] nobody waits for the first call
 * @property {boolean} [afterwards] everyone, or what is done meanwhile, waits for the answer
 * @property {"askStorage"} [theirs] what those as they are call instead
 * @property {boolean} [inOneStore] AuthStorage is always asked for the first agent's store, which alone has a copy
 * @property {boolean} [hasCopies] each agent has a copy of the login in its own store
 * @property {"as it is" | "always"} [slow] where agents wait for 120 s, twice: in the variants that do as the release does, or in all
 * @property {boolean} [mayFail] even with the whole refresh
 * @property {boolean} [mustFail] as the release's own path does
 * @property {readonly string[]} [only] the variants that it is for
 * @property {boolean} [isOff] the switch is off
 * @property {"login" | "onboard" | "logout" | "repair"} [meanwhile] what a process of its own does while the provider is asked
 * @property {boolean} [inOne] all agents in one process
 * @property {boolean} [forced] the token has not expired
 * @property {"askStorage"} [by] the public SDK's AuthStorage
 * @property {"personal" | "cli" | "cli-expired"} [login] a person's own, or one that another program has as well
 */

const FAULTS = {
  storm: {},
  "one 503": { status: 503 },
  "one 500": { status: 500 },
  "one 429": { status: 429 },
  "DNS fails once": { dns: true },
  "killed, unspent": { silent: true, kills: true },
  "killed, spent": { silent: true, kills: true, spent: true },
};

/** The variants with a switch. */
const SWITCHED = ["roll back", "claim", "full"];

/** Long enough to see whether somebody waits for the call. */
const SLOW = { latency: 3000 };

const row = (fault, more = {}) => {
  const { kills = false, spent = false } = FAULTS[fault];
  return {
    name: fault,
    fault: FAULTS[fault],
    fleet: "all",
    slow: kills ? "as it is" : undefined,
    mayFail: spent,
    ...more,
  };
};
const rows = (prefix, faults, more) => faults.map((fault) => row(fault, { name: `${prefix}: ${fault}`, ...more }));
const special = (name, more) => row("storm", { name, ...more });

export const ROWS = [
  ...Object.keys(FAULTS).map((fault) => row(fault)),
  ...rows("copies", ["storm", "one 503", "DNS fails once", "killed, unspent"], { hasCopies: true }),
  ...rows("half as it is, patched first", ["one 503", "DNS fails once", "killed, unspent"], { fleet: "patched first" }),
  ...rows("half as it is, unpatched first", ["storm"], { fleet: "unpatched first" }),
  ...rows("half as it is, unpatched first", ["one 503", "killed, unspent"], {
    fleet: "unpatched first",
    mayFail: true,
  }),
  special("one as it is, it first", { fleet: "one unpatched", fault: SLOW }),
  special("one as it is, ours first", { fleet: "one unpatched later", fault: SLOW }),
  special("one as it is, at once", { fleet: "one unpatched", atOnce: true }),
  special("half in the worker's file, it first", { fleet: "worker first", fault: SLOW }),
  special("half in the worker's file, it first: one 503", {
    fleet: "worker first",
    fault: FAULTS["one 503"],
    mayFail: true,
  }),
  special("half in the worker's file, ours first", { fleet: "worker later", fault: SLOW }),
  special("half in the worker's file, ours first: one 503", { fleet: "worker later", fault: FAULTS["one 503"] }),
  special("half in the rebuilt worker's file, it first", { fleet: "rebuilt worker first", fault: SLOW }),
  ...[{ hasCopies: true }, { inOneStore: true }].flatMap((more) => {
    const theirs = { theirs: "askStorage", fault: SLOW, mayFail: true, ...more };
    const name = `one as it is, its AuthStorage, ${more.inOneStore ? "one store" : "copies"}`;
    return [
      special(`${name}, first`, { fleet: "one unpatched", ...theirs }),
      special(`${name}, later`, { fleet: "one unpatched later", ...theirs }),
      special(`${name}, afterwards`, { fleet: "one unpatched later", afterwards: true, ...theirs }),
    ];
  }),
  special("AuthStorage", { by: "askStorage", hasCopies: true }),
  special("AuthStorage, no copies", { by: "askStorage" }),
  special("AuthStorage, one store", { by: "askStorage", inOneStore: true }),
  special("agents in one process", { inOne: true }),
  special("forced refresh", { forced: true }),
  special("personal profile", { login: "personal" }),
  special("external CLI has a good token", { login: "cli" }),
  special("external CLI's token has expired", { login: "cli-expired", mayFail: true }),
  special("frozen for 10 s", { fault: { freezes: 10_000 } }),
  special("frozen, unspent", { fault: { freezes: Infinity, silent: true }, slow: "always", mayFail: true }),
  special("frozen, spent", { fault: { freezes: Infinity }, slow: "always", mayFail: true }),
  special("provider never answers", { fault: { silent: true }, slow: "always", mayFail: true }),
  ...["login", "onboard", "logout", "repair"].map((meanwhile) =>
    special(`${meanwhile} meanwhile`, { meanwhile, fault: SLOW }),
  ),
  ...["login", "logout", "repair"].map((meanwhile) =>
    special(`copies: ${meanwhile} meanwhile`, { meanwhile, fault: SLOW, hasCopies: true }),
  ),
  special("logout afterwards", { meanwhile: "logout", afterwards: true }),
  special("copies: logout afterwards", { meanwhile: "logout", afterwards: true, hasCopies: true }),
  special("switched off: storm", { isOff: true, only: SWITCHED }),
  special("switched off: one 503", { isOff: true, only: SWITCHED, fault: FAULTS["one 503"], mustFail: true }),
  special("no addon", { fleet: "no addon" }),
  special("half without addon", { fleet: "half without addon" }),
];
