const MANAGER = "src/agents/auth-profiles/oauth-manager.ts";
const LOCK_LINE =
  "return await withFileLock(globalRefreshLockPath, OAUTH_REFRESH_LOCK_OPTIONS, async () => withFileLock(authPath, AUTH_STORE_LOCK_OPTIONS, async () => {";

/** @type {import("../patch.mjs").Diff} */
export const lockOnly = {
  imports: { [MANAGER]: `import { withOAuthProfileLock } from "oauth-refresh-lock";` },
  edits: [
    {
      of: MANAGER,
      from: LOCK_LINE,
      to: LOCK_LINE.replace(
        "withFileLock(globalRefreshLockPath, OAUTH_REFRESH_LOCK_OPTIONS, async () =>",
        "withOAuthProfileLock(params.provider, params.profileId, async () =>",
      ),
    },
  ],
};

/** @type {import("../patch.mjs").Diff} */
export const full = {
  imports: { [MANAGER]: `import { withOAuthRefreshLock } from "oauth-refresh-lock";` },
  edits: [
    {
      of: MANAGER,
      from: LOCK_LINE,
      until: "\t\t\t}));\n",
      to: `const refresh = async (cred) => {
				const external = adapter.readBootstrapCredential({ profileId: params.profileId, credential: cred });
				const isSafe = external?.provider === cred.provider && isSafeToAdoptBootstrapOAuthIdentity(cred, external);
				if (isSafe && hasUsableOAuthCredential(external)) return external;
				return await adapter.refreshCredential(isSafe ? external : cred);
			};
			const result = await withOAuthRefreshLock(params.provider, params.profileId, refresh, { agentDir: params.agentDir });
			return result && {
				apiKey: await adapter.buildApiKey(result.credential.provider, result.credential),
				credential: result.credential
			};
`,
    },
  ],
};
