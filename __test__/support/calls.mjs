/**
 * The package's two calls, by an agent of a host and for the key that every test is about.
 */
import { expect } from "vitest";
import { resolveOAuthRefreshLockPath, withOAuthProfileLock, withOAuthRefreshLock } from "../../index.mjs";
import { PROFILE, PROVIDER } from "./host.mjs";

/** `withOAuthRefreshLock` by this agent. */
export const refreshAs = (host, agent, refresh, options) =>
  withOAuthRefreshLock(PROVIDER, PROFILE, refresh, host.as(agent, options));

/** `withOAuthProfileLock` on this host. */
export const lockOn = (host, fn, options) =>
  withOAuthProfileLock(PROVIDER, PROFILE, fn, { stateDir: host.stateDir, ...options });

/** The key's lock on this host. */
export const lockPathOn = ({ stateDir }) => resolveOAuthRefreshLockPath(PROVIDER, PROFILE, { stateDir });

/** Both, for tables: a name, and how to make the call with a function. */
export const BOTH_CALLS = [
  ["withOAuthRefreshLock", (host, fn, options) => refreshAs(host, "main", fn, options)],
  ["withOAuthProfileLock", (host, fn, options) => lockOn(host, fn, options)],
];

/** Expects that nobody holds the key's lock, or will not before long. */
export async function expectFree(host) {
  expect(await lockOn(host, () => "free")).toBe("free");
}
