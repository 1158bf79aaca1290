/** The releases that are proven, and the maintainer's diffs for them: exact text, which must be there exactly once. */

const LOCK_LINE =
  "return await withFileLock(globalRefreshLockPath, OAUTH_REFRESH_LOCK_OPTIONS, async () => withFileLock(authPath, AUTH_STORE_LOCK_OPTIONS, async () => {";
const SQLITE_IMPORT = "import { s as withFileLock } from";
const FIRST_IMPORT = "import { a as withFileLock } from";

/** @typedef {{ from: string, until?: string, to: string }} Change from here, to the end of `until` if that is given */

export const RELEASES = [
  {
    version: "2026.4.20",
    nodes: ["22", "24"],
    overrides: { linkedom: "0.18.12" },
    /** Its plugins would first install what they need. */
    env: { OPENCLAW_DISABLE_BUNDLED_PLUGINS: "1" },
    provider: "openai-codex",
    /** The bundle's file has this in it. */
    file: "async function doRefreshOAuthTokenWithLock(params) {",
    variants: {
      "as it is": [],
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
  {
    /** The newest that takes Node 22. */
    version: "2026.9.2",
    nodes: ["22", "24"],
    provider: "openai",
    file: "async function doRefreshOAuthTokenWithLock(params) {",
    variants: {
      "as it is": [],
      "lock only": [
        {
          from: SQLITE_IMPORT,
          to: `import { withOAuthProfileLock } from "oauth-refresh-lock";\n${SQLITE_IMPORT}`,
        },
        {
          from: "return await withFileLock(globalRefreshLockPath, OAUTH_REFRESH_LOCK_OPTIONS, async () => {",
          to: "return await withOAuthProfileLock(params.provider, params.profileId, async () => {",
        },
        {
          from: "\t\t\t});\n\t\t} catch (error) {\n\t\t\tif (isGlobalRefreshLockTimeoutError(error, globalRefreshLockPath))",
          to: "\t\t\t}, { lockPath: globalRefreshLockPath });\n\t\t} catch (error) {\n\t\t\tif (isGlobalRefreshLockTimeoutError(error, globalRefreshLockPath))",
        },
      ],
    },
  },
  {
    version: "2026.9.6",
    nodes: ["24"],
    provider: "openai",
    file: "async function withOAuthProfileLock(key, operation, options) {",
    variants: {
      "as it is": [],
      "lock only": [
        {
          from: SQLITE_IMPORT,
          to: `import { withOAuthProfileLock as withLock } from "oauth-refresh-lock";\n${SQLITE_IMPORT}`,
        },
        {
          from: "return await withFileLock(resolveOAuthRefreshLockPath(key.provider, key.profileId, options?.env), OAUTH_REFRESH_LOCK_OPTIONS, operation);",
          to: `const lockPath = resolveOAuthRefreshLockPath(key.provider, key.profileId, options?.env);
	return await withLock(key.provider, key.profileId, operation, { lockPath });`,
        },
      ],
    },
  },
];

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
