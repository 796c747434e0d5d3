"""One PUT to S3 whose body comes from elsewhere, streamed with flat memory.

A small HTTP/1.1 client on asyncio streams, because it costs the least per byte of those that were measured.
Every request asks for `100 Continue`, so that S3 can refuse before a byte of the body is taken from the
client, and a kept connection that S3 has meanwhile closed is noticed while the request can still be sent anew.
"""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import urlsplit

_CONNECT_SECONDS = 10.0
_CONTINUE_SECONDS = 1.0
"""How long S3 may keep us waiting for its `100 Continue` before the body is sent nevertheless."""
_KEPT_SECONDS = 30.0
_KEPT_CONNECTIONS = 32
_WRITE_BUFFER_BYTES = 1024 * 1024
_HEAD_BYTES = 64 * 1024
_ANSWER_BYTES = 1024 * 1024


class StreamError(Exception):
    """S3 could not be reached, broke off, or answered what is no HTTP."""


class StalledStreamError(StreamError):
    """One side took or gave no byte for too long."""


class WrongLengthError(Exception):
    """The body was longer or shorter than announced; nothing is stored."""


@dataclass(frozen=True)
class Answer:
    """What S3 answered: status, headers by lower-case name, body of at most 1 MiB."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass
class _Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    used: bool = False
    idle_since: float = 0.0

    def drop(self) -> None:
        """Close at once, without sending what is buffered: S3 must never take half a body for a whole one."""
        self.writer.transport.abort()


class BodyStreamer:
    """Sends PUTs to one S3 server over kept connections, and gives out `limit` places for them.

    Bound to the event loop it is first used in.
    """

    def __init__(
        self, endpoint: str, *, tls: ssl.SSLContext | None = None, limit: int = 64, stall_seconds: float = 120
    ) -> None:
        parts = urlsplit(endpoint)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"not an http(s) endpoint: {endpoint!r}")
        self._host = parts.hostname
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._tls = (tls or ssl.create_default_context()) if parts.scheme == "https" else None
        self._slots = asyncio.Semaphore(limit)
        self._stall_seconds = stall_seconds
        self._kept: list[_Connection] = []

    async def __aenter__(self) -> Self:
        """Give itself; connections are opened when they are needed."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the kept connections."""
        while self._kept:
            self._kept.pop().drop()

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """A place among the PUTs under way; wait for it before signing a request, which must be sent soon."""
        async with self._slots:
            yield

    async def put(self, url: str, headers: Mapping[str, str], size: int, body: AsyncIterator[bytes]) -> Answer:
        """Send `body`, which must be `size` bytes long, and give S3's answer. Hold a `slot` meanwhile.

        The body is not touched before S3 is ready to take it; when S3 answers early, the rest is left unread.

        Raises:
            WrongLengthError: the body was longer or shorter than `size`.
            StreamError: S3 could not be reached or broke off. StalledStreamError: no progress.
            Whatever `body` raises. In every case the connection is dropped, so that nothing is stored.
        """
        head = self._request_head(url, headers, size)
        async with self._connection(head, expects=size > 0) as (connection, early):
            if early is not None:
                return early
            reading = asyncio.ensure_future(_read_answer(connection))
            try:
                await self._send_body(connection.writer, size, body, reading)
                async with self._stall_timeout("S3 gave no answer"):
                    return await reading
            finally:
                reading.cancel()

    async def _send_body(
        self,
        writer: asyncio.StreamWriter,
        size: int,
        body: AsyncIterator[bytes],
        reading: "asyncio.Future[Answer]",
    ) -> None:
        sent = 0
        chunks = aiter(body)
        while not reading.done():
            async with self._stall_timeout("The client sent no byte"):
                chunk = await anext(chunks, None)
            if chunk is None:
                break
            sent += len(chunk)
            if sent > size:
                raise WrongLengthError(f"The body is longer than the {size} bytes announced.")
            try:
                writer.write(chunk)
                async with self._stall_timeout("S3 took no byte"):
                    await writer.drain()
            except OSError as error:
                if reading.done():
                    return
                raise StreamError(f"S3 broke off while the body was being sent: {error}") from error
        if sent < size and not reading.done():
            raise WrongLengthError(f"The body ended after {sent} of the {size} bytes announced.")

    @asynccontextmanager
    async def _connection(self, head: bytes, *, expects: bool) -> AsyncIterator[tuple[_Connection, Answer | None]]:
        """A connection with the head sent, and S3's answer where it did not want the body."""
        connection, early = await self._open_with(head, expects=expects)
        keep = False
        try:
            yield connection, early
            keep = early is None
        finally:
            if keep and not connection.reader.at_eof() and len(self._kept) < _KEPT_CONNECTIONS:
                connection.used, connection.idle_since = True, time.monotonic()
                self._kept.append(connection)
            else:
                connection.drop()

    async def _open_with(self, head: bytes, *, expects: bool) -> tuple[_Connection, Answer | None]:
        while True:
            connection = await self._take_connection()
            try:
                connection.writer.write(head)
                return connection, (await self._await_continue(connection) if expects else None)
            except (StreamError, OSError) as error:
                connection.drop()
                if not connection.used:
                    raise StreamError(f"S3 at {self._host}:{self._port} broke off: {error}") from error
            except BaseException:
                connection.drop()
                raise

    async def _take_connection(self) -> _Connection:
        while self._kept:
            connection = self._kept.pop()
            if time.monotonic() - connection.idle_since < _KEPT_SECONDS and not connection.reader.at_eof():
                return connection
            connection.drop()
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                reader, writer = await asyncio.open_connection(self._host, self._port, ssl=self._tls, limit=_HEAD_BYTES)
        except (OSError, TimeoutError) as error:
            raise StreamError(f"S3 at {self._host}:{self._port} cannot be reached: {error!r}") from error
        writer.transport.set_write_buffer_limits(high=_WRITE_BUFFER_BYTES)
        return _Connection(reader, writer)

    async def _await_continue(self, connection: _Connection) -> Answer | None:
        """S3's answer if it refuses before the body, None when the body may be sent.

        A server that knows nothing of `100 Continue` keeps silent: then the body is sent after a second. A kept
        connection that S3 has closed shows here as an end of the stream.
        """
        try:
            async with asyncio.timeout(_CONTINUE_SECONDS):
                # Nothing is consumed before the whole head is there, so that a time-out loses nothing.
                head = await connection.reader.readuntil(b"\r\n\r\n")
        except TimeoutError:
            return None
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            raise StreamError("the connection ended before an answer") from error
        status, headers = _parse_head(head)
        if status == 100:
            return None
        return await _read_body(connection.reader, status, headers)

    def _request_head(self, url: str, headers: Mapping[str, str], size: int) -> bytes:
        parts = urlsplit(url)
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        fields = {"host": parts.netloc, **{name.lower(): value for name, value in headers.items()}}
        fields["content-length"] = str(size)
        if size:
            fields["expect"] = "100-continue"
        lines = [f"PUT {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        if any("\r" in line or "\n" in line for line in lines):
            raise ValueError("a header must not contain a line break")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    @asynccontextmanager
    async def _stall_timeout(self, what: str) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._stall_seconds):
                yield
        except TimeoutError as error:
            raise StalledStreamError(f"{what} for {self._stall_seconds:.0f} s.") from error


