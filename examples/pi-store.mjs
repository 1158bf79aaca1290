// Logins in pi's credential store (`CredentialStore` of @earendil-works/pi-ai 1.x). The profile id is pi's provider id.
import { isDeepStrictEqual } from "node:util";

/**
 * Pi's store as one of ours. While a login is refreshed, pi's own lock is held: pi's processes wait, and find the new token.
 *
 * @param credentials pi's store
 * @param {string} [name] the same in every process
 * @returns {import("oauth-refresh-lock").CredentialStore}
 */
export function piStore(credentials, name = "pi") {
  /** By profile id: ends the `modify` that holds pi's lock, with what it is to write. */
  const held = new Map();

  const load = async (profileId) => loginOf(profileId, await credentials.read(profileId));

  const compareAndSwap = async (profileId, expected, next) => {
    let isSwapped = false;
    const swap = (current) => {
      isSwapped = isDeepStrictEqual(loginOf(profileId, current), expected);
      return isSwapped ? piLogin(next) : undefined;
    };
    const end = held.get(profileId);
    await (end ? end(swap) : credentials.modify(profileId, async (current) => swap(current)));
    return isSwapped;
  };

  // The signal ends the wait for pi's lock, and nothing after that.
  const hold = (profileId, { signal }) =>
    new Promise((resolve, reject) => {
      const locked = (current) =>
        new Promise((write) => {
          const end = (swap) => {
            held.delete(profileId);
            write(swap?.(current));
            return whole;
          };
          held.set(profileId, end);
          resolve(() => end());
        });
      const whole = credentials.modify(profileId, locked, { signal });
      whole.catch(reject);
    });

  return { name, load, compareAndSwap, hold };
}

/** Pi names no provider in a login, as it has one for each. */
function loginOf(profileId, credential) {
  if (credential?.type !== "oauth") return credential ? { type: credential.type } : null;
  return { ...credential, provider: profileId };
}

function piLogin({ provider: _, ...login }) {
  return login;
}
