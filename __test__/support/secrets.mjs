/** Tokens that can be told from anything else, so that a test can tell where they got to. */
import { inspect } from "node:util";

const issued = new Set();

/** A new token. */
export function token(kind) {
  const secret = `${kind}-secret-${process.pid}-${issued.size}`;
  issued.add(secret);
  return secret;
}

/** Has a secret's other spelling, such as its Base64, looked for as well. */
export function remember(spelling) {
  issued.add(spelling);
  return spelling;
}

/** Which of the tokens made so far a text tells. */
export const toldIn = (text) => [...issued].filter((secret) => text.includes(secret));

/** Which of the tokens made so far an error tells, in any way that logs it. What a user threw is the user's own. */
export function toldBy(error) {
  const { cause: _, ...fields } = Object.getOwnPropertyDescriptors(error);
  const told = [
    String(error),
    error.stack,
    JSON.stringify(error),
    inspect(Object.create(Object.getPrototypeOf(error), fields), { showHidden: true, depth: null }),
  ].join("\n");
  return toldIn(told);
}
