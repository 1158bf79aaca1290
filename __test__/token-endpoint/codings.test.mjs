/**
 * Content codings of a token endpoint's answer, which nobody asked for: whatever CDNs and gateways do, a new refresh token is
 * not thrown away.
 */
import { brotliCompressSync, constants, deflateRawSync, deflateSync, gzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { refreshOAuthToken } from "../../index.mjs";
import { refreshAs, typedRejection } from "../support/calls.mjs";
import { createHost, expired, storeText } from "../support/host.mjs";
import { token } from "../support/secrets.mjs";
import { at, ends, http, says, startServer, tokens } from "../support/token-server.mjs";

const MIB = 1 << 20;

/** A Zstandard frame of one raw block (RFC 8878 §3.1.1): Node 20 has no coder. What compresses is tested in Rust. */
function zstd(plain, isLast = true) {
  const block = Buffer.from(plain);
  const frame = Buffer.from("28b52ffd0050000000", "hex");
  frame.writeUIntLE(Number(isLast) | (block.length << 3), 6, 3);
  return Buffer.concat([frame, block]);
}

const CODINGS = [
  ["gzip", gzipSync],
  ["x-gzip", gzipSync],
  ["GZIP", gzipSync],
  ["deflate", deflateSync],
  ["deflate", deflateRawSync],
  ["br", brotliCompressSync],
  ["zstd", (plain) => zstd(plain)],
  ["gzip, br", (plain) => brotliCompressSync(gzipSync(plain))],
  ["deflate, identity, gzip, zstd", (plain) => zstd(gzipSync(deflateSync(plain)))],
];

const coded = (body, coding, status = 200) => http(status, body, { "content-encoding": coding });

/** Expects that an expired login is refreshed by an answer that this script gives with these tokens. */
async function expectRefreshed(given, script) {
  const host = createHost({ main: expired() });
  const server = await startServer(script);
  const { outcome, credential } = await refreshAs(host, "main", at(server));
  expect(outcome).toBe("refreshed");
  expect(credential).toMatchObject({ access: given.access_token, refresh: given.refresh_token });
  expect(host.store("main")).toBe(storeText(credential));
  expect(server.requests).toHaveLength(1);
}

/** How a call fails that is answered with these bytes. */
async function failure(bytes, code = "provider_answer_invalid") {
  const server = await startServer(says(bytes));
  const error = await typedRejection(refreshOAuthToken(at(server, { refreshToken: token("refresh") })), code);
  expect(server.requests).toHaveLength(1);
  return error;
}

test.each(CODINGS)("an answer coded %s is understood (%#)", async (coding, code) => {
  const given = tokens();
  await expectRefreshed(given, says(coded(code(JSON.stringify(given)), coding)));
});

test.each(CODINGS)("a refusal coded %s is understood (%#)", async (coding, code) => {
  const refusal = code(JSON.stringify({ error: "invalid_grant" }));
  const error = await failure(coded(refusal, coding, 400), "provider_refused");
  expect(error.oauthError).toBe("invalid_grant");
});

test("codings may be listed in several lines", async () => {
  const given = tokens();
  const body = brotliCompressSync(gzipSync(JSON.stringify(given)));
  const head = `HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: ${body.length}\r\ncontent-encoding: br\r\n\r\n`;
  await expectRefreshed(given, says(Buffer.concat([Buffer.from(head), body])));
});

describe("an object that can be decoded to its closing brace is an answer, although", () => {
  /** Comes to its end in the body's middle, as a flushed stream does. */
  const flushed = {
    gzip: (plain) => gzipSync(plain, { finishFlush: constants.Z_SYNC_FLUSH }),
    deflate: (plain) => deflateSync(plain, { finishFlush: constants.Z_SYNC_FLUSH }),
    br: (plain) => brotliCompressSync(plain, { finishFlush: constants.BROTLI_OPERATION_FLUSH }),
    zstd: (plain) => zstd(plain, false),
  };

  test.each(Object.entries(flushed))("%s was cut off behind it", async (coding, code) => {
    const given = tokens();
    const plain = JSON.stringify(given);
    await expectRefreshed(given, ends(http(200, code(plain), { "content-encoding": coding, "content-length": 9999 })));
  });

  test("a gateway has decoded it and left the header as it was", async () => {
    const given = tokens();
    await expectRefreshed(given, says(coded(JSON.stringify(given), "gzip")));
  });

  test("its coding is known to nobody, and none at all", async () => {
    const given = tokens();
    await expectRefreshed(given, says(coded(JSON.stringify(given), "utf-8")));
  });
});

describe("an answer that can't be decoded is uncertain, and told as what it is:", () => {
  const plain = () => JSON.stringify(tokens());
  test.each([
    ["an unknown coding", () => coded(gzipSync(plain()), "compress"), /unknown content coding/],
    ["too many codings", () => coded(gzipSync(plain()), Array(5).fill("gzip")), /unknown content coding/],
    ["nonsense", () => coded("garbage", "br"), /body that can't be decoded/],
    [
      "damage",
      () => {
        const body = gzipSync(plain());
        body[body.length >> 1] ^= 0x10;
        return coded(body, "gzip");
      },
      /body that can't be decoded/,
    ],
  ])("%s", async (_, bytes, words) => {
    const error = await failure(bytes());
    expect(error.refreshFailure.class).toBe("uncertain");
    expect(error.status).toBe(200);
    expect(error.message).toMatch(words);
  });

  test("one that is cut off within its object", async () => {
    const body = gzipSync(plain());
    const error = await failure(coded(body.subarray(0, 40), "gzip"), "provider_answer_lost");
    expect(error.refreshFailure.class).toBe("uncertain");
  });

  test.each([
    ["gzip", gzipSync],
    ["deflate", deflateSync],
    ["br", brotliCompressSync],
  ])("more than 1 MiB of it, decoded from %s", async (coding, code) => {
    const error = await failure(coded(code(`${" ".repeat(64 * MIB)}${plain()}`), coding), "provider_answer_lost");
    expect(error.refreshFailure.class).toBe("uncertain");
  });

  test("the status still tells", async () => {
    const error = await failure(coded("garbage", "compress", 429), "provider_refused");
    expect(error.refreshFailure.class).toBe("answered_unspent");
  });
});
