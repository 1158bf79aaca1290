// The whole refresh by this package, for OpenClaw 2026.9.6.
import { readFileSync } from "node:fs";

export const MANAGER = "src/agents/auth-profiles/oauth-manager.ts";
const PROFILE_LOCK = "src/agents/auth-profiles/oauth-profile-lock.ts";
const PEERS = "src/agents/auth-profiles/oauth-refresh-peers.ts";
const AUTH_STORAGE_REFRESH = "src/agents/sessions/auth-storage-oauth-refresh.ts";

export const module = (file, beside = MANAGER) => ({
  path: `src/agents/auth-profiles/${file.slice(file.lastIndexOf("/") + 1, -".mjs".length)}.ts`,
  beside,
  text: readFileSync(new URL(file, import.meta.url), "utf8"),
});

/** Where claims and fences begin. They stay, for the switch; without the switch nothing leads there. */
const REFRESH = `	async function refreshOAuthToken(params) {
		const lock = await loadOAuthRefreshLock();
		const { provider, profileId, validateCredential } = params;
		if (!lock) return await refreshQueue.enqueue(\`\${provider}\\u0000\${profileId}\`, () => refreshOAuthTokenWithLock(params));
		params.signal?.throwIfAborted();
		const context = { cfg: params.cfg, agentDir: params.agentDir };
		const credential = await refreshOAuthProfile(lock, {
			provider,
			profileId,
			cfg: params.cfg,
			agentDir: params.agentDir,
			signal: params.signal,
			rejectedAccess: params.forceRefresh ? params.attemptedCredential.access : undefined,
			refresh: async (stored) => {
				const source = await withoutSpending(() => selectOAuthRefreshSource(params, stored, context));
				if (!source) return null;
				params.attemptedCredentials?.push(source);
				const ask = () => adapter.refreshCredential(source, context);
				const refreshed = source === stored ? await ask() : await withoutSpending(ask);
				return refreshed ? { ...source, ...refreshed, type: "oauth" } : null;
			}
		});
		if (!credential) return null;
		validateCredential?.(credential);
		return {
			apiKey: await adapter.buildApiKey(credential.provider, credential, context),
			credential
		};
	}
	/** What is to be refreshed: the stored login, or another program's if the stored one is still what that was found for. */
	async function selectOAuthRefreshSource(params, stored, context) {
		const { profileId, provider, bootstrapBaseCredential, validateCredential } = params;
		const personalProfile = isUserModelAuthProfileId(profileId);
		validateCredential?.(stored);
		if (!personalProfile && isPersistedExternalCliAuthProfile({ profileId, credential: stored })) {
			authProfilesLog.warn("refused native OAuth refresh for an externally owned credential", { profileId, provider });
			return null;
		}
		const external = personalProfile || !isExactOAuthCredential(bootstrapBaseCredential, stored) ? null : params.bootstrapCredential;
		const isSafe = external?.provider === provider && isSafeToAdoptBootstrapOAuthIdentity(stored, external);
		if (external && !isSafe) authProfilesLog.warn("refused external oauth bootstrap credential: provider or identity mismatch", { profileId, provider });
		const source = isSafe ? external : stored;
		if (isSafe) validateCredential?.(source);
		return await adapter.canRefreshCredential(source, context) ? source : null;
	}
`;

/** Public AuthStorage, where it stands on the release's own stores. */
const AUTH_STORAGE = `	const lock = params.storage.agentDir && await loadOAuthRefreshLock();
	if (lock) {
		const credential = await refreshOAuthProfile(lock, {
			provider: params.providerId,
			profileId: \`\${params.providerId}:default\`,
			agentDir: params.storage.agentDir,
			refreshMarginMs: 0,
			refresh: async (stored) => {
				if (!provider && !await withoutSpending(() => canResolveAuthStoragePluginOAuthRefresh(params.providerId))) return null;
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
const UNLOCKED = "	if (await loadOAuthRefreshLock()) return await operation();\n";

/** @type {import("../patch.mjs").Diff} */
export const full = {
  modules: [
    module("../oauth-refresh-lock.mjs", PROFILE_LOCK),
    module("oauth-credential-store.mjs"),
    module("oauth-refresh.mjs"),
  ],
  uses: [PEERS],
  edits: [
    {
      of: MANAGER,
      from: "	async function resolveOAuthAccess(params) {",
      to: `${REFRESH}	async function resolveOAuthAccess(params) {`,
    },
    {
      of: MANAGER,
      from: "trackAsyncWork(() => refreshQueue.enqueue(",
      until: "() => refreshOAuthTokenWithLock({",
      to: "trackAsyncWork(() => refreshOAuthToken({",
    },
    {
      of: MANAGER,
      from: "				validateCredential: params.validateCredential\n			})));",
      to: "				validateCredential: params.validateCredential\n			}));",
    },
    {
      of: PROFILE_LOCK,
      from: "	return await withFileLock(",
      to: `${UNLOCKED}	return await withFileLock(`,
    },
    {
      of: AUTH_STORAGE_REFRESH,
      from: "	const result = await refreshSerializedOAuthCredential({",
      to: `${AUTH_STORAGE}	const result = await refreshSerializedOAuthCredential({`,
    },
  ],
};
