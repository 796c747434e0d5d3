"""HTTP/1.1 for payload: an answer's body is received where it is wanted, without copies in between.

http.client spends half a millisecond of processor time on an answer, most of it on reading the few headers as an
e-mail, and takes the body through a buffer of its own; data sets have 400,000 objects and 50 TB.
"""

import socket
import ssl
import struct
from collections.abc import Mapping
from http.client import HTTPException
from typing import NoReturn

Body = bytes | bytearray | memoryview

_RECEIVED = 64 * 1024
"""Bytes asked for with an answer's beginning; its headers must fit."""
_CHUNK_LINE = 4096
_JOINED_UP_TO = 32 * 1024
"""Bodies up to here leave in one piece with their headers."""
_WITHOUT_BODY = {204, 304}


class BadAnswerError(HTTPException):
    """What came is not HTTP as this client speaks it."""


class TruncatedError(HTTPException):
    """An answer ended before its announced length."""


class Answer:
    """One answer; its body is still to be read."""

    def __init__(self, connection: "Connection", method: str) -> None:
        self._connection = connection
        self.status, self._headers = connection.read_head()
        while 100 <= self.status < 200:
            self.status, self._headers = connection.read_head()
        self._chunked = "chunked" in self._headers.get("transfer-encoding", "").lower()
        self.length: int | None
        """Bytes of the body still to come; None where only its end tells."""
        if method == "HEAD" or self.status in _WITHOUT_BODY:
            self.length, self._chunked = 0, False
        elif self._chunked:
            self.length = None
        else:
            self.length = self._announced()
        self._ended = self.length == 0

    def _announced(self) -> int | None:
        given = self._headers.get("content-length")
        if given is None:
            return None
        if not (given.isascii() and given.isdigit()):
            raise BadAnswerError(f"an answer of {given!r} bytes")
        return int(given)

    @property
    def is_reusable(self) -> bool:
        """Whether the answer was read to its end and its connection can carry another one."""
        if not self._ended or (self.length is None and not self._chunked):
            return False
        return "close" not in self._headers.get("connection", "").lower() and not self._connection.has_surplus

    def header(self, name: str) -> str | None:
        """A header of the answer, `name` in lower case."""
        return self._headers.get(name)

    def readinto(self, buffer: memoryview) -> int:
        """Bytes of a body of known length received into `buffer`; 0 at the end, fewer than fit only there."""
        left = self.length or 0
        filled = self._connection.receive_into(buffer[: min(len(buffer), left)])
        self.length = left - filled
        self._ended = not self.length
        return filled

    def read(self) -> bytearray:
        """The rest of the body.

        Raises:
            TruncatedError: the connection ended before it.
        """
        if self.length is None:
            body = self._read_chunks() if self._chunked else self._connection.read_to_end()
            self._ended = True
            return body
        body = bytearray(self.length)
        if self.readinto(memoryview(body)) != len(body):
            raise TruncatedError(f"{len(body) - (self.length or 0)} of {len(body)} bytes arrived")
        return body

    def _read_chunks(self) -> bytearray:
        body = bytearray()
        while size := self._chunk_size():
            start = len(body)
            body.extend(bytes(size))
            with memoryview(body) as view:
                arrived = self._connection.receive_into(view[start:])
            if arrived != size or self._connection.read_line():
                raise TruncatedError(f"{start + arrived} bytes of an answer in chunks arrived")
        while self._connection.read_line():
            pass  # trailers
        return body

    def _chunk_size(self) -> int:
        line = self._connection.read_line().partition(b";")[0].strip()
        try:
            return int(line, 16)
        except ValueError:
            raise BadAnswerError(f"a chunk of {bytes(line)!r} bytes") from None


