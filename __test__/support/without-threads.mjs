/** A program that may start no thread any more, as in a container with a limit of processes, when it first calls this package. */
import { spawnSync } from "node:child_process";
import { withOAuthRefreshLock } from "../../index.mjs";

const NOBODY = 65_534;
const { root, provider, profileId, options } = JSON.parse(process.argv[2]);

const limit = () => spawnSync("prlimit", ["--pid", String(process.pid), "--nproc=1"]).status;
/** The limit is none of root's. */
function becomeSomebody() {
  spawnSync("chown", ["--recursive", `${NOBODY}:${NOBODY}`, root]);
  process.setgroups([]);
  process.setgid(NOBODY);
  process.setuid(NOBODY);
}

const status = limit();
if (process.getuid() === 0) becomeSomebody();
const asked = [];
const refresh = (credential) => {
  asked.push(credential);
  return null;
};
const { code } = await withOAuthRefreshLock(provider, profileId, refresh, options).catch((error) => error);
process.send({ type: "ended", status, code, asked });
