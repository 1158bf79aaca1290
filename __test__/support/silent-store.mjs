/** Calls with a store that never answers, gives up, and has nothing more to do. */
import { withOAuthRefreshLock } from "../../index.mjs";

const { stateDir } = JSON.parse(process.argv[2]);
const end = new AbortController();
const load = () => {
  end.abort();
  return new Promise(() => {});
};
const store = { name: "silent", load, compareAndSwap: () => false };
try {
  await withOAuthRefreshLock("acme", "acme:owner", () => null, { stateDir, store, signal: end.signal });
} catch (error) {
  process.send({ type: "gone", code: error.code });
}
process.disconnect();