class Connection:
    """One connection; a request at a time. A peer that is silent for `timeout_s` is a TimeoutError."""

    def __init__(
        self, name: str, port: int, tls: ssl.SSLContext | None, *, connect_timeout_s: float, timeout_s: float
    ) -> None:
        self._socket = socket.create_connection((name, port), connect_timeout_s)
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._flags = 0
            if tls is not None:
                self._socket = tls.wrap_socket(self._socket, server_hostname=name)
                self._socket.settimeout(timeout_s)
            else:
                # The kernel keeps the time: with a time limit of Python's own, each call asks first and then takes
                # what is there, a hundred times for a piece of payload that is received at once otherwise.
                limit = struct.pack("ll", int(timeout_s), int(timeout_s % 1 * 1_000_000))
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
                self._socket.settimeout(None)
                self._flags = socket.MSG_WAITALL
        except BaseException:
            self._socket.close()
            raise
        self._received = bytearray(_RECEIVED)
        self._start = self._end = 0
        """What of `_received` is there and was not taken yet."""

    def close(self) -> None:
        """Ends it."""
        self._socket.close()

    @property
    def has_surplus(self) -> bool:
        """Whether more came than was asked for."""
        return self._start < self._end

    def send(self, method: str, target: str, headers: Mapping[str, str], body: Body | None) -> None:
        """One request, with exactly these headers.

        Raises:
            ValueError: a header has a line break in it.
            TimeoutError: the peer took nothing for too long.
        """
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        if any("\r" in line or "\n" in line for line in lines):
            raise ValueError("A line break in a request's header.")
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        try:
            if body is None:
                self._socket.sendall(head)
            elif memoryview(body).nbytes <= _JOINED_UP_TO:
                self._socket.sendall(head + bytes(body))
            else:
                self._socket.sendall(head)
                self._socket.sendall(body)
        except BlockingIOError as error:
            self._silent(error)

    def read_head(self) -> tuple[int, dict[str, str]]:
        """Status and headers (names in lower case; of equal ones the first) of the next answer.

        Raises:
            BadAnswerError: it is none.
        """
        while (end := self._received.find(b"\r\n\r\n", self._start, self._end)) < 0:
            self._receive_more("the headers of an answer")
        head = self._received[self._start : end].decode("latin-1")
        self._start = end + 4
        first, *lines = head.split("\r\n")
        version, _, rest = first.partition(" ")
        if version != "HTTP/1.1" or not rest[:3].isdigit():
            raise BadAnswerError(f"{first[:80]!r} instead of an answer")
        headers: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers.setdefault(name.lower(), value.strip())
        return int(rest[:3]), headers

    def read_line(self) -> bytearray:
        """The next line of an answer in chunks, without its end.

        Raises:
            BadAnswerError: there is no line of a length that can be.
        """
        while (end := self._received.find(b"\r\n", self._start, self._end)) < 0:
            if self._end - self._start > _CHUNK_LINE:
                raise BadAnswerError("an answer in chunks of unknown size")
            self._receive_more("a chunk of an answer")
        line = self._received[self._start : end]
        self._start = end + 2
        return line

    def read_to_end(self) -> bytearray:
        """Everything until the peer ends the connection."""
        body = self._received[self._start : self._end]
        self._start = self._end
        buffer = memoryview(bytearray(_RECEIVED))
        while count := self._receive(buffer, 0):
            body += buffer[:count]
        return body

    def receive_into(self, buffer: memoryview) -> int:
        """Bytes put into `buffer`: fewer than fit only where the peer ended the connection."""
        filled = min(len(buffer), self._end - self._start)
        buffer[:filled] = self._received[self._start : self._start + filled]
        self._start += filled
        while filled < len(buffer):
            count = self._receive(buffer[filled:], self._flags)
            if not count:
                break
            filled += count
        return filled

    def _receive_more(self, what: str) -> None:
        """Add to what was received."""
        if self._start == self._end:
            self._start = self._end = 0
        elif self._end == len(self._received):
            rest = self._received[self._start : self._end]
            self._received[: len(rest)] = rest
            self._start, self._end = 0, len(rest)
        if self._end == len(self._received):
            raise BadAnswerError(f"{what} are too long")
        with memoryview(self._received) as view:
            count = self._receive(view[self._end :], 0)
        if not count:
            raise TruncatedError(f"the connection ended before {what}")
        self._end += count

    def _receive(self, buffer: memoryview, flags: int) -> int:
        try:
            return self._socket.recv_into(buffer, 0, flags)
        except BlockingIOError as error:
            self._silent(error)

    @staticmethod
    def _silent(error: BlockingIOError) -> NoReturn:
        raise TimeoutError("the server fell silent") from error
