/**
 * What is under way when the power fails, and who calls next: `node act.mjs WHAT STATE_DIR …`. Each refresh token can be used once:
 * `refresh-1` gives `refresh-2`. The provider ends the login when it gets any other, as providers with reuse detection do.
 */
import { mkdirSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";

const { removeOAuthLogin, saveOAuthLogin, withOAuthRefreshLock } = await import(
  process.env.POWER_CUT_PACKAGE ?? "../../index.mjs"
);

const [what, stateDir, ...more] = process.argv.slice(2);
const KEY = ["acme", "acme:main"];
const HOUR_MS = 3_600_000;
const dirOf = (agent) => join(stateDir, "agents", agent, "agent");
const mark = (text) => writeSync(1, `${text}\n`);

const login = (number, expires) => ({ access: `access-${number}`, refresh: `refresh-${number}`, expires });
const FOREIGN = { type: "api_key", provider: "other", key: "sk  kept\u00e4s it is", n: 1e2 };

/** A store with a login, and what is not ours in it. */
function store(agent, number, state) {
  const expires = state === "expired" ? 1 : Date.now() + HOUR_MS;
  mkdirSync(dirOf(agent), { recursive: true, mode: 0o700 });
  const mine = { type: "oauth", provider: KEY[0], ...login(number, expires), accountId: "one" };
  const profiles = { "other:key": FOREIGN, [KEY[1]]: mine };
  writeFileSync(
    join(dirOf(agent), "auth-profiles.json"),
    JSON.stringify({ version: 1, profiles, more: [1.0] }, null, 1),
    { mode: 0o600 },
  );
}

/** The provider: exchanges the live refresh token, and counts. */
function provider(number) {
  const told = { live: number, calls: 0, isDead: false };
  const refresh = async (credential) => {
    told.calls += 1;
    mark("asked");
    told.isDead ||= credential.refresh !== `refresh-${told.live}`;
    if (told.isDead)
      throw Object.assign(new Error("400"), {
        status: 400,
        data: { error: "invalid_grant", error_description: "reused" },
      });
    told.live += 1;
    mark(`answered ${told.live}`);
    return login(told.live, Date.now() + HOUR_MS);
  };
  return { told, refresh };
}

const call = (agent, refresh) =>
  withOAuthRefreshLock(...KEY, refresh, { stateDir, agentDir: dirOf(agent), timeoutMs: 20_000 });

/** A call that is under way. */
async function refresh(live, agent) {
  const result = await call(agent, provider(Number(live)).refresh);
  mark(`saw ${result?.credential.access.slice("access-".length) ?? "none"}`);
}

/** A call whose provider never answers. */
async function hang(agent) {
  const timer = setInterval(() => {}, HOUR_MS);
  await call(agent, () => {
    mark("hangs");
    return new Promise(() => {});
  });
  clearInterval(timer);
}

/** Who calls after the power is back: each agent, and each once more. */
async function next(live, ...agents) {
  const { told, refresh } = provider(Number(live));
  const one = async (agent) => {
    try {
      return { access: (await call(agent, refresh))?.credential.access ?? null };
    } catch ({ code, data, message }) {
      return { code: data?.error ?? code ?? message };
    }
  };
  const all = async () => {
    const results = [];
    for (const agent of agents) results.push(await one(agent));
    return results;
  };
  const first = await all();
  const { calls, isDead } = told;
  const second = await all();
  writeFileSync(1, `RESULT ${JSON.stringify({ first, second, calls, isDead, later: told.calls - calls })}\n`);
}

const deeds = {
  store,
  next,
  refresh,
  hang,
  async login(agent = "main") {
    const options = { stateDir, agentDir: dirOf(agent) };
    await saveOAuthLogin(...KEY, { ...login(9, Date.now() + HOUR_MS), accountId: "one" }, options);
    mark("saw 9");
  },
  async logout() {
    await removeOAuthLogin(...KEY, { stateDir });
    mark("saw none");
  },
};
await deeds[what](...more);
