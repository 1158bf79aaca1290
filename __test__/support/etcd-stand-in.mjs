/** As much of etcd's JSON gateway as one process needs, for tests that have to run where etcd is not installed. */
import { json } from "node:stream/consumers";
import { onTestFinished } from "vitest";
import { serve } from "../../cli/provider.mjs";

/** Keys and values are kept as the gateway has them, in base64. */
export async function startEtcdStandIn() {
  const rows = new Map();
  const way = { isReadOnly: false };
  // As a new etcd has it.
  let revision = 1;
  const answers = {
    "/v3/kv/range": ({ key }) => {
      const row = rows.get(key);
      return { kvs: row && [{ key, value: row.value, mod_revision: `${row.rev}` }] };
    },
    "/v3/kv/txn": ({ compare: [{ key, mod_revision = "0" }], success: [{ request_put: put }] }) => {
      const succeeded = `${rows.get(key)?.rev ?? 0}` === mod_revision;
      if (succeeded) rows.set(put.key, { value: put.value, rev: ++revision });
      return { header: { revision: `${revision}` }, succeeded };
    },
  };
  const { port, close: stop } = await serve(async (request, response) => {
    const answer = answers[request.url];
    if (way.isReadOnly && request.url === "/v3/kv/txn") {
      response.writeHead(403).end(JSON.stringify({ error: "etcdserver: permission denied", code: 7 }));
      return;
    }
    // A watch hears nothing.
    if (answer) response.end(JSON.stringify(answer(await json(request))));
  });
  onTestFinished(stop);
  return { url: `etcd://127.0.0.1:${port}`, rows, way, stop };
}
