/**
 * The tool that owns a login: each time it is told to, it takes its lock, reads the login, and refreshes it if it has expired.
 */
import { lockDirectory } from "./directory-lock.mjs";
import { readLogin, writeLogin } from "./file-login.mjs";

const { file, url } = JSON.parse(process.argv[2]);

async function refresh() {
  const release = await lockDirectory(file);
  process.send({ type: "locked" });
  const login = await readLogin(file);
  if (login.expiresAt <= Date.now()) {
    const body = new URLSearchParams({ grant_type: "refresh_token", refresh_token: login.refreshToken });
    const answer = await (await fetch(url, { method: "POST", body })).json();
    const { access_token: accessToken, refresh_token: refreshToken, expires_in: lifetime } = answer;
    if (accessToken) await writeLogin(file, { accessToken, refreshToken, expiresAt: Date.now() + lifetime * 1000 });
  }
  await release();
}

process.on("message", async () => {
  await refresh();
  process.send({ type: "done" });
});
process.send({ type: "ready" });
