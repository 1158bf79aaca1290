/** A certificate authority of the test's own, which nobody trusts who is not told to. */
import { writeFileSync } from "node:fs";
import { createServer } from "node:tls";
import { generate } from "selfsigned";

/** The name of a host that no resolver knows. */
export const NAME = "login.acme.test";

const keyOf = { keyType: "ec", curve: "P-256", algorithm: "sha256" };
const named = (name) => [{ name: "commonName", value: name }];
const DNS = 2;
const IP = 7;
export const ANOTHERS_NAMES = [{ type: DNS, value: "another.acme.test" }];
const altNames = [
  { type: DNS, value: "localhost" },
  { type: DNS, value: NAME },
  { type: IP, ip: "127.0.0.1" },
  { type: IP, ip: "::1" },
];

/** A root, and what a server needs that it vouches for. */
export async function createAuthority() {
  const root = await generate(named("A test's own root"), {
    ...keyOf,
    extensions: [
      { name: "basicConstraints", cA: true, critical: true },
      { name: "keyUsage", keyCertSign: true, cRLSign: true, critical: true },
    ],
  });
  const issue = async (subjectAltName) => {
    const { cert, private: key } = await generate(named("A test's own server"), {
      ...keyOf,
      ca: { key: root.private, cert: root.cert },
      extensions: [
        { name: "basicConstraints", cA: false },
        { name: "extKeyUsage", serverAuth: true },
        { name: "subjectAltName", altNames: subjectAltName },
      ],
    });
    return { cert, key };
  };
  const server = await issue(altNames);
  const anothers = await issue(ANOTHERS_NAMES);
  return {
    root: root.cert,
    server,
    /** Vouched for, but under another name. */
    anothers,
    /** Writes the root where the environment can point. */
    save(path) {
      writeFileSync(path, root.cert);
      return path;
    },
  };
}

/** A certificate that vouches for itself, an authority's, as `openssl req -x509` makes it, and that a server has for its own. */
export async function createSelfSigned({ subjectAltName = altNames, ...options } = {}) {
  const { cert, private: key } = await generate(named("localhost"), {
    ...keyOf,
    extensions: [
      { name: "basicConstraints", cA: true, critical: true },
      { name: "subjectAltName", altNames: subjectAltName },
    ],
    ...options,
  });
  return { cert, key };
}

/** For {@link import("./token-server.mjs").startServer}: the same by TLS. */
export const withTls = (identity) => (listener) => createServer({ ...identity, ALPNProtocols: ["http/1.1"] }, listener);
