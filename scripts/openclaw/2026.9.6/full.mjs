// The whole refresh by this package, for OpenClaw 2026.9.6.
import { readFileSync } from "node:fs";

const MANAGER = "src/agents/auth-profiles/oauth-manager.ts";
const RESOLVER = "src/agents/auth-profiles/oauth.ts";
const PEERS = "src/agents/auth-profiles/oauth-refresh-peers.ts";
const PROFILE_LOCK = "src/agents/auth-profiles/oauth-profile-lock.ts";
const AUTH_STORAGE_REFRESH = "src/agents/sessions/auth-storage-oauth-refresh.ts";

const module = (name) => ({
  path: `src/agents/auth-profiles/${name}.ts`,
  beside: MANAGER,
  text: readFileSync(new URL(`${name}.mjs`, import.meta.url), "utf8"),
});

/** In the place of claims, fences, peers and settlement. */
const REFRESH = `	async function refreshOAuthTokenWithLock(params) {
		params.signal?.throwIfAborted();
		const { provider, profileId } = params;
		const context = { cfg: params.cfg, agentDir: params.agentDir };
		const personalProfile = isUserModelAuthProfileId(profileId);
		const credential = await refreshOAuthProfile({
			provider,
			profileId,
			agentDir: params.agentDir,
			signal: params.signal,
			rejectedAccess: params.forceRefresh ? params.attemptedCredential.access : undefined,
			refresh: async (stored, sending) => {
				params.validateCredential?.(stored);
				if (!personalProfile && isPersistedExternalCliAuthProfile({ profileId, credential: stored })) {
					authProfilesLog.warn("refused native OAuth refresh for an externally owned credential", { profileId, provider });
					return null;
				}
				const claimed = selectOAuthRefreshSource(params, stored);
				if (claimed !== stored) params.validateCredential?.(claimed);
				if (!await adapter.canRefreshCredential(claimed, context)) return null;
				params.attemptedCredentials?.push(claimed);
				if (claimed === stored) sending();
				const refreshed = await adapter.refreshCredential(claimed, context);
				return refreshed ? { ...claimed, ...refreshed, type: "oauth" } : null;
			}
		});
		if (!credential) return null;
		params.validateCredential?.(credential);
		return {
			apiKey: await adapter.buildApiKey(credential.provider, credential, context),
			credential
		};
	}
	/** The login of another program, if the stored one is still the one that it was found for. */
	function selectOAuthRefreshSource(params, stored) {
		const external = isUserModelAuthProfileId(params.profileId) ? null : params.bootstrapCredential;
		if (!external || !isExactOAuthCredential(params.bootstrapBaseCredential, stored)) return stored;
		if (external.provider === stored.provider && isSafeToAdoptBootstrapOAuthIdentity(stored, external)) return external;
		authProfilesLog.warn("refused external oauth bootstrap credential: provider or identity mismatch", {
			profileId: params.profileId,
			provider: stored.provider
		});
		return stored;
	}
`;

/** Public AuthStorage, where it stands on the release's own stores. */
const AUTH_STORAGE = `	if (params.storage.agentDir) {
		const profileId = \`\${params.providerId}:default\`;
		const credential = await refreshOAuthProfile({
			provider: params.providerId,
			profileId,
			agentDir: params.storage.agentDir,
			refreshMarginMs: 0,
			refresh: async (stored, sending) => {
				if (!provider && !await canResolveAuthStoragePluginOAuthRefresh(params.providerId)) return null;
				sending();
				const refreshed = provider ? await getAuthStorageOAuthProviderRegistry(params.authStorage).getApiKey(params.providerId, { [params.providerId]: stored }) : await resolveAuthStoragePluginOAuthCredential(params.providerId, stored, true);
				return refreshed?.newCredentials ?? null;
			}
		});
		if (!credential) return null;
		params.commit(params.parse(params.storage.read()));
		const apiKey = provider ? provider.getApiKey(credential) : (await resolveAuthStoragePluginOAuthCredential(params.providerId, credential, false))?.apiKey;
		return apiKey ? { apiKey, newCredentials: credential } : null;
	}
`;

/** Login and logout take no lock that a refresh holds over its call: it compares before it replaces, so they win. */
const PROFILE_LOCK_GONE = `async function withOAuthProfileLock(_key, operation) {
	return await operation();
}
async function withOAuthProfileLocks(_keys, operation) {
	return await operation();
}`;

/** @type {import("../patch.mjs").Diff} */
export const full = {
  modules: [module("oauth-credential-store"), module("oauth-refresh")],
  edits: [
    {
      of: MANAGER,
      from: "const oauthRefreshRecoveryBuildFailures = ",
      before: "function canReuseOAuthCredentialAfterRefreshFailure(",
      to: "",
    },
    {
      of: MANAGER,
      from: "	let refreshQueue = new KeyedAsyncQueue();\n",
      before: "	async function resolveOAuthAccess(params) {",
      to: REFRESH,
    },
    {
      of: MANAGER,
      from: "trackAsyncWork(() => refreshQueue.enqueue(",
      until: "() => refreshOAuthTokenWithLock({",
      to: "trackAsyncWork(() => refreshOAuthTokenWithLock({",
    },
    {
      of: MANAGER,
      from: "				validateCredential: params.validateCredential\n			})));",
      to: "				validateCredential: params.validateCredential\n			}));",
    },
    {
      of: MANAGER,
      from: "			let recoveryBuildFailed = refreshError instanceof OAuthSettlementCredentialValidationError",
      until: ";",
      to: "			let recoveryBuildFailed = false;",
    },
    {
      of: MANAGER,
      from: "	function resetRefreshQueuesForTest() {",
      before: "	return {\n		resolveOAuthAccess,",
      to: "",
    },
    { of: MANAGER, from: "		resolveOAuthAccess,\n		resetRefreshQueuesForTest\n", to: "		resolveOAuthAccess\n" },
    { of: RESOLVER, from: "/** Clear in-process OAuth refresh queues", before: "if (process.env.VITEST", to: "" },
    {
      of: RESOLVER,
      from: "	isRefreshTokenReusedError,\n	resetOAuthRefreshQueuesForTest\n",
      to: "	isRefreshTokenReusedError\n",
    },
    {
      of: PROFILE_LOCK,
      from: "/** Serialize every mutation that can create, consume, or remove one OAuth generation. */\n",
      until: "	return await enter(0);\n}",
      to: PROFILE_LOCK_GONE,
    },
    // Only removing one login's copies is left of the peers.
    { of: PEERS, from: "var OAuthRefreshPeerFenceError = class", before: "function canonicalDatabasePath(", to: "" },
    {
      of: PEERS,
      from: "function assertCredentialAllowsClaim(",
      before: "function isRemovableOAuthRefreshPeer(",
      to: "",
    },
    {
      of: PEERS,
      from: "/**\n* Replace every provable historical peer generation",
      before: "/** Remove one owner generation",
      to: "",
    },
    {
      of: AUTH_STORAGE_REFRESH,
      from: "	const result = await refreshSerializedOAuthCredential({",
      to: `${AUTH_STORAGE}	const result = await refreshSerializedOAuthCredential({`,
    },
  ],
};
