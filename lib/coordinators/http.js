const http = require("node:http");
const https = require("node:https");
const { createSecureContext } = require("node:tls");
const args = require("../arguments.js");

/** Shorter than what servers and proxies between keep an idle connection for: a request never meets one that is being closed. */
const IDLE_MS = 4_000;
/** More than a row and what stands around it. */
const MAX_ANSWER_BYTES = 4 * 1024 * 1024;

/** A request that failed. `isSent`: the server may have got it. */
class RequestError extends Error {
  constructor(message, isSent, cause) {
    super(message, cause === undefined ? undefined : { cause });
    this.isSent = isSent;
  }
}

/**
 * Requests to one engine. Not by `fetch`: that takes no authority's certificate, does not say whether a request was sent, and a
 * watch of its keeps the process from exiting.
 */
class HttpClient {
  #kept;
  #fresh;
  #tls;

  /** @param {{ ca?: string | Uint8Array, cert?: string | Uint8Array, key?: string | Uint8Array }} [tls] */
  constructor(tls = {}) {
    try {
      createSecureContext(tls);
    } catch (cause) {
      throw Object.assign(args.invalid("ca, cert and key must be certificates and a key in PEM that belong together"), {
        cause,
      });
    }
    this.#tls = tls;
    this.#kept = agents({ keepAlive: true, timeout: IDLE_MS }, tls);
    this.#fresh = agents({ keepAlive: false }, tls);
  }

  /**
   * One request and its whole answer, whatever its status. What may not be repeated should be sent on a fresh connection: on one that
   * was kept, nobody can tell whether the server closed it before or after it read the request.
   *
   * @param {URL} url
   * @param {{ method: string, headers?: object, body?: string, isFresh: boolean, connectMs: number, totalMs: number }} how
   * @returns {Promise<{ status: number, text: string }>}
   */
  ask(url, { method, headers, body, isFresh, connectMs, totalMs }) {
    return new Promise((resolve, reject) => {
      const request = this.#request(url, {
        method,
        headers: withLength(headers, body),
        agent: (isFresh ? this.#fresh : this.#kept)[url.protocol],
      });
      const isSent = watchConnection(request, url);
      const fail = (message, cause) => {
        clearTimeout(connecting);
        clearTimeout(answering);
        reject(new RequestError(message, isSent(), cause));
        request.destroy();
      };
      const connecting = setTimeout(() => {
        if (!isSent()) fail(`no connection within ${Math.round(connectMs)} ms`);
      }, connectMs);
      const answering = setTimeout(() => fail(`no answer within ${Math.round(totalMs)} ms`), totalMs);
      request.on("error", (error) => fail(error.message || error.code, error));
      request.on("response", (response) => {
        let bytes = 0;
        const chunks = [];
        response.on("data", (chunk) => {
          bytes += chunk.length;
          if (bytes > MAX_ANSWER_BYTES) fail(`an answer of more than ${MAX_ANSWER_BYTES} bytes`);
          else chunks.push(chunk);
        });
        response.on("error", (error) => fail(error.message, error));
        response.on("end", () => {
          clearTimeout(connecting);
          clearTimeout(answering);
          resolve({ status: response.statusCode, text: Buffer.concat(chunks).toString() });
        });
      });
      request.end(body);
    });
  }

  /**
   * One request with an answer of many lines. `onLine` gets each line's JSON, and returns what is to be resolved with, or undefined to
   * hear more. Resolves with undefined when the signal aborts or the answer ends. Does not keep the process from exiting.
   *
   * @template T
   * @param {URL} url
   * @param {{ method: string, headers?: object, body?: string, signal: AbortSignal }} how
   * @param {(line: any, status: number) => T | undefined} onLine
   * @returns {Promise<T | undefined>}
   */
  listen(url, { method, headers, body, signal }, onLine) {
    return new Promise((resolve, reject) => {
      // A connection of its own: this request is ended by closing it.
      const tls = url.protocol === "https:" ? this.#tls : {};
      const request = this.#request(url, { method, headers: withLength(headers, body), agent: false, ...tls });
      const end = (settle, value) => {
        signal.removeEventListener("abort", onAbort);
        settle(value);
        request.destroy();
      };
      const onAbort = () => end(resolve);
      signal.addEventListener("abort", onAbort, { once: true });
      request.on("socket", (socket) => socket.unref());
      request.on("error", (error) => end(reject, error));
      request.on("response", (response) => {
        let rest = "";
        response.setEncoding("utf8");
        response.on("data", (text) => {
          const lines = (rest + text).split("\n");
          rest = lines.pop();
          if (rest.length > MAX_ANSWER_BYTES) return end(reject, new Error("a line that is too long"));
          for (const line of lines.filter((one) => one.trim() !== "")) {
            try {
              const heard = onLine(JSON.parse(line), response.statusCode);
              if (heard !== undefined) return end(resolve, heard);
            } catch (error) {
              return end(reject, error);
            }
          }
        });
        response.on("error", (error) => end(reject, error));
        response.on("end", () => end(resolve));
      });
      request.end(body);
      if (signal.aborted) onAbort();
    });
  }

  #request(url, options) {
    return (url.protocol === "https:" ? https : http).request(url, options);
  }
}

function agents(options, tls) {
  return { "http:": new http.Agent(options), "https:": new https.Agent({ ...options, ...tls }) };
}

/** A function that says whether the request may have reached the server: from the moment that there is a connection. */
function watchConnection(request, url) {
  let isConnected = false;
  request.on("socket", (socket) => {
    const ready = url.protocol === "https:" ? "secureConnect" : "connect";
    if (request.reusedSocket) isConnected = true;
    else
      socket.once(ready, () => {
        isConnected = true;
      });
  });
  return () => isConnected;
}

function withLength(headers, body) {
  return body === undefined ? headers : { ...headers, "content-length": Buffer.byteLength(body) };
}

module.exports = { HttpClient, RequestError };
