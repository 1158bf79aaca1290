// The second step for OpenClaw 2026.9.6, on top of the first: a process that is killed while it asks the provider leaves a record of
// the credential that its fences stand for.
import { MANAGER, module } from "./full.mjs";
import { rollBack } from "./roll-back.mjs";

const RESOLVE = `	/** Where the owner of a fence is dead: puts back what the fence stands for, or ends it if that may not be asked with again. */
	async function resolveDeadOAuthRefreshClaim(params, { ownerAgentDir, generation: fence }) {
		const { provider, profileId } = params;
		const claim = await awaitOAuthRefreshClaim({
			provider,
			profileId,
			claimId: readPendingOAuthRefreshClaimId(fence),
			signal: params.signal
		});
		if (claim?.state !== "ownerDead") return;
		const { credential: original, mayProbe } = claim;
		try {
			await withOAuthProfileLock({
				provider,
				profileId
			}, async () => {
				const peers = isUserModelAuthProfileId(profileId) ? [] : await fenceOAuthRefreshPeers({
					cfg: params.cfg ?? {},
					ownerDatabasePath: resolveSharedAuthStorePath(),
					profileId,
					generation: fence,
					fence
				});
				(mayProbe ? rollbackOAuthRefreshPeerClaims : failOAuthRefreshPeerClaims)({
					profileId,
					fence,
					claims: peers.map((peer) => ({ original, ...peer }))
				});
				for (const agentDir of new Set([ownerAgentDir, void 0])) await (mayProbe ? rollbackOAuthRefreshOwnerClaim : markOAuthRefreshClaimFailed)({
					agentDir,
					ownerAgentDir: agentDir,
					original,
					profileId,
					fence
				});
			});
			await claim.settle();
		} finally {
			await claim.release();
		}
		if (!mayProbe) throw new Error("The process that refreshed this login died, and it can't be told whether the refresh token was used");
	}
`;

const HOLD = (uncertain) => `				settleClaim = await holdOAuthRefreshClaim({
					provider: params.provider,
					profileId: params.profileId,
					claimId,
					generation: readOAuthRefreshGenerationDigest({
						profileId: params.profileId,
						credential: fence
					}),
					credential: cred${uncertain === "fail" ? ',\n					uncertain: "fail"' : ""}
				});
				let claimed = false;
`;

const IS_PENDING = 'isPending: (credential) => credential?.type === "oauth" && ';

/** @returns {import("../patch.mjs").Diff} */
const claimDiff = (uncertain) => ({
  modules: [...rollBack.modules, module("oauth-refresh-claim.mjs")],
  edits: [
    ...rollBack.edits,
    {
      of: MANAGER,
      from: "	async function claimOAuthRefresh(params) {",
      to: `${RESOLVE}	async function claimOAuthRefresh(params) {`,
    },
    {
      of: MANAGER,
      from: "		let observationTransferred = false;\n",
      to: "		let observationTransferred = false;\n		let settleClaim;\n",
    },
    { of: MANAGER, from: "				let claimed = false;\n				if (await", to: `${HOLD(uncertain)}				if (await` },
    { of: MANAGER, from: "					original: cred,\n", to: "					original: cred,\n					settleClaim,\n" },
    {
      of: MANAGER,
      from: "			if (!observationTransferred) observation?.finish();\n",
      to: "			if (!observationTransferred) observation?.finish();\n			if (!observationTransferred) await settleClaim?.();\n",
    },
    {
      of: MANAGER,
      from: '		if (claim.kind === "observe") return',
      to: '		if (claim.kind === "observe") await resolveDeadOAuthRefreshClaim(params, claim);\n		if (claim.kind === "observe") return',
    },
    {
      of: MANAGER,
      from: `${IS_PENDING}credential.provider === claim.generation.provider && isPendingOAuthRefreshFence(credential),`,
      to: `${IS_PENDING}readPendingOAuthRefreshClaimId(credential) === readPendingOAuthRefreshClaimId(claim.generation),`,
    },
    {
      of: MANAGER,
      from: "				// Its owner has put it back",
      to: `				// The next one's claim, which may lose its owner too.
				if (credential?.type === "oauth" && isPendingOAuthRefreshFence(credential)) return await refreshOAuthTokenWithLock(params);
				// Its owner has put it back`,
    },
    {
      of: MANAGER,
      from: "		const settlement = trackAsyncWork(async () => {\n",
      to: "		const settle = async () => {\n",
    },
    {
      of: MANAGER,
      from: "		});\n		settlement.then(",
      to: "		};\n		const settlement = trackAsyncWork(() => settle().finally(() => claim.settleClaim?.()));\n		settlement.then(",
    },
  ],
});

export const claim = claimDiff("probe");
/** Upstream's own rule: what a dead process had asked with is not asked with again. */
export const claimAndFail = claimDiff("fail");
