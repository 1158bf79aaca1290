/**
 * One login in a JSON file of its own, as a command-line tool keeps it, with that tool's names and nothing else; and the store that
 * a host makes of it.
 */
import { readFile, rename, writeFile } from "node:fs/promises";
import { isDeepStrictEqual } from "node:util";
import { lockDirectory } from "./directory-lock.mjs";
import { PROVIDER } from "./host.mjs";

export const readLogin = async (file) => JSON.parse(await readFile(file, "utf8"));

export async function writeLogin(file, login) {
  const temporary = `${file}.${process.pid}.tmp`;
  await writeFile(temporary, JSON.stringify(login), { mode: 0o600 });
  await rename(temporary, file);
}

/** The file as a store; without `isHeld` as it looks to a host that does not know of the lock. */
export function fileStore(file, { isHeld }) {
  const load = async () => {
    const { accessToken, refreshToken, expiresAt } = await readLogin(file);
    return { type: "oauth", provider: PROVIDER, access: accessToken, refresh: refreshToken, expires: expiresAt };
  };
  const compareAndSwap = async (_, expected, { access, refresh, expires }) => {
    if (!isDeepStrictEqual(await load(), expected)) return false;
    await writeLogin(file, { accessToken: access, refreshToken: refresh, expiresAt: expires });
    return true;
  };
  const store = { name: "the tool's", load, compareAndSwap };
  return isHeld ? { ...store, hold: (_, { signal }) => lockDirectory(file, { signal }) } : store;
}
