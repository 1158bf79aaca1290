/**
 * Reads more stores at a time than there are threads for, on a disk that stands still for so many of them. Lets it go on once all
 * others are served, and tells how many are in the end.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const { module, stateDir, provider, agents, stalled, goOn } = JSON.parse(process.argv[2]);
const { withOAuthRefreshLock } = createRequire(import.meta.url)(module);

const unwanted = () => {
  throw new Error("no call is needed");
};
let served = 0;
const calls = Array.from({ length: agents }, async (_, number) => {
  const agentDir = join(stateDir, "agents", `agent-${number}`, "agent");
  const profileId = `${provider}:${number}`;
  const credential = {
    type: "oauth",
    provider,
    access: `a${number}`,
    refresh: `r${number}`,
    expires: Date.now() + 3e6,
  };
  mkdirSync(agentDir, { recursive: true, mode: 0o700 });
  const store = JSON.stringify({ version: 1, profiles: { [profileId]: credential } });
  writeFileSync(join(agentDir, "auth-profiles.json"), store, { mode: 0o600 });
  await withOAuthRefreshLock(provider, profileId, unwanted, { stateDir, agentDir, mainAgentDir: agentDir });
  served += 1;
  if (served === agents - stalled) writeFileSync(goOn, "");
});
await Promise.all(calls);
console.log(served);
