"""The client that streams bodies to S3, against servers that behave badly."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from archiver.backend.edge.stream import BodyStreamer, StalledStreamError, StreamError, WrongLengthError

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
OK = b'HTTP/1.1 200 OK\r\nETag: "e"\r\nContent-Length: 0\r\n\r\n'


@asynccontextmanager
async def serving(handle: Handler, **options: float) -> AsyncIterator[tuple[BodyStreamer, str]]:
    """A streamer to a server that handles each connection so, and the URL."""

    async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handle(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(guarded, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, BodyStreamer(url, **options) as streamer:  # type: ignore[arg-type]
        yield streamer, f"{url}/bucket/key?partNumber=1"


async def body(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def test_the_request_is_what_was_signed() -> None:
    seen = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(CONTINUE)
        seen.append(await reader.readexactly(8))
        writer.write(OK)

    async with serving(handle) as (streamer, url):
        answer = await streamer.put(url, {"x-amz-date": "now", "content-length": "8"}, 8, body(b"four", b"more"))
    assert (answer.status, answer.headers["etag"]) == (200, '"e"')
    lines = seen[0].decode().split("\r\n")
    assert lines[0] == "PUT /bucket/key?partNumber=1 HTTP/1.1"
    assert sorted(line for line in lines[1:] if line and not line.startswith("host:")) == [
        "content-length: 8",
        "expect: 100-continue",
        "x-amz-date: now",
    ]
    assert seen[1] == b"fourmore"


async def test_a_refusal_before_the_body_leaves_the_body_alone() -> None:
    taken = False

    async def untouched() -> AsyncIterator[bytes]:
        nonlocal taken
        taken = True
        yield b"data"

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n<E>\r\n0\r\n\r\n")

    async with serving(handle) as (streamer, url):
        answer = await streamer.put(url, {}, 4, untouched())
    assert (answer.status, answer.body, taken) == (403, b"<E>", False)


async def test_a_server_without_100_continue_gets_the_body_after_a_while() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(4)
        writer.write(OK)

    async with serving(handle) as (streamer, url):
        assert (await streamer.put(url, {}, 4, body(b"data"))).status == 200


async def test_an_answer_in_mid_body_ends_the_sending() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(CONTINUE)
        await reader.readexactly(1000)
        writer.write(b"HTTP/1.1 507 Full\r\nContent-Length: 4\r\nConnection: close\r\n\r\nfull")
        await writer.drain()

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 1000
            await asyncio.sleep(0)

    async with serving(handle) as (streamer, url):
        answer = await streamer.put(url, {}, 10**12, endless())
    assert (answer.status, answer.body) == (507, b"full")


async def test_connections_are_kept_and_stale_ones_replaced() -> None:
    connections = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        for _ in range(2):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(CONTINUE)
            await reader.readexactly(4)
            writer.write(OK)

    async with serving(handle) as (streamer, url):
        for _ in range(4):
            assert (await streamer.put(url, {}, 4, body(b"data"))).status == 200
    assert connections == 2


@pytest.mark.parametrize(("size", "chunks"), [(3, (b"da", b"ta")), (5, (b"data",))])
async def test_a_body_of_another_length_is_never_finished(size: int, chunks: tuple[bytes, ...]) -> None:
    received: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(CONTINUE)
        try:
            received.set_result(await reader.read())
        except ConnectionResetError:
            received.set_result(b"")

    async with serving(handle) as (streamer, url):
        with pytest.raises(WrongLengthError):
            await streamer.put(url, {}, size, body(*chunks))
        assert len(await received) < size


async def test_a_body_that_breaks_off_breaks_the_connection_off() -> None:
    ended: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(CONTINUE)
        try:
            await reader.readexactly(100)
        except (asyncio.IncompleteReadError, ConnectionResetError):
            ended.set_result(True)

    async def broken() -> AsyncIterator[bytes]:
        yield b"some"
        raise ConnectionAbortedError("the client went away")

    async with serving(handle) as (streamer, url):
        with pytest.raises(ConnectionAbortedError):
            await streamer.put(url, {}, 100, broken())
        assert await ended


@pytest.mark.parametrize("side", ["client", "storage"])
async def test_a_side_that_stands_still_is_given_up(side: str) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(CONTINUE)
        await asyncio.Event().wait()

    async def still() -> AsyncIterator[bytes]:
        yield b"da"
        if side == "client":
            await asyncio.Event().wait()
        yield b"ta"

    async with serving(handle, stall_seconds=0.3) as (streamer, url):
        with pytest.raises(StalledStreamError, match="client" if side == "client" else "S3"):
            await streamer.put(url, {}, 4, still())


NO_ANSWERS = [
    b"",
    b"nonsense\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort",
    b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab",
]


@pytest.mark.parametrize("answer", NO_ANSWERS)
@pytest.mark.parametrize("early", [False, True])
async def test_answers_that_are_none_are_errors(answer: bytes, early: bool) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if not early:
            writer.write(CONTINUE)
            await reader.readexactly(4)
        writer.write(answer)

    async with serving(handle) as (streamer, url):
        with pytest.raises(StreamError):
            await streamer.put(url, {}, 4, body(b"data"))


async def test_no_more_uploads_than_the_limit_are_under_way() -> None:
    under_way = most = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal under_way, most
        await reader.readuntil(b"\r\n\r\n")
        under_way += 1
        most = max(most, under_way)
        writer.write(CONTINUE)
        await reader.readexactly(4)
        await asyncio.sleep(0)
        under_way -= 1
        writer.write(OK)

    async with serving(handle, limit=3) as (streamer, url):

        async def put() -> None:
            async with streamer.slot():
                await streamer.put(url, {}, 4, body(b"data"))

        await asyncio.gather(*(put() for _ in range(20)))
    assert most == 3


async def test_a_server_that_cannot_be_reached_is_an_error() -> None:
    async with BodyStreamer("http://127.0.0.1:9") as streamer:
        with pytest.raises(StreamError, match="cannot be reached"):
            await streamer.put("http://127.0.0.1:9/b/k", {}, 4, body(b"data"))


def test_addresses_that_are_none_are_refused() -> None:
    for address in ("", "ftp://x", "http://"):
        with pytest.raises(ValueError, match="endpoint"):
            BodyStreamer(address)
