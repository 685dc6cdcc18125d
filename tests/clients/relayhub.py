"""A relayhub client for Python 3.8 and later, written from relayhub-protocol(7) alone.

It shows how a client is written in another language: the frames are read and written in one place, one task reads the
socket for as long as the connection lasts, and answers are matched to requests by their order.

    async with await Client.connect("127.0.0.1", 7411) as client:
        me = await client.identity()
        number = await client.send(await client.list(), b"hello")
        async for event in client:
            ...
"""
import asyncio
import collections
import enum
import random
import socket
import struct
from typing import AsyncIterator, Deque, List, NamedTuple, Optional, Sequence, Tuple, Type

MAX_BODY = 1048576
MAX_RECEIVERS = 255


class FrameType(enum.IntEnum):
    IDENTITY = 1
    LIST = 2
    MESSAGE = 3
    UNDELIVERED = 4
    ERROR = 5


class Frame(NamedTuple):
    type: FrameType
    ids: Tuple[int, ...]
    body: bytes


class ProtocolError(Exception):
    """The other side sent what relayhub-protocol(7) does not allow."""


class Refused(ConnectionError):
    """The hub sent ERROR; the text is its reason."""


# ---- frames: pure functions


def encode(frame: Frame) -> bytes:
    word = frame.type << 29 | len(frame.ids) << 21 | len(frame.body)
    return struct.pack(f"!I{len(frame.ids)}Q", word, *frame.ids) + frame.body


def split_word(word: int) -> Tuple[int, int, int]:
    """Type, count and length of a frame."""
    return word >> 29, word >> 21 & 255, word & 0x1FFFFF


def valid_from_client(word: int) -> bool:
    kind, count, length = split_word(word)
    if kind == FrameType.MESSAGE:
        return count >= 1 and length <= MAX_BODY
    return kind in (FrameType.IDENTITY, FrameType.LIST) and count == 0 and length == 0


def valid_from_hub(word: int) -> bool:
    kind, count, length = split_word(word)
    return (
        (kind == FrameType.IDENTITY and count == 1 and length == 0)
        or (kind == FrameType.LIST and length == 0)
        or (kind == FrameType.MESSAGE and count == 1 and length <= MAX_BODY)
        or (kind == FrameType.UNDELIVERED and count >= 1 and length == 8)
        or (kind == FrameType.ERROR and count == 0 and length <= MAX_BODY)
    )


# ---- events: what comes without being asked for


class Message(NamedTuple):
    sender: int
    body: bytes


class Undelivered(NamedTuple):
    number: int
    receivers: Tuple[int, ...]


# ---- the client


def notice_when_gone(connection: socket.socket) -> None:
    """Has the system end an idle connection after half a minute without a sign of the hub; where it can."""
    idle = random.randint(10, 20)  # not all clients probe at the same time
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", idle), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", (30 - idle) // 5)):
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._messages = 0
        self._identities: Deque["asyncio.Future[int]"] = collections.deque()
        self._lists: Deque["asyncio.Future[List[int]]"] = collections.deque()
        self._list: List[int] = []
        self._events: "asyncio.Queue[object]" = asyncio.Queue()
        self._end: Optional[Exception] = None  # why nothing comes any more; EOFError: the hub closed in good order
        self._task = asyncio.create_task(self._read())

    @classmethod
    async def connect(cls: Type["Client"], host: str = "127.0.0.1", port: int = 7411) -> "Client":
        reader, writer = await asyncio.open_connection(host, port, limit=2 * MAX_BODY)
        notice_when_gone(writer.get_extra_info("socket"))
        return cls(reader, writer)

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        self._task.cancel()
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except OSError:
            pass

    # -- requests

    async def identity(self) -> int:
        answer: "asyncio.Future[int]" = asyncio.get_running_loop().create_future()
        self._identities.append(answer)
        await self._write(Frame(FrameType.IDENTITY, (), b""))
        return await answer

    async def list(self) -> List[int]:
        answer: "asyncio.Future[List[int]]" = asyncio.get_running_loop().create_future()
        self._lists.append(answer)
        await self._write(Frame(FrameType.LIST, (), b""))
        return await answer

    async def send(self, receivers: Sequence[int], body: bytes) -> int:
        """Sends a message and returns its number, which a later Undelivered names."""
        if not 1 <= len(receivers) <= MAX_RECEIVERS:
            raise ValueError(f"a message has 1 to {MAX_RECEIVERS} receivers, not {len(receivers)}")
        if len(body) > MAX_BODY:
            raise ValueError(f"a body has at most {MAX_BODY} bytes, not {len(body)}")
        number = self._messages
        self._messages += 1
        await self._write(Frame(FrameType.MESSAGE, tuple(receivers), body))
        return number

    def finish(self) -> None:
        """Ends the sending. What is under way still comes, and then the end."""
        self._writer.write_eof()

    async def _write(self, frame: Frame) -> None:
        if self._end is not None:
            raise self._end
        self._writer.write(encode(frame))
        await self._writer.drain()  # waits while the hub does not read; _read() goes on meanwhile

    # -- events

    def __aiter__(self) -> AsyncIterator[object]:
        return self

    async def __anext__(self) -> object:
        event = await self._events.get()
        if isinstance(event, Exception):
            self._events.put_nowait(event)  # for whoever asks again
            if isinstance(event, EOFError):
                raise StopAsyncIteration
            raise event
        return event

    # -- reading

    async def _read(self) -> None:
        try:
            while True:
                self._handle(await self._read_frame())
        except asyncio.IncompleteReadError as error:
            self._stop(ConnectionError("the hub closed within a frame") if error.partial else EOFError("closed"))
        except (OSError, ProtocolError) as error:
            self._stop(error)

    async def _read_frame(self) -> Frame:
        (word,) = struct.unpack("!I", await self._reader.readexactly(4))
        if not valid_from_hub(word):
            raise ProtocolError(f"the hub sent the word {word:08x}")
        kind, count, length = split_word(word)
        ids = struct.unpack(f"!{count}Q", await self._reader.readexactly(8 * count))
        return Frame(FrameType(kind), ids, await self._reader.readexactly(length))

    def _handle(self, frame: Frame) -> None:
        if frame.type == FrameType.MESSAGE:
            self._events.put_nowait(Message(frame.ids[0], frame.body))
        elif frame.type == FrameType.UNDELIVERED:
            self._events.put_nowait(Undelivered(int.from_bytes(frame.body, "big"), frame.ids))
        elif frame.type == FrameType.ERROR:
            raise Refused(frame.body.decode("utf-8", "replace"))
        elif frame.type == FrameType.IDENTITY:
            if not self._identities:
                raise ProtocolError("an IDENTITY that nobody asked for")
            self._identities.popleft().set_result(frame.ids[0])
        else:
            if not self._lists:
                raise ProtocolError("a LIST that nobody asked for")
            self._list += frame.ids
            if len(frame.ids) < 255:
                self._lists.popleft().set_result(self._list)
                self._list = []

    def _stop(self, end: Exception) -> None:
        self._end = end
        self._events.put_nowait(end)
        for answer in (*self._identities, *self._lists):
            if not answer.done():
                answer.set_exception(end)
                answer.exception()  # it is no mistake of the program if nobody waits for it any more
