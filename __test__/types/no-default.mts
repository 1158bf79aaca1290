// @ts-expect-error: the package has no default export
import lock from "oauth-refresh-lock";

export { lock };
