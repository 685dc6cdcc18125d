// A relayhub client for Node 16 and later, written from relayhub-protocol(7) alone: one file, no other modules.
//
//     const client = await Client.connect("127.0.0.1", 7411);
//     client.on("message", (sender, body) => console.log(`${sender}: ${body}`));
//     client.on("undelivered", (number, receivers) => console.log(`${receivers} did not get message ${number}`));
//     client.on("end", (error) => console.log(error ? error.message : "the hub closed the connection"));
//     const others = await client.list();
//     if (others.length > 0) await client.send(others.slice(0, MAX_RECEIVERS), "hello");
//
// Ids and the numbers of messages have 64 bits, so they are of type bigint.
"use strict";
const { EventEmitter } = require("node:events");
const net = require("node:net");

const MAX_BODY = 1048576;
const MAX_RECEIVERS = 255;
const FrameType = Object.freeze({ IDENTITY: 1, LIST: 2, MESSAGE: 3, UNDELIVERED: 4, ERROR: 5 });

// The other side sent what relayhub-protocol(7) does not allow.
class ProtocolError extends Error {}

// The hub sent ERROR; the message is its reason.
class Refused extends Error {}

// ---- frames: pure functions

function encode(type, ids, body) {
  const frame = Buffer.allocUnsafe(4 + 8 * ids.length + body.length);
  frame.writeUInt32BE(((type << 29) | (ids.length << 21) | body.length) >>> 0, 0);
  ids.forEach((id, i) => frame.writeBigUInt64BE(id, 4 + 8 * i));
  body.copy(frame, 4 + 8 * ids.length);
  return frame;
}

function splitWord(word) {
  return { type: word >>> 29, count: (word >>> 21) & 255, length: word & 0x1fffff };
}

function frameSize(word) {
  const { count, length } = splitWord(word);
  return 4 + 8 * count + length;
}

function validFromClient(word) {
  const { type, count, length } = splitWord(word);
  if (type === FrameType.MESSAGE) return count >= 1 && length <= MAX_BODY;
  return (type === FrameType.IDENTITY || type === FrameType.LIST) && count === 0 && length === 0;
}

function validFromHub(word) {
  const { type, count, length } = splitWord(word);
  switch (type) {
    case FrameType.IDENTITY:
      return count === 1 && length === 0;
    case FrameType.LIST:
      return length === 0;
    case FrameType.MESSAGE:
      return count === 1 && length <= MAX_BODY;
    case FrameType.UNDELIVERED:
      return count >= 1 && length === 8;
    case FrameType.ERROR:
      return count === 0 && length <= MAX_BODY;
    default:
      return false;
  }
}

// A whole frame: its type, ids and body.
function decode(frame) {
  const { type, count } = splitWord(frame.readUInt32BE(0));
  const ids = Array.from({ length: count }, (_, i) => frame.readBigUInt64BE(4 + 8 * i));
  return { type, ids, body: frame.subarray(4 + 8 * count) };
}

// ---- the client

class Client extends EventEmitter {
  // The promise is kept once the connection is there.
  static connect(host = "127.0.0.1", port = 7411) {
    return new Promise((resolve, reject) => {
      const socket = net.connect({ host, port, noDelay: true }, () => {
        socket.off("error", reject);
        resolve(new Client(socket));
      });
      socket.once("error", reject);
    });
  }

  constructor(socket) {
    super();
    this._socket = socket;
    this._messages = 0n;
    this._identities = []; // promises of answers, in the order of the requests
    this._lists = [];
    this._list = [];
    this._chunks = []; // what came and is no whole frame yet
    this._size = 0;
    this._wanted = 4; // the size at which another look is worth it
    this._ended = null; // why nothing comes any more
    // An idle client notices after half a minute that the hub is gone: Node has ten probes, a second apart. One that
    // has sent something does so after the system's own time, as Node does not offer TCP_USER_TIMEOUT.
    socket.setKeepAlive(true, 1000 * (15 + Math.floor(Math.random() * 6)));
    socket.on("data", (chunk) => this._read(chunk));
    socket.on("end", () => this._stop(this._size > 0 ? new ProtocolError("the hub closed within a frame") : null));
    socket.on("error", (error) => this._stop(error));
    socket.on("close", () => this._stop(null));
  }

