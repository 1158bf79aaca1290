const { OAuthRefreshLockError } = require("./errors.js");

/** A longer name than any of ours is shown by its beginning. */
const MAX_SHOWN = 40;

/**
 * Refuses what no option is named, and says which may have been meant.
 *
 * @param {string} name what the object is
 * @param {object} given
 * @param {readonly string[]} known
 * @param {{ isOpen?: boolean, functions?: readonly string[] }} [kind] `isOpen`: may have other members, but not one of ours
 *   spelled wrong; a member that is not a function is not one of our `functions` spelled wrong
 */
function refuseUnknown(name, given, known, { isOpen = false, functions = [] } = {}) {
  for (const member of Object.keys(given)) {
    if (known.includes(member)) continue;
    const meant = nearest(member, known);
    const isData = functions.includes(meant) && typeof given[member] !== "function";
    if (isOpen && (meant === undefined || meant in given || isData)) continue;
    const hint = meant === undefined ? "" : `; did you mean "${meant}"?`;
    const shown = JSON.stringify(member.slice(0, MAX_SHOWN));
    throw new OAuthRefreshLockError("invalid_argument", `${name} has no member ${shown}${hint}`);
  }
}

/** The name that differs from this one by a third of its letters at most, or contains it. */
function nearest(member, known) {
  const plain = (text) => text.replace(/[_-]/g, "").toLowerCase();
  const given = plain(member.slice(0, MAX_SHOWN));
  const isPart = (name) => given.length > 3 && plain(name).includes(given);
  const [best] = known
    .map((name) => ({ name, away: distance(given, plain(name)), most: Math.floor(name.length / 3) }))
    .filter(({ name, away, most }) => away <= most || isPart(name))
    .sort((one, other) => one.away - other.away);
  return best?.name;
}

/** How many letters have to be put in, left out or replaced to make the one of the other (Levenshtein). */
function distance(one, other) {
  let row = Array.from({ length: other.length + 1 }, (_, index) => index);
  for (const [i, letter] of [...one].entries()) {
    const next = [i + 1];
    for (let j = 0; j < other.length; j++) {
      next.push(Math.min(next[j] + 1, row[j + 1] + 1, row[j] + (letter === other[j] ? 0 : 1)));
    }
    row = next;
  }
  return row[other.length];
}

module.exports = { refuseUnknown };
