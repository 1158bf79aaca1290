// Credentials in SQLite, by Node's own module (Node 22.13 or newer).
import { closeSync, openSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import { isDeepStrictEqual } from "node:util";

/** The store of one agent, in a database that agents share. @returns {import("oauth-refresh-lock").CredentialStore} */
export function sqliteStore(path, agent) {
  closeSync(openSync(path, "a", 0o600)); // SQLite would make it readable for everyone; its journal takes this mode over
  const database = new DatabaseSync(path);
  database.exec(`
    PRAGMA busy_timeout = 1000; -- another process is writing: wait for it, and block this thread for as long
    PRAGMA synchronous = EXTRA; -- a COMMIT that has returned survives a power cut
    CREATE TABLE IF NOT EXISTS credentials (agent TEXT, profile TEXT, credential TEXT, PRIMARY KEY (agent, profile));
  `);
  const select = database.prepare("SELECT credential FROM credentials WHERE agent = ? AND profile = ?");
  const upsert = database.prepare("INSERT OR REPLACE INTO credentials VALUES (?, ?, ?)");

  const load = (profileId) => {
    const row = select.get(agent, profileId);
    return row ? JSON.parse(row.credential) : null;
  };

  const compareAndSwap = (profileId, expected, next) => {
    database.exec("BEGIN IMMEDIATE"); // no other writer from here to the end
    try {
      const isExpected = isDeepStrictEqual(load(profileId), expected);
      if (isExpected) upsert.run(agent, profileId, JSON.stringify(next));
      database.exec("COMMIT");
      return isExpected;
    } catch (error) {
      database.exec("ROLLBACK");
      throw error;
    }
  };

  return { name: `credentials.sqlite ${agent}`, load, compareAndSwap };
}
