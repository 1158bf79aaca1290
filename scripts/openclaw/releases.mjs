/** The releases that are proven, and the maintainer's diffs for them: exact text, which must be there exactly once. */

const LOCK_LINE =
  "return await withFileLock(globalRefreshLockPath, OAUTH_REFRESH_LOCK_OPTIONS, async () => withFileLock(authPath, AUTH_STORE_LOCK_OPTIONS, async () => {";
const FIRST_IMPORT = "import { a as withFileLock } from";

/** @typedef {{ from: string, until?: string, to: string }} Change from here, to the end of `until` if that is given */

export const RELEASES = {
  april: {
    version: "2026.4.20",
    overrides: { linkedom: "0.18.12" },
    /** The bundle's file has this in it. */
    file: "async function doRefreshOAuthTokenWithLock(params) {",
    variants: {
      before: [],
      "lock only": [
        { from: FIRST_IMPORT, to: `import { withOAuthProfileLock } from "oauth-refresh-lock";\n${FIRST_IMPORT}` },
        {
          from: LOCK_LINE,
          to: LOCK_LINE.replace(
            "withFileLock(globalRefreshLockPath, OAUTH_REFRESH_LOCK_OPTIONS, async () =>",
            "withOAuthProfileLock(params.provider, params.profileId, async () =>",
          ),
        },
      ],
      full: [
        { from: FIRST_IMPORT, to: `import { withOAuthRefreshLock } from "oauth-refresh-lock";\n${FIRST_IMPORT}` },
        {
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
    },
  },
};

/** @param {string} text @param {Change[]} changes */
export function apply(text, changes) {
  return changes.reduce((text, { from, until, to }) => {
    const start = text.indexOf(from);
    if (start < 0 || text.indexOf(from, start + 1) >= 0) throw new Error(`is not there exactly once: ${from}`);
    const last = until === undefined ? start + from.length : text.indexOf(until, start) + until.length;
    if (last < start) throw new Error(`is not there: ${until}`);
    return text.slice(0, start) + to + text.slice(last);
  }, text);
}
