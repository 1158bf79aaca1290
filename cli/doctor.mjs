/** `doctor`: what is in the way, what that means, and what to do. */
import { findings } from "./findings.mjs";
import { survey } from "./state.mjs";
import { paint, printable, say, sayJson, wrap } from "./terminal.mjs";

const WIDTH = 76;
const COLOURS = { error: "red", warning: "yellow", info: "dim" };

/** @returns {Promise<boolean>} whether there is no error */
export async function doctor({ stateDir, json, fix, ...options }) {
  const found = findings(await survey(stateDir, options));
  if (fix) for (const finding of found) repair(finding);
  const errors = found.filter(({ level, fixed }) => level === "error" && !fixed);
  if (json)
    sayJson({
      stateDir,
      findings: found.map(({ repair, ...finding }) => ({ ...finding, canFix: Boolean(repair) })),
    });
  else tell(stateDir, found);
  return errors.length === 0;
}

/** @param {import("./finding.mjs").Finding} finding */
function repair(finding) {
  if (!finding.repair) return;
  try {
    finding.repair();
    finding.fixed = "repaired";
  } catch ({ message }) {
    finding.advice = `It could not be repaired: ${message}. ${finding.advice}`;
  }
}

/** @param {import("./finding.mjs").Finding[]} found */
function tell(stateDir, found) {
  for (const { level, path, meaning, advice, fixed } of found) {
    const mark = fixed ? paint("green", "fixed") : paint(COLOURS[level], level);
    say(`${mark} ${printable(path)}`);
    for (const text of fixed ? [meaning] : [meaning, advice])
      for (const line of wrap(printable(text), WIDTH)) say(`  ${line}`);
  }
  const open = found.filter(({ fixed, level }) => !fixed && level !== "info").length;
  say(
    open === 0
      ? `${paint("green", "ok")} ${printable(stateDir)}: nothing is in the way.`
      : `${open} finding${open === 1 ? "" : "s"} in ${printable(stateDir)}.`,
  );
}