def _parse_head(head: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = head.decode("latin-1").split("\r\n")
    parts = first.split(" ", 2)
    if len(parts) < 2 or not parts[0].startswith("HTTP/1.") or not parts[1].isdigit():
        raise StreamError(f"S3 answered what is no HTTP: {first[:80]!r}")
    headers = {}
    for line in lines:
        name, found, value = line.partition(":")
        if found:
            headers[name.strip().lower()] = value.strip()
    return int(parts[1]), headers


async def _read_answer(connection: _Connection) -> Answer:
    try:
        while True:
            status, headers = _parse_head(await connection.reader.readuntil(b"\r\n\r\n"))
            if status >= 200:
                return await _read_body(connection.reader, status, headers)
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError) as error:
        raise StreamError("S3 broke off before it answered.") from error


async def _read_body(reader: asyncio.StreamReader, status: int, headers: dict[str, str]) -> Answer:
    try:
        if "chunked" in headers.get("transfer-encoding", "").lower():
            return Answer(status, headers, await _read_chunks(reader))
        length = int(headers.get("content-length", "0"))
        if not 0 <= length <= _ANSWER_BYTES:
            raise StreamError(f"S3's answer is {length} bytes long.")
        return Answer(status, headers, await reader.readexactly(length))
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        raise StreamError("S3 broke off in its answer.") from error
    except ValueError as error:
        raise StreamError(f"S3 answered what is no HTTP: {error}.") from error


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while True:
        length = int((await reader.readuntil(b"\r\n")).split(b";")[0], 16)
        if not 0 <= length <= _ANSWER_BYTES - len(body):
            raise StreamError("S3's answer is too long.")
        chunk = await reader.readexactly(length + 2)
        if not length:
            return body
        body += chunk[:-2]
