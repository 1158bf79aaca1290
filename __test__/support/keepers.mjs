/**
 * A process that keeps logins fresh, tells what happens to them, and does nothing else.
 *
 * @typedef {object} Work
 * @property {object} keep what `keepOAuthFresh` is given
 * @property {boolean} [stays] whether it has other things to do, which keep it from ending
 */
import { subscribe } from "node:diagnostics_channel";
import { keepOAuthFresh } from "../../index.mjs";
import { CHANNEL } from "./events.mjs";

const { keep, stays } = JSON.parse(process.argv[2]);

subscribe(CHANNEL, (event) => process.send(event));
const onError = ({ code }, { profileId }) => process.send({ type: "reported", code, profileId });
keepOAuthFresh({ ...keep, onError });
if (stays) setInterval(() => {}, 1_000_000);
