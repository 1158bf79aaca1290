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
  /** By profile id: what is stored while we hold pi's lock, and what ends the `modify` that holds it, with what it is to write. */
  const held = new Map();

  // To read a file that another process has changed, pi takes its lock, which nobody gets while we hold it.
  const load = async (profileId) => {
    const { current } = held.get(profileId) ?? { current: await credentials.read(profileId) };
    return loginOf(profileId, current);
  };

  const compareAndSwap = async (profileId, expected, next) => {
    let isSwapped = false;
    const swap = (current) => {
      isSwapped = isDeepStrictEqual(loginOf(profileId, current), expected);
      return isSwapped ? piLogin(next) : undefined;
    };
    const { end } = held.get(profileId) ?? {};
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
          held.set(profileId, { current, end });
          resolve(() => end());
        });
      const whole = credentials.modify(profileId, locked, { signal });
      whole.catch(reject);
    });

  // Pi writes its file without waiting for the disk.
  return { name, load, compareAndSwap, hold, durable: false };
}

/** Pi names no provider in a login, as it has one for each. */
function loginOf(profileId, credential) {
  if (credential?.type !== "oauth") return credential ? { type: credential.type } : null;
  return { ...credential, provider: profileId };
}

function piLogin({ provider: _, ...login }) {
  return login;
}