  // -- requests

  identity() {
    return this._ask(FrameType.IDENTITY, this._identities);
  }

  list() {
    return this._ask(FrameType.LIST, this._lists);
  }

  // Sends a body, a Buffer or a string. The promise is of the message's number, which a later "undelivered" names, and
  // kept once the system has taken the message: await it, or a slow hub makes this process grow.
  async send(receivers, body) {
    const bytes = Buffer.from(body);
    if (receivers.length < 1 || receivers.length > MAX_RECEIVERS)
      throw new RangeError(`a message has 1 to ${MAX_RECEIVERS} receivers, not ${receivers.length}`);
    if (bytes.length > MAX_BODY) throw new RangeError(`a body has at most ${MAX_BODY} bytes, not ${bytes.length}`);
    this._check();
    const number = this._messages++;
    await new Promise((resolve, reject) => {
      this._socket.write(encode(FrameType.MESSAGE, receivers, bytes), (error) => (error ? reject(error) : resolve()));
    });
    return number;
  }

  // Ends the sending. What is under way still comes, and then "end". close() may lose what was sent.
  finish() {
    this._socket.end();
  }

  close() {
    this._socket.destroy();
  }

  _check() {
    if (this._ended) throw this._ended;
  }

  async _ask(type, answers) {
    this._check();
    return new Promise((resolve, reject) => {
      answers.push({ resolve, reject });
      this._socket.write(encode(type, [], Buffer.alloc(0)));
    });
  }

  // -- reading

  _read(chunk) {
    this._chunks.push(chunk);
    this._size += chunk.length;
    if (this._size < this._wanted || this._ended) return;
    const bytes = Buffer.concat(this._chunks, this._size);
    let at = 0;
    this._wanted = 4;
    while (!this._ended && bytes.length - at >= 4) {
      const word = bytes.readUInt32BE(at);
      if (!validFromHub(word)) return this._stop(new ProtocolError(`the hub sent the word ${word.toString(16)}`));
      this._wanted = frameSize(word);
      if (bytes.length - at < this._wanted) break;
      this._handle(decode(bytes.subarray(at, at + this._wanted)));
      at += this._wanted;
      this._wanted = 4;
    }
    this._chunks = [bytes.subarray(at)];
    this._size = bytes.length - at;
  }

  _handle({ type, ids, body }) {
    switch (type) {
      case FrameType.MESSAGE:
        this.emit("message", ids[0], body);
        break;
      case FrameType.UNDELIVERED:
        this.emit("undelivered", body.readBigUInt64BE(0), ids);
        break;
      case FrameType.ERROR:
        this._stop(new Refused(body.toString("utf8")));
        break;
      case FrameType.IDENTITY:
        this._answer(this._identities, ids[0]);
        break;
      default:
        this._list.push(...ids);
        if (ids.length === 255) break; // more follows
        this._answer(this._lists, this._list);
        this._list = [];
    }
  }

  _answer(answers, value) {
    if (answers.length === 0) this._stop(new ProtocolError("an answer that nobody asked for"));
    else answers.shift().resolve(value);
  }

  // The first reason counts. "end" has an error, or null after an end in good order.
  _stop(error) {
    if (this._ended) return;
    this._ended = error || new Error("the hub closed the connection");
    this._socket.destroy();
    for (const answer of [...this._identities, ...this._lists]) answer.reject(this._ended);
    this.emit("end", error);
  }
}

module.exports = {
  Client, FrameType, MAX_BODY, MAX_RECEIVERS, ProtocolError, Refused,
  decode, encode, frameSize, splitWord, validFromClient, validFromHub,
};
