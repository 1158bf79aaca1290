import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { isSafeToCopyOAuthIdentity } from "../index.mjs";
import { Random } from "./support/random.mjs";

const vectors = JSON.parse(readFileSync(new URL("vectors/identity-gate.json", import.meta.url), "utf8"));

const PAIRS = 60_000;
const LAST_CODE_POINT = 0x10ffff;

/** The rule, in the language whose `trim()` and `toLowerCase()` it is defined by. */
function reference(existing, incoming) {
  const evidence = (value, normalise) => {
    if (value == null) return undefined;
    if (typeof value !== "string") return JSON.stringify([value]);
    return normalise(value.trim()) || undefined;
  };
  return [
    ["accountId", (text) => text],
    ["email", (text) => text.toLowerCase()],
  ].every(([field, normalise]) => {
    const kept = evidence(existing[field], normalise);
    return kept === undefined || kept === evidence(incoming[field], normalise);
  });
}

const SPACES = ["", "", "", " ", "\t", "\u00a0", "\ufeff", "\u2028", "\u3000", "\u0085", "\u200b", "\u180e", "\u001c"];
const PIECES = [
  ..."aAbBzZ09@.'’-·:",
  ..."ΣσςΑαİiıIßẞſKkéÉ",
  ..."\u0301\u0307\u0345\u00ad\u200d\u{1f600}",
  "\u{10400}\u{10428}",
  "Ǆǅǆ",
];
const NOT_TEXT = [undefined, null, 0, 1, -0, 1.5, true, false, [], ["a"], {}, { a: 1 }];

function identities(random) {
  const field = (base) => {
    switch (random.below(8)) {
      case 0:
        return undefined;
      case 1:
        return random.of(NOT_TEXT);
      case 2:
        return random.of(SPACES);
      case 3:
        return random.text(PIECES, 4);
      default: {
        // The same thing, said in another way.
        const cased = random.of([base, base, base.toLowerCase(), base.toUpperCase(), base.normalize("NFD")]);
        return `${random.of(SPACES)}${cased}${random.of(SPACES)}`;
      }
    }
  };
  const [accountId, email] = [random.text(PIECES, 5), random.text(PIECES, 5)];
  const identity = () => ({ accountId: field(accountId), email: field(email), other: random.below(3) });
  return [identity(), identity()];
}

function faultsOf(check) {
  const random = new Random(0x9a7e);
  const faults = [];
  for (let count = 0; count < PAIRS; count++) {
    const [existing, incoming] = identities(random);
    if (!check(existing, incoming)) faults.push(JSON.stringify({ existing, incoming }));
  }
  return faults;
}

test(`all ${vectors.length} rows of the table hold`, () => {
  expect(vectors.length).toBeGreaterThan(1_000);
  const wrong = vectors.filter(
    ({ existing, incoming, safe }) => isSafeToCopyOAuthIdentity(existing, incoming) !== safe,
  );
  expect(wrong).toEqual([]);
});

describe(`over ${PAIRS} generated pairs`, () => {
  test("the gate decides as the reference does", () => {
    let allowed = 0;
    const faults = faultsOf((existing, incoming) => {
      const expected = reference(existing, incoming);
      allowed += Number(expected);
      return isSafeToCopyOAuthIdentity(existing, incoming) === expected;
    });
    expect(faults).toEqual([]);
    // Pairs of one kind would show nothing.
    expect(allowed).toBeGreaterThan(PAIRS / 10);
    expect(allowed).toBeLessThan((PAIRS * 9) / 10);
  });

  test("an identity is safe to copy over itself", () => {
    expect(faultsOf((existing) => isSafeToCopyOAuthIdentity(existing, existing))).toEqual([]);
  });

  test("two different account ids are never accepted", () => {
    let pairs = 0;
    const faults = faultsOf((existing, incoming) => {
      const [one, other] = [existing.accountId, incoming.accountId];
      if (typeof one !== "string" || typeof other !== "string" || !one.trim() || one.trim() === other.trim())
        return true;
      pairs += 1;
      return !isSafeToCopyOAuthIdentity(existing, incoming);
    });
    expect(faults).toEqual([]);
    expect(pairs).toBeGreaterThan(1_000);
  });

  test("evidence is never let go", () => {
    let pairs = 0;
    const faults = faultsOf((existing, incoming) =>
      ["accountId", "email"].every((field) => {
        if (typeof existing[field] !== "string" || !existing[field].trim()) return true;
        pairs += 1;
        return [undefined, null, "", " \ufeff"].every(
          (nothing) => !isSafeToCopyOAuthIdentity(existing, { ...incoming, [field]: nothing }),
        );
      }),
    );
    expect(faults).toEqual([]);
    expect(pairs).toBeGreaterThan(1_000);
  });

  test("the answer is the same every time", () => {
    const first = [];
    faultsOf((existing, incoming) => first.push(isSafeToCopyOAuthIdentity(existing, incoming)));
    const again = first.values();
    expect(
      faultsOf((existing, incoming) => isSafeToCopyOAuthIdentity(existing, incoming) === again.next().value),
    ).toEqual([]);
  });
});

describe("for every character that this Node knows", () => {
  const characters = [];
  for (let code = 0; code <= LAST_CODE_POINT; code++) {
    const character = String.fromCodePoint(code);
    if (/\p{Assigned}/u.test(character) && !/\p{Surrogate}/u.test(character)) characters.push(character);
  }
  const hex = (text) => Array.from(text, (character) => character.codePointAt(0).toString(16)).join(" ");
  const agree = (one, other, expected) =>
    isSafeToCopyOAuthIdentity(one, other) === expected ? [] : [`${JSON.stringify([one, other])} is not ${expected}`];

  test("an e-mail address is lower-cased as toLowerCase() does", () => {
    let changed = 0;
    const faults = characters.flatMap((character) => {
      const upper = character.toUpperCase();
      const related = new Set([character.toLowerCase(), upper, upper.toLowerCase(), character.normalize("NFKC")]);
      related.delete(character);
      changed += related.size;
      return [...related].flatMap((other) => {
        const [one, two] = [`x${character}x`, `x${other}x`];
        return agree({ email: one }, { email: two }, one.toLowerCase() === two.toLowerCase()).map(
          (fault) => `${hex(character)}: ${fault}`,
        );
      });
    });
    expect(faults).toEqual([]);
    expect(changed).toBeGreaterThan(2_500);
  });

  test("an account id is trimmed as trim() does", () => {
    const faults = characters.flatMap((character) => {
      const padded = `${character}a${character}`;
      return agree({ accountId: padded }, { accountId: "a" }, padded.trim() === "a");
    });
    expect(faults).toEqual([]);
  });

  test("what trim() leaves nothing of is absent", () => {
    const blank = characters.filter((character) =>
      isSafeToCopyOAuthIdentity({ accountId: character, email: character }, {}),
    );
    expect(blank).toEqual(characters.filter((character) => character.trim() === ""));
  });
});

test("case is a difference in an account id", () => {
  expect(isSafeToCopyOAuthIdentity({ accountId: "Acct" }, { accountId: "acct" })).toBe(false);
});

test("a sigma at the end of a word is a final one", () => {
  expect(isSafeToCopyOAuthIdentity({ email: "ΟΔΥΣΣΕΥΣ@X" }, { email: "οδυσσευς@x" })).toBe(true);
  expect(isSafeToCopyOAuthIdentity({ email: "ΟΔΥΣΣΕΥΣ@X" }, { email: "οδυσσευσ@x" })).toBe(false);
});
