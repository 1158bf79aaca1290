import { full } from "./full.mjs";

const PROFILE_LOCK = "src/agents/auth-profiles/oauth-profile-lock.ts";

/** @type {import("../patch.mjs").Diff} */
const lockOnly = {
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

export const variants = { "as it is": undefined, "lock only": lockOnly, full };
