#!/usr/bin/env python3
"""Runs relayhub.py against a real hub: test_client.py PORT VECTORS PAGE."""
import asyncio
import itertools
import re
import socket
import struct
import sys
from typing import Awaitable, Callable, Dict, List, Tuple

from relayhub import (
    MAX_BODY,
    MAX_RECEIVERS,
    Client,
    Frame,
    FrameType,
    Message,
    Refused,
    Undelivered,
    encode,
    split_word,
    valid_from_client,
    valid_from_hub,
)

PORT = int(sys.argv[1])
NOBODY = 0xFFFFFFFFFFFFFFFF
Test = Callable[[], Awaitable[None]]


async def connect() -> Client:
    return await Client.connect("127.0.0.1", PORT)


async def event_of(client: Client) -> object:
    return await asyncio.wait_for(client.__anext__(), 10)


# ---- the assignment's scenario


async def test_scenario() -> None:
    async with await connect() as one, await connect() as two, await connect() as three:
        ids = [await client.identity() for client in (one, two, three)]
        assert len(set(ids)) == 3 and 0 not in ids, ids
        assert sorted(await one.list()) == sorted(ids[1:])
        assert await one.send(ids[1:], b"foobar") == 0
        assert await event_of(two) == Message(ids[0], b"foobar")
        assert await event_of(three) == Message(ids[0], b"foobar")
        assert await two.send([ids[0]], b"") == 0
        assert await event_of(one) == Message(ids[1], b"")


async def test_order_and_numbers() -> None:
    async with await connect() as one, await connect() as two:
        receiver = await two.identity()
        me = await one.identity()
        for number in range(500):
            assert await one.send([receiver, receiver], struct.pack("!I", number)) == number
        for number in range(500):
            assert await event_of(two) == Message(me, struct.pack("!I", number))


# ---- limits


async def test_largest_body_and_most_receivers() -> None:
    body = bytes(i & 255 for i in range(MAX_BODY))
    clients = [await connect() for _ in range(MAX_RECEIVERS)]
    ids = [await client.identity() for client in clients]
    sender = await connect()
    me = await sender.identity()
    await sender.send(ids[:1], body)
    assert await event_of(clients[0]) == Message(me, body)
    await sender.send(ids, b"to all")
    for client in clients:
        assert await event_of(client) == Message(me, b"to all")
    listed = await sender.list()
    assert sorted(listed) == sorted(ids) and len(listed) == 255
    for client in (*clients, sender):
        await client.close()


async def test_the_client_refuses_what_is_over_a_limit() -> None:
    async with await connect() as client:
        for receivers, body in (([], b""), ([1] * 256, b""), ([1], bytes(MAX_BODY + 1))):
            try:
                await client.send(receivers, body)
            except ValueError:
                continue
            raise AssertionError("sent")
        assert await client.identity() > 0


# ---- UNDELIVERED


async def test_undelivered_comes_before_a_later_answer() -> None:
    async with await connect() as one, await connect() as two:
        here = await two.identity()
        gone = await connect()
        left = await gone.identity()
        await gone.close()
        while left in await one.list():
            pass
        for number in range(50):
            await one.send([here, left, NOBODY], b"x")
            await one.identity()
            # No event is waited for: it is there when the answer is.
            event = one._events.get_nowait()
            assert isinstance(event, Undelivered) and event.number == number, event
            assert sorted(event.receivers) == sorted([left, NOBODY]), event


# ---- half-close


async def test_half_close() -> None:
    async with await connect() as one, await connect() as two:
        me = await one.identity()
        other = await two.identity()
        await one.send([me, other, NOBODY], b"last")
        one.finish()
        events = [event async for event in one]
        assert Message(me, b"last") in events and Undelivered(0, (NOBODY,)) in events and len(events) == 2, events
        assert await event_of(two) == Message(me, b"last")
        while me in await two.list():
            pass
        await two.send([me], b"too late")
        assert await event_of(two) == Undelivered(0, (me,))


# ---- a hub that is gone without a word


async def test_a_hub_that_is_gone_is_noticed() -> None:
    async with await connect() as client:
        connection = client._writer.get_extra_info("socket")
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        idle = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
        assert 10 <= idle <= 20
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 5
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == (30 - idle) // 5


# ---- the way in which clients find each other, as relayhub-protocol(7) has it


async def find_others(name: str, count: int) -> Tuple[Client, List[str]]:
    client = await connect()
    await client.identity()
    greeted = await client.list()
    hello = b"hello " + name.encode()
    for start in range(0, len(greeted), MAX_RECEIVERS):
        await client.send(greeted[start : start + MAX_RECEIVERS], hello)
    names: Dict[int, str] = {}
    while len(names) < count - 1:
        event = await event_of(client)
        if isinstance(event, Message):
            names[event.sender] = event.body.decode().split()[1]
            if event.sender not in greeted:
                greeted.append(event.sender)
                await client.send([event.sender], hello)
    return client, list(names.values())


