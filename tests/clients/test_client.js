// Runs relayhub.js against a real hub: test_client.js PORT VECTORS.
"use strict";
const assert = require("node:assert");
const events = require("node:events");
const fs = require("node:fs");
const net = require("node:net");
const {
  Client, FrameType, MAX_BODY, MAX_RECEIVERS, ProtocolError, Refused,
  encode, frameSize, splitWord, validFromClient, validFromHub,
} = require("./relayhub.js");

const port = Number(process.argv[2]);
const NOBODY = 0xffffffffffffffffn;
const range = (count) => Array.from({ length: count }, (_, i) => i);
const connect = (other = port) => Client.connect("127.0.0.1", other);
const sorted = (ids) => [...ids].sort((a, b) => (a < b ? -1 : 1));

// Clients that are closed after the test, whatever became of it.
async function withClients(count, test) {
  const clients = await Promise.all(range(count).map(() => connect()));
  try {
    await test(...clients);
  } finally {
    clients.forEach((client) => client.close());
  }
}

// What comes is kept from the call on.
function messages(client) {
  const came = events.on(client, "message");
  return async () => (await came.next()).value;
}

const tests = {
  async scenario() {
    await withClients(3, async (one, two, three) => {
      const ids = await Promise.all([one, two, three].map((client) => client.identity()));
      assert.strictEqual(new Set(ids).size, 3);
      assert.deepStrictEqual(sorted(await one.list()), sorted(ids.slice(1)));
      const next = [one, two, three].map(messages);
      assert.strictEqual(await one.send(ids.slice(1), "foobar"), 0n);
      assert.deepStrictEqual(await next[1](), [ids[0], Buffer.from("foobar")]);
      assert.deepStrictEqual(await next[2](), [ids[0], Buffer.from("foobar")]);
      await two.send([ids[0]], "");
      assert.deepStrictEqual(await next[0](), [ids[1], Buffer.alloc(0)]);
    });
  },

  async orderAndNumbers() {
    await withClients(2, async (one, two) => {
      const receiver = await two.identity();
      const next = messages(two);
      for (const i of range(500)) assert.strictEqual(await one.send([receiver, receiver], `${i}`), BigInt(i));
      for (const i of range(500)) assert.strictEqual(`${(await next())[1]}`, `${i}`);
    });
  },

  async largestBodyAndMostReceivers() {
    const body = Buffer.from(range(MAX_BODY).map((i) => i & 255));
    await withClients(MAX_RECEIVERS + 1, async (sender, ...others) => {
      const ids = await Promise.all(others.map((client) => client.identity()));
      const next = others.map(messages);
      await sender.send(ids.slice(0, 1), body);
      assert.ok((await next[0]())[1].equals(body));
      await sender.send(ids, "to all");
      for (const message of next) assert.strictEqual(`${(await message())[1]}`, "to all");
      assert.deepStrictEqual(sorted(await sender.list()), sorted(ids));
    });
  },

  async refusesWhatIsOverALimit() {
    await withClients(1, async (client) => {
      await assert.rejects(client.send([], ""), RangeError);
      await assert.rejects(client.send(Array(256).fill(1n), ""), RangeError);
      await assert.rejects(client.send([1n], Buffer.alloc(MAX_BODY + 1)), RangeError);
      assert.ok((await client.identity()) > 0n);
    });
  },

  async undeliveredComesBeforeALaterAnswer() {
    await withClients(1, async (client) => {
      const missed = [];
      client.on("undelivered", (number, receivers) => missed.push([number, receivers]));
      await client.send([await client.identity(), NOBODY, 0n], "x");
      await client.identity();
      assert.strictEqual(missed.length, 1);
      assert.strictEqual(missed[0][0], 0n);
      assert.deepStrictEqual(sorted(missed[0][1]), [0n, NOBODY]);
    });
  },

  async halfClose() {
    await withClients(2, async (one, two) => {
      const [me, other] = [await one.identity(), await two.identity()];
      const [own, next] = [messages(one), messages(two)];
      const missed = events.once(one, "undelivered");
      const end = events.once(one, "end");
      one.send([me, other, NOBODY], "last");
      one.finish();
      assert.deepStrictEqual(await end, [null]);
      assert.deepStrictEqual(await missed, [0n, [NOBODY]]);
      assert.strictEqual(`${(await own())[1]}`, "last");
      assert.strictEqual(`${(await next())[1]}`, "last");
      await assert.rejects(one.identity(), /closed/);
    });
  },

  async vectors() {
    const lines = fs.readFileSync(process.argv[3], "utf8").split("\n");
    let seen = 0;
    for (const line of lines) {
      if (line === "" || line.startsWith("#")) continue;
      const [verdict, ...rest] = line.replace(/ why=.*/, "").split(" ");
      const vector = Object.fromEntries(rest.map((part) => part.split("=")));
      const word = parseInt(vector.hex.slice(0, 8), 16);
      const valid = vector.from === "client" ? validFromClient : validFromHub;
      assert.strictEqual(valid(word), verdict === "valid", line);
      seen++;
      if (verdict !== "valid") {
        if (vector.from === "client") await isRefused(Buffer.from(vector.hex, "hex"), line);
        continue;
      }
      const [count, length] = [Number(vector.count), Number(vector.length)];
      const ids = range(count).map((i) => BigInt(vector.first_id) + BigInt(i));
      const body = vector.body === "pattern" ? Buffer.from(range(length).map((i) => i & 255)) : Buffer.from(vector.body, "hex");
      const frame = encode(FrameType[vector.type], ids, body);
      const shown = vector.hex.replace("...", "");
      assert.deepStrictEqual([splitWord(word).count, splitWord(word).length], [count, length], line);
      assert.deepStrictEqual([frame.length, frameSize(word)], [Number(vector.size), Number(vector.size)], line);
      assert.ok(frame.toString("hex").startsWith(shown) && (shown !== vector.hex || shown.length === 2 * frame.length), line);
    }
    assert.ok(seen > 30);
  },

  // A frame byte by byte, one in the middle of which the hub closes, and one that no hub sends.
  async whatAHubMaySay() {
    const frame = encode(FrameType.MESSAGE, [7n], Buffer.from("in pieces"));
    const server = net.createServer({ noDelay: true }, async (socket) => {
      socket.on("error", () => {});
      for (const byte of frame) {
        socket.write(Buffer.from([byte]));
        await new Promise(setImmediate);
      }
      socket.end(server.last);
    });
    await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
    for (const last of [Buffer.alloc(0), frame.subarray(0, 5), Buffer.from("HTTP/1.1 400")]) {
      server.last = last;
      const client = await connect(server.address().port);
      const next = messages(client);
      const [error] = await events.once(client, "end");
      assert.deepStrictEqual(await next(), [7n, Buffer.from("in pieces")]);
      assert.ok(last.length === 0 ? error === null : error instanceof ProtocolError, `${error}`);
    }
    server.close();
    await assert.rejects(connect(1), /ECONNREFUSED/);
  },
};

async function isRefused(bytes, line) {
  await withClients(1, async (client) => {
    const end = events.once(client, "end");
    client._socket.write(bytes);
    const [error] = await end;
    assert.ok(error instanceof Refused && error.message !== "", line);
  });
}

async function main() {
  for (const [name, test] of Object.entries(tests)) {
    await test();
    console.log(`ok ${name}`);
  }
}

main().catch((error) => {
  console.log(error);
  process.exit(1);
});
