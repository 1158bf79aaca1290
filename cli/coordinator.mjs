/** What hosts share logins by, as a command's options say it. */
import { refusal } from "./refusal.mjs";

/** @param {{ coordinator?: string, coordinatorEnv?: string, coordinatorKeyEnv?: string }} options */
export function coordinatorOf({ coordinator, coordinatorEnv, coordinatorKeyEnv }) {
  const url = coordinatorEnv && variable(coordinatorEnv, "no_coordinator", "The coordinator's address").trim();
  // One key a line; an empty one among several stands for none.
  const keys = coordinatorKeyEnv && variable(coordinatorKeyEnv, "no_coordinator_key", "The hosts' key");
  return { coordinator: url ?? coordinator, coordinatorKey: keys?.replace(/\r?\n$/, "").split(/\r?\n/) };
}

function variable(name, code, what) {
  const text = process.env[name];
  if (text?.trim()) return text;
  throw refusal(code, `${what} is to be in the variable ${name}, which is not set.`);
}
