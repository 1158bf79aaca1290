// The whole refresh by this package, for OpenClaw 2026.6.33 to 2026.9.3, which hold their lock over the call and have no fences.
import { readFileSync } from "node:fs";

const MANAGER = "src/agents/auth-profiles/oauth-manager.ts";

const module = (file) => ({
  path: `src/agents/auth-profiles/${file.slice(file.lastIndexOf("/") + 1, -".mjs".length)}.ts`,
  beside: MANAGER,
  text: readFileSync(new URL(file, import.meta.url), "utf8"),
});

/** Beside the queue, the lock, adopting, saving and mirroring, which stay for the switch. */
const refresh = (bootstrap) => `	async function refreshOAuthTokenOnce(lock, params) {
		const { provider, profileId } = params;
		const context = { cfg: params.cfg, agentDir: params.agentDir };
		const credential = await refreshOAuthProfile(lock, {
			provider,
			profileId,
			agentDir: params.agentDir,
			rejectedAccess: params.forceRefresh ? params.attemptedCredential?.access : undefined,
			refresh: async (stored) => {
				const external = await withoutSpending(() => ${bootstrap});
				const isSafe = external?.provider === stored.provider && isSafeToAdoptBootstrapOAuthIdentity(stored, external);
				if (isSafe && !params.forceRefresh && hasUsableOAuthCredential(external)) return external;
				const source = isSafe ? external : stored;
				params.attemptedCredentials?.push(source);
				const ask = () => adapter.refreshCredential(source, context);
				const refreshed = isSafe ? await withoutSpending(ask) : await ask();
				return refreshed ? { ...source, ...refreshed, type: "oauth" } : null;
			}
		});
		return credential && {
			apiKey: await adapter.buildApiKey(credential.provider, credential, context),
			credential
		};
	}
`;

const manager = (bootstrap) => [
  {
    of: MANAGER,
    from: "	async function refreshOAuthTokenWithLock(params) {\n",
    to: `${refresh(bootstrap)}	async function refreshOAuthTokenWithLock(params) {
		const lock = await loadOAuthRefreshLock();
		if (lock) return await refreshOAuthTokenOnce(lock, params);
`,
  },
  {
    of: MANAGER,
    from: "				forceRefresh: params.forceRefresh,\n				attemptedCredentials\n			});\n		} catch (error) {",
    to: "				forceRefresh: params.forceRefresh,\n				attemptedCredential: effectiveCredential,\n				attemptedCredentials\n			});\n		} catch (error) {",
  },
];
const readBootstrap = (store) => `adapter.readBootstrapCredential({ store: ${store}, profileId, credential: stored })`;

/** @type {import("../patch.mjs").Diff} */
export const full = {
  modules: [module("../oauth-refresh-lock.mjs"), module("oauth-credential-store.mjs"), module("oauth-refresh.mjs")],
  edits: manager(
    `isUserModelAuthProfileId(profileId) ? null : ${readBootstrap("loadStoredOAuthRefreshStore(params.agentDir, profileId)")}`,
  ),
};

/**
 * The same for the extended stable 2026.7.35. It has no personal profiles, and its AuthStorage a file of its own, with logins of
 * its own.
 *
 * @type {import("../patch.mjs").Diff}
 */
export const full735 = {
  modules: [
    module("../oauth-refresh-lock.mjs"),
    module("../2026.7.35/oauth-credential-store.mjs"),
    module("oauth-refresh.mjs"),
  ],
  edits: manager(readBootstrap("loadStoredOAuthRefreshStore(params.agentDir)")),
};
