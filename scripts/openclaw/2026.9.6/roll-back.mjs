// The first step for OpenClaw 2026.9.6: a call that has surely left the refresh token unused ends with its credential back in place.
import { MANAGER, module } from "./full.mjs";

const TOKEN = "extensions/openai/openai-chatgpt-oauth-token.runtime.ts";
const FLOW = "extensions/openai/openai-chatgpt-oauth-flow.runtime.ts";

const THROWN = 'throw Object.assign(new Error([result.summary, diagnostic].filter(Boolean).join("\\n\\n")';

const UNSPENT = `	/** Whether a failed call has surely left the refresh token unused. */
	async function isOAuthRefreshTokenUnspent(error) {
		const failure = await (await loadOAuthRefreshLock())?.classifyRefreshFailure(error);
		return ["not_asked", "not_sent", "answered_unspent"].includes(failure?.class);
	}
`;

/** @type {import("../patch.mjs").Diff} */
export const rollBack = {
  modules: [module("../oauth-refresh-lock.mjs")],
  edits: [
    {
      of: MANAGER,
      from: "	async function refreshOAuthTokenWithLock(params) {",
      to: `${UNSPENT}	async function refreshOAuthTokenWithLock(params) {`,
    },
    {
      of: MANAGER,
      from: "					credential: credentialToRefresh,\n",
      to: "					credential: credentialToRefresh,\n					original: cred,\n",
    },
    {
      of: MANAGER,
      from: "			resolve: async (credential) => {\n",
      to: `			resolve: async (credential) => {
				// Its owner has put it back: whoever waited asks next.
				if (credential?.type === "oauth" && !isOAuthRefreshFence(credential) && isSameOAuthRefreshGeneration({
					profileId: params.profileId,
					left: claim.generation,
					right: credential
				})) return await refreshOAuthTokenWithLock(params);
`,
    },
    {
      of: MANAGER,
      from: "		const failClaim = async () => {",
      to: "		const failClaim = async (isUnspent) => {",
    },
    {
      of: MANAGER,
      from: `					try {
						failOAuthRefreshPeerClaims({
							profileId: params.profileId,
							fence: claim.fence,
							claims: activePeerClaims
						});
					} catch (error) {
						cleanupErrors.push(error);
					}
					try {
						await markOAuthRefreshClaimFailed({
							agentDir: claim.ownerAgentDir,
							profileId: params.profileId,
							fence: claim.fence
						});`,
      to: `					const isRolledBack = isUnspent && !supersedingOwner;
					try {
						(isRolledBack ? rollbackOAuthRefreshPeerClaims : failOAuthRefreshPeerClaims)({
							profileId: params.profileId,
							fence: claim.fence,
							claims: activePeerClaims.map((peer) => ({ original: claim.original, ...peer }))
						});
					} catch (error) {
						cleanupErrors.push(error);
					}
					try {
						await (isRolledBack ? rollbackOAuthRefreshOwnerClaim : markOAuthRefreshClaimFailed)({
							agentDir: claim.ownerAgentDir,
							ownerAgentDir: claim.ownerAgentDir,
							original: claim.original,
							profileId: params.profileId,
							fence: claim.fence
						});`,
    },
    {
      of: MANAGER,
      from: "const { supersedingOwner, validationError, cleanupErrors } = await failClaim();",
      to: "const { supersedingOwner, validationError, cleanupErrors } = await failClaim(failure?.isUnspent);",
    },
    {
      of: MANAGER,
      from: "					externalRefresh: true\n",
      to: "					externalRefresh: true,\n					isUnspent: await isOAuthRefreshTokenUnspent(error)\n",
    },
    // What they tell of a connection that was never made has to reach the manager.
    {
      of: TOKEN,
      from: '			summary: formatTokenRequestError("refresh"',
      to: '			cause: error,\n			summary: formatTokenRequestError("refresh"',
    },
    {
      of: FLOW,
      from: `${THROWN}), { oauthRefreshFailure: {`,
      to: `${THROWN}, { cause: result.cause }), { oauthRefreshFailure: {`,
    },
  ],
};
