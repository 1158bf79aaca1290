const os = require("node:os");
const { unwrap } = require("./errors.js");
const { native } = require("./native.js");

/**
 * What default paths are resolved in; nothing if the state directory and all `others` are given. Read at each call: a worker
 * thread has its own `process.env`. Parts that are not needed may be missing: the working directory, a home, an entry for the user.
 */
const surroundings = (stateDir, ...others) => surroundingsIn(process.env, stateDir, ...others);

/** The same in another environment. */
function surroundingsIn(env, stateDir, ...others) {
  if (stateDir !== undefined && others.every((path) => path !== undefined)) return undefined;
  const found = {
    openclawStateDir: env.OPENCLAW_STATE_DIR,
    openclawHome: env.OPENCLAW_HOME,
    home: env.HOME,
    userProfile: env.USERPROFILE,
    openclawAgentDir: env.OPENCLAW_AGENT_DIR,
    piCodingAgentDir: env.PI_CODING_AGENT_DIR,
    osHome: orEmpty(os.homedir),
    workingDir: orEmpty(process.cwd),
  };
  if (found.osHome === "" || found.workingDir === "") unwrap(native().refuseMissing(stateDir, found));
  return found;
}

function orEmpty(look) {
  try {
    return look();
  } catch {
    return "";
  }
}

module.exports = { surroundings, surroundingsIn };
