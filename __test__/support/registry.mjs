/**
 * A registry of npm packages on loopback: has what lies packed in a directory, takes what is published, and sends whoever asks for
 * another package to the usual registry, if it is told where that is.
 */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { serve } from "../../cli/provider.mjs";

const OURS = /^(@oauth-refresh-lock\/|oauth-refresh-lock$)/;

export const integrityOf = (bytes) => `sha512-${createHash("sha512").update(bytes).digest("base64")}`;

/**
 * `published`: what was published, in its order. `forget`: to have a package no longer. `refuse`: whether a package is refused when it is published. `hide`: whether what
 * was published is not shown yet.
 */
export async function startRegistry({ directory, elsewhere, refuse = () => false, hide = () => false }) {
  /** By name: the document that npm asks for. */
  const documents = new Map();
  const tarballs = new Map();
  const published = [];

  function add(name, manifest, bytes, tag) {
    const { version } = manifest;
    const file = `${name.replace("/", "-")}-${version}.tgz`;
    tarballs.set(`-/${file}`, bytes);
    const document = documents.get(name) ?? { name, "dist-tags": {}, versions: {} };
    document["dist-tags"][tag] = version;
    document.versions[version] = { ...manifest, dist: { tarball: `${url()}-/${file}`, integrity: integrityOf(bytes) } };
    documents.set(name, document);
  }

  async function take(request, response, name) {
    let body = "";
    for await (const part of request) body += part;
    if (refuse(name)) return response.writeHead(403).end("{}");
    const { versions, "dist-tags": tags, _attachments: attachments, access } = JSON.parse(body);
    const [manifest] = Object.values(versions);
    const [{ data }] = Object.values(attachments);
    const [tag] = Object.keys(tags);
    add(name, manifest, Buffer.from(data, "base64"), tag);
    published.push({ name, version: manifest.version, tag, access });
    return response.writeHead(201).end("{}");
  }

  const server = await serve((request, response) => {
    response.setHeader("content-type", "application/json");
    const path = decodeURIComponent(request.url.slice(1));
    if (request.method === "PUT") return take(request, response, path);
    if (tarballs.has(path)) return response.end(tarballs.get(path));
    if (documents.has(path) && !hide(path)) return response.end(JSON.stringify(documents.get(path)));
    // Ours are to be had nowhere else: a platform's package that was not built here, for one.
    if (!elsewhere || OURS.test(path)) return response.writeHead(404).end("{}");
    return response.writeHead(302, { location: new URL(request.url.slice(1), elsewhere).href }).end();
  });
  const url = () => `${server.url}/`;

  for (const file of directory ? readdirSync(directory) : []) {
    const path = join(directory, file);
    const { stdout } = spawnSync("tar", ["-xzOf", path, "package/package.json"], { encoding: "utf8" });
    const manifest = JSON.parse(stdout);
    add(manifest.name, manifest, readFileSync(path), "latest");
  }
  return { url: url(), published, forget: (name) => documents.delete(name), close: server.close };
}
