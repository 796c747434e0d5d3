"""A proxy before an HTTP server that spoils what passes: a network and a server in trouble, for the real client."""

import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}
_PIECE = 1024
_PAUSE_S = 0.02
_SERVER_WITHIN_S = 60


class Trouble(StrEnum):
    """What becomes of a call."""

    REFUSED = "answers 503"
    """The server never hears of it."""
    RESET = "resets the connection"
    """The server never hears of it."""
    REPLY_LOST = "reply lost"
    """The server carries it out, and the connection is reset."""
    TRUNCATED = "truncated reply"
    """The head and half of the body arrive; where there is no body, nothing does."""
    SLOW = "slow"
    """The body arrives in small pieces, with pauses."""
    HANGS = "hangs"
    """No reply, until the proxy ends or is healed."""
    HELD = "held"
    """The server hears of it, and the reply comes, when the trouble ends."""


@dataclass
class _Rule:
    trouble: Trouble
    is_meant: Callable[[str], bool]
    times: int | None
    fired: int = 0
    ended: threading.Event = field(default_factory=threading.Event)

    def applies(self, call: str) -> bool:
        return (self.times is None or self.fired < self.times) and self.is_meant(call)


@dataclass
class FaultyProxy:
    """Where it answers, what it was asked, and what it shall spoil. Thread-safe."""

    url: str
    _rules: list[_Rule] = field(default_factory=list)
    _calls: list[str] = field(default_factory=list)
    _passing: list[str] = field(default_factory=list)
    _together: list[frozenset[str]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def spoil(
        self, trouble: Trouble, is_meant: Callable[[str], bool] = lambda _: True, *, times: int | None = None
    ) -> Callable[[], None]:
        """Let the trouble come over the next `times` calls (None: all of them) that are meant; what ends it.

        A call is `METHOD /path?query`, as it was sent.
        """
        rule = _Rule(trouble, is_meant, times)
        with self._lock:
            self._rules.append(rule)

        def end() -> None:
            with self._lock:
                if rule in self._rules:
                    self._rules.remove(rule)
            rule.ended.set()

        return end

    def heal(self) -> None:
        """From now on everything passes."""
        with self._lock:
            rules, self._rules = self._rules, []
        for rule in rules:
            rule.ended.set()

    def calls(self) -> list[str]:
        """What was asked so far, in order."""
        with self._lock:
            return list(self._calls)

    def passing(self) -> list[str]:
        """What is under way now; calls that are held, most of all."""
        with self._lock:
            return list(self._passing)

    def most_at_once(self, of: Callable[[str], str | None]) -> int:
        """The most that were ever under way at the same time; calls of which `of` says the same count as one."""
        with self._lock:
            together = list(self._together)
        return max((len({of(call) for call in calls} - {None}) for calls in together), default=0)

    @contextmanager
    def _under_way(self, call: str) -> Iterator[None]:
        with self._lock:
            self._passing.append(call)
            self._together.append(frozenset(self._passing))
        try:
            yield
        finally:
            with self._lock:
                self._passing.remove(call)

    def spoiled(self) -> int:
        """How many calls the rules that are in force came over."""
        with self._lock:
            return sum(rule.fired for rule in self._rules)

    def _take(self, call: str) -> _Rule | None:
        with self._lock:
            self._calls.append(call)
            for rule in self._rules:
                if rule.applies(call):
                    rule.fired += 1
                    return rule
            return None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: FaultyProxy
    upstream: tuple[str, int]

    def _pass(self) -> None:
        call = f"{self.command} {self.path}"
        with self.proxy._under_way(call):
            self._spoil(self.proxy._take(call))

    def _spoil(self, rule: _Rule | None) -> None:
        trouble = None if rule is None else rule.trouble
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if trouble is Trouble.REFUSED:
            self._answer(503, [], b"<Error><Code>ServiceUnavailable</Code><Message>spoiled</Message></Error>", None)
        elif trouble is Trouble.RESET:
            self._reset()
        elif rule is not None and trouble is Trouble.HANGS:
            rule.ended.wait()
            self._reset()
        else:
            if rule is not None and trouble is Trouble.HELD:
                rule.ended.wait()
            status, headers, content = self._ask(body)
            if trouble is Trouble.REPLY_LOST or (trouble is Trouble.TRUNCATED and not content):
                self._reset()
            else:
                self._answer(status, headers, content, trouble)

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = _pass  # noqa: N815  # names of the base class

    def _ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = HTTPConnection(*self.upstream, timeout=_SERVER_WITHIN_S)
        try:
            # As it came, the Host too: requests to S3 are signed with it.
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in _HOP_BY_HOP | {"expect"}:
                    connection.putheader(name, value)
            if body or "Content-Length" in self.headers:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            reply = connection.getresponse()
            content = reply.read()
            headers = [(name, value) for name, value in reply.getheaders() if name.lower() not in _HOP_BY_HOP]
            if self.command == "HEAD" and (length := reply.getheader("Content-Length")):
                headers.append(("Content-Length", length))
            return reply.status, headers, content
        finally:
            connection.close()

    def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes, trouble: Trouble | None) -> None:
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        if self.command != "HEAD" and status != 204:  # no content
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if trouble is Trouble.TRUNCATED:
            self.wfile.write(content[: len(content) // 2])
            self.close_connection = True
        elif trouble is Trouble.SLOW:
            for start in range(0, len(content), _PIECE):
                self.wfile.write(content[start : start + _PIECE])
                time.sleep(_PAUSE_S)  # the fault itself, nothing is waited for
        else:
            self.wfile.write(content)

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """What was asked is kept in `calls`."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def handle_error(self, *_: object) -> None:
        """Connections that end in the middle are what this is for."""


@contextmanager
def faulty_proxy(url: str) -> Iterator[FaultyProxy]:
    """A proxy before the server at `url` (without a path), on a free loopback port, as long as the block runs."""
    parts = urlsplit(url)
    proxy = FaultyProxy("")
    handler = type("Handler", (_Handler,), {"proxy": proxy, "upstream": (parts.hostname, parts.port)})
    with _Server(("127.0.0.1", 0), handler) as server:
        proxy.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, name="faulty-proxy")
        thread.start()
        try:
            yield proxy
        finally:
            with suppress(RuntimeError):
                server.shutdown()
            proxy.heal()
            thread.join()
