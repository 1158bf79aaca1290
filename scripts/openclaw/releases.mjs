// The releases that are proven, and for each the diffs that a maintainer may take. Another variant is another entry of `variants`.
import { full as full420, lockOnly as lockOnly420 } from "./2026.4.20/variants.mjs";
import { full as full92, full735 } from "./2026.9.2/full.mjs";
import { claim, claimAndFail } from "./2026.9.6/claim.mjs";
import { full as full96 } from "./2026.9.6/full.mjs";
import { rollBack } from "./2026.9.6/roll-back.mjs";
import { ROWS } from "./rows.mjs";

const MANAGER = "src/agents/auth-profiles/oauth-manager.ts";
const PROFILE_LOCK = "src/agents/auth-profiles/oauth-profile-lock.ts";

const lockOnly96 = {
  imports: { [PROFILE_LOCK]: `import { withOAuthProfileLock as withLock } from "oauth-refresh-lock";` },
  edits: [
    {
      of: PROFILE_LOCK,
      from: "return await withFileLock(resolveOAuthRefreshLockPath(key.provider, key.profileId, options?.env), OAUTH_REFRESH_LOCK_OPTIONS, operation);",
      to: `const lockPath = resolveOAuthRefreshLockPath(key.provider, key.profileId, options?.env);
	return await withLock(key.provider, key.profileId, operation, { lockPath });`,
    },
  ],
};

const lockOnly92 = {
  imports: { [MANAGER]: `import { withOAuthProfileLock } from "oauth-refresh-lock";` },
  edits: [
    {
      of: MANAGER,
      from: "return await withFileLock(globalRefreshLockPath, OAUTH_REFRESH_LOCK_OPTIONS, async () => {",
      to: "return await withOAuthProfileLock(params.provider, params.profileId, async () => {",
    },
    {
      of: MANAGER,
      from: "\t\t\t});\n\t\t} catch (error) {\n\t\t\tif (isGlobalRefreshLockTimeoutError(error, globalRefreshLockPath))",
      to: "\t\t\t}, { lockPath: globalRefreshLockPath });\n\t\t} catch (error) {\n\t\t\tif (isGlobalRefreshLockTimeoutError(error, globalRefreshLockPath))",
    },
  ],
};

const variants = (lockOnly, full, steps) => ({ "as it is": undefined, "lock only": lockOnly, ...steps, full });
const steps96 = { "roll back": rollBack, claim, "claim, fail": claimAndFail };

/** What came later than a release: rows that it has nothing to be played on. */
const NO_PERSONAL = ["personal profile"];
const AUTH_STORAGE = ROWS.filter(({ by, theirs }) => by || theirs).map(({ name }) => name);
const WORKER = ROWS.filter(({ fleet }) => fleet.includes("worker")).map(({ name }) => name);
const NO_SHARED_AUTH_STORAGE = [...AUTH_STORAGE, ...WORKER, ...NO_PERSONAL];
const ONLY_FAULTS = [
  ...NO_SHARED_AUTH_STORAGE,
  "external CLI has a good token",
  "external CLI's token has expired",
  "no addon",
  "half without addon",
];

export const RELEASES = [
  {
    version: "2026.4.20",
    nodes: ["22", "24"],
    overrides: { linkedom: "0.18.12" },
    /** Its plugins would first install what they need. */
    env: { OPENCLAW_DISABLE_BUNDLED_PLUGINS: "1" },
    provider: "openai-codex",
    lacks: ONLY_FAULTS,
    variants: variants(lockOnly420, full420),
  },
  /** An extended stable. Its AuthStorage is a file with logins of its own. */
  {
    version: "2026.7.35",
    nodes: ["22", "24"],
    provider: "openai",
    lacks: NO_SHARED_AUTH_STORAGE,
    variants: variants(lockOnly92, full735),
  },
  /** The newest that takes Node 22. Its AuthStorage serves no OpenAI login by itself. */
  {
    version: "2026.9.2",
    nodes: ["22", "24"],
    provider: "openai",
    lacks: [...AUTH_STORAGE, ...WORKER],
    variants: variants(lockOnly92, full92),
  },
  { version: "2026.9.6", nodes: ["24"], provider: "openai", variants: variants(lockOnly96, full96, steps96) },
];