async def test_clients_find_each_other() -> None:
    everybody = [f"client{i}" for i in range(40)]
    found = await asyncio.gather(*(find_others(name, len(everybody)) for name in everybody))
    for name, (client, names) in zip(everybody, found):
        await client.close()
        assert sorted([name, *names]) == sorted(everybody), names


# ---- ERROR, with every invalid word of the vectors


def read_vectors() -> List[Dict[str, str]]:
    vectors = []
    with open(sys.argv[2], encoding="utf-8") as file:
        for line in file:
            if line.startswith("#"):
                continue
            verdict, rest = line.rstrip("\n").split(" ", 1)
            rest, _, why = rest.partition(" why=")
            vector = dict(part.split("=", 1) for part in rest.split(" "))
            vectors.append({**vector, "verdict": verdict, "why": why})
    return vectors


async def test_vectors() -> None:
    for vector in read_vectors():
        word = int(vector["hex"][:8], 16)
        valid = valid_from_client if vector["from"] == "client" else valid_from_hub
        assert valid(word) == (vector["verdict"] == "valid"), vector
        if vector["verdict"] == "invalid":
            continue
        first, count, length = int(vector["first_id"]), int(vector["count"]), int(vector["length"])
        pattern = vector["body"] == "pattern"
        body = bytes(i & 255 for i in range(length)) if pattern else bytes.fromhex(vector["body"])
        frame = encode(Frame(FrameType[vector["type"]], tuple(range(first, first + count)), body))
        assert split_word(word)[1:] == (count, length) and len(frame) == int(vector["size"]), vector
        shown = vector["hex"]
        assert frame.hex() == shown or (shown.endswith("...") and frame.hex().startswith(shown[:-3])), vector


async def test_each_invalid_word_gets_an_error() -> None:
    async with await connect() as witness:
        for vector in read_vectors():
            if vector["verdict"] != "invalid" or vector["from"] != "client":
                continue
            async with await connect() as client:
                assert await client.identity() > 0
                client._writer.write(bytes.fromhex(vector["hex"]))
                try:
                    await event_of(client)
                except Refused as reason:
                    assert str(reason), vector
                    continue
                raise AssertionError(f"{vector} was accepted")
        assert await witness.identity() > 0


async def test_error_comes_after_what_was_under_way() -> None:
    async with await connect() as client:
        me = await client.identity()
        for number in range(100):
            await client.send([me, NOBODY], struct.pack("!I", number))
        client._writer.write(bytes(4))
        events = []
        try:
            async for event in client:
                events.append(event)
        except Refused:
            pass
        messages = [event for event in events if isinstance(event, Message)]
        undelivered = [event for event in events if isinstance(event, Undelivered)]
        assert len(messages) == 100 and [event.number for event in undelivered] == list(range(100)), events


async def test_a_frame_in_pieces() -> None:
    async with await connect() as two:
        other = await two.identity()
        with socket.create_connection(("127.0.0.1", PORT)) as one:
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in encode(Frame(FrameType.MESSAGE, (other,), b"foobar")):
                one.sendall(bytes([byte]))
                await asyncio.sleep(0.002)
            event = await event_of(two)
            assert isinstance(event, Message) and event.body == b"foobar", event


# ---- the dumps in relayhub-protocol(7)


def read_dumps() -> List[Tuple[str, bytes]]:
    """Side, C or H, and bytes of each dump."""
    dumps: List[Tuple[str, bytes]] = []
    with open(sys.argv[3], encoding="utf-8") as page:
        for line in page:
            digits = re.match(r"(?:[CH]: |   )((?:[0-9a-f]{2} )*[0-9a-f]{2})(?:  |$)", line.rstrip("\n"))
            if digits is None:
                continue
            some = bytes.fromhex(digits.group(1))
            if line[0] in "CH":
                dumps.append((line[0], some))
            elif dumps:
                dumps[-1] = (dumps[-1][0], dumps[-1][1] + some)
    return dumps


async def test_the_dumps_of_the_page() -> None:
    dumps = read_dumps()
    assert len(dumps) > 12, dumps
    for side, frame in dumps:
        word = int.from_bytes(frame[:4], "big")
        _, count, length = split_word(word)
        assert len(frame) == 4 + 8 * count + length, frame.hex()
        if side == "H":
            assert valid_from_hub(word), frame.hex()
            continue
        # The hub takes it: what comes before the answer to IDENTITY is no ERROR.
        with socket.create_connection(("127.0.0.1", PORT), timeout=10) as client:
            client.sendall(frame + encode(Frame(FrameType.IDENTITY, (), b"")))
            stream = client.makefile("rb")
            while True:
                kind, count, length = split_word(int.from_bytes(stream.read(4), "big"))
                stream.read(8 * count + length)
                assert kind != FrameType.ERROR, frame.hex()
                if kind == FrameType.IDENTITY:
                    break


async def main() -> None:
    tests: List[Test] = [value for name, value in sorted(globals().items()) if name.startswith("test_")]
    for number, test in zip(itertools.count(1), tests):
        await asyncio.wait_for(test(), 60)
        print(f"ok {number} {test.__name__}", flush=True)
    print(f"{len(tests)} passed")


asyncio.run(main())
