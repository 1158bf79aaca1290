/** Stores that a host keeps by itself: in memory, with whatever goes wrong in them. */
import { isDeepStrictEqual } from "node:util";
import { vi } from "vitest";
import { withOAuthRefreshLock } from "../../index.mjs";
import { PROFILE, PROVIDER } from "./host.mjs";

/** A call whose stores are in its options. */
export const call = (host, refresh, options) =>
  withOAuthRefreshLock(PROVIDER, PROFILE, refresh, { stateDir: host.stateDir, ...options });

/** A store that holds one credential, as `held`. `load` and `compareAndSwap` count their calls and can be replaced. */
export function memoryStore(name, credential = null) {
  const store = {
    name,
    held: credential,
    load: vi.fn(async () => structuredClone(store.held)),
    compareAndSwap: vi.fn(async (_profileId, expected, next) => {
      if (!isDeepStrictEqual(store.held, expected)) return false;
      store.held = next;
      return true;
    }),
  };
  return store;
}

/** A store with `hold`, which tells in `steps` what is done to it. */
export function heldStore(name, credential, steps = []) {
  const store = memoryStore(name, credential);
  const release = vi.fn(() => void steps.push(`${name} released`));
  const hold = vi.fn(async () => {
    steps.push(`${name} held`);
    return release;
  });
  const swap = store.compareAndSwap.getMockImplementation();
  store.compareAndSwap.mockImplementation((...given) => {
    steps.push(`${name} written`);
    return swap(...given);
  });
  return Object.assign(store, { hold, release });
}

/** Lets the host's own function do this once before it does its work. */
export function before(store, name, hindrance) {
  const usual = store[name].getMockImplementation();
  store[name].mockImplementationOnce(async (...given) => {
    await hindrance(...given);
    return usual(...given);
  });
}
