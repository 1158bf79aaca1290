// The whole refresh by this package, for OpenClaw 2026.6.33 to 2026.9.3, which hold their lock over the call and have no fences.
import { readFileSync } from "node:fs";

const MANAGER = "src/agents/auth-profiles/oauth-manager.ts";
const RESOLVER = "src/agents/auth-profiles/oauth.ts";

const module = (name, file) => ({
  path: `src/agents/auth-profiles/${name}.ts`,
  beside: MANAGER,
  text: readFileSync(new URL(file, import.meta.url), "utf8"),
});

/** In the place of the queue, the lock, adopting, saving and mirroring. */
const refresh = (bootstrap) => `	async function refreshOAuthTokenWithLock(params) {
		const { provider, profileId } = params;
		const context = { cfg: params.cfg, agentDir: params.agentDir };
		const credential = await refreshOAuthProfile({
			provider,
			profileId,
			agentDir: params.agentDir,
			rejectedAccess: params.forceRefresh ? params.attemptedCredential.access : undefined,
			refresh: async (stored, sending) => {
				const external = ${bootstrap};
				const isSafe = external?.provider === stored.provider && isSafeToAdoptBootstrapOAuthIdentity(stored, external);
				if (isSafe && !params.forceRefresh && hasUsableOAuthCredential(external)) return external;
				const credentialToRefresh = isSafe ? external : stored;
				params.attemptedCredentials?.push(credentialToRefresh);
				if (!isSafe) sending();
				const refreshed = await adapter.refreshCredential(credentialToRefresh, context);
				return refreshed ? { ...credentialToRefresh, ...refreshed, type: "oauth" } : null;
			}
		});
		return credential && {
			apiKey: await adapter.buildApiKey(credential.provider, credential, context),
			credential
		};
	}
`;

const manager = ({ bootstrap, afterRetry }) => [
  { of: MANAGER, from: "async function loadFreshStoredOAuthCredential(", before: "/** Select local OAuth", to: "" },
  {
    of: MANAGER,
    from: "	let refreshQueue = new KeyedAsyncQueue();\n",
    before: "	async function resolveOAuthAccess(params) {",
    to: refresh(bootstrap),
  },
  {
    of: MANAGER,
    from: "				forceRefresh: params.forceRefresh,\n				attemptedCredentials\n			});\n		} catch (error) {",
    to: "				forceRefresh: params.forceRefresh,\n				attemptedCredential: effectiveCredential,\n				attemptedCredentials\n			});\n		} catch (error) {",
  },
  { of: MANAGER, from: "			if (adapter.isRefreshTokenReusedError(error) && ", before: afterRetry, to: "" },
  {
    of: MANAGER,
    from: "	function resetRefreshQueuesForTest() {",
    before: "	return {\n		resolveOAuthAccess,",
    to: "",
  },
  { of: MANAGER, from: "		resolveOAuthAccess,\n		resetRefreshQueuesForTest\n", to: "		resolveOAuthAccess\n" },
];
const RESOLVER_EDITS = [
  { of: RESOLVER, from: "/** Clear in-process OAuth refresh queues", before: "if (process.env.VITEST", to: "" },
  {
    of: RESOLVER,
    from: "	isRefreshTokenReusedError,\n	resetOAuthRefreshQueuesForTest\n",
    to: "	isRefreshTokenReusedError\n",
  },
];
const readBootstrap = (store) => `adapter.readBootstrapCredential({ store: ${store}, profileId, credential: stored })`;

/** @type {import("../patch.mjs").Diff} */
export const full = {
  modules: [
    module("oauth-credential-store", "../2026.9.6/oauth-credential-store.mjs"),
    module("oauth-refresh", "oauth-refresh.mjs"),
  ],
  edits: [
    ...manager({
      bootstrap: `isUserModelAuthProfileId(profileId) ? null : ${readBootstrap("loadStoredOAuthRefreshStore(params.agentDir, profileId)")}`,
      afterRetry: "			if (params.agentDir && !personalProfile) try {",
    }),
    ...RESOLVER_EDITS,
  ],
};

/**
 * The same for the extended stable 2026.7.35. It has no personal profiles, and its AuthStorage a file of its own, with logins of
 * its own.
 *
 * @type {import("../patch.mjs").Diff}
 */
export const full735 = {
  modules: [
    module("oauth-credential-store", "../2026.7.35/oauth-credential-store.mjs"),
    module("oauth-refresh", "oauth-refresh.mjs"),
  ],
  edits: manager({
    bootstrap: readBootstrap("loadStoredOAuthRefreshStore(params.agentDir)"),
    afterRetry: "			if (params.agentDir) try {",
  }),
};
