"""HTTP to the S3 endpoint for payload: pooled connections that read straight into the caller's buffer.

boto3 hands payload over in fresh `bytes` (one copy and one allocation for each) and spends over a
millisecond of CPU on a request; archives of 400,000 files need neither.
"""

import http.client
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import stamina

from archiver.workflow.errors import ArchiverError
from archiver.workflow.storage.s3_errors import code_in, passes, refusal, unreachable
from archiver.workflow.storage.s3_signing import Signer

Result = TypeVar("Result")
Body = bytes | bytearray | memoryview

CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 60.0
ATTEMPTS = 6
RETRY_FOR_S = 180.0
_LONGEST_IDLE_S = 5.0
"""Servers close idle connections after 5 s or more."""
_LONGEST_ERROR = 64 * 1024


class RefusedError(Exception):
    """S3 answered with a status that was not wanted."""

    def __init__(self, status: int, code: str, message: str) -> None:
        self.status, self.code, self.said = status, code, message
        super().__init__(f"{status} {code} {message}")

    def told(self, doing: str) -> ArchiverError:
        """The same as an error of the archive."""
        return refusal(doing, self.status, self.code, self.said)


class TruncatedError(http.client.HTTPException):
    """An answer ended before its announced length."""


def _may_pass(error: Exception) -> bool:
    if isinstance(error, RefusedError):
        return passes(error.status, error.code)
    if isinstance(error, ssl.SSLCertVerificationError):
        return False
    return isinstance(error, OSError | http.client.HTTPException)


class Transport:
    """Signed requests to one endpoint. Thread-safe; a connection serves one request at a time.

    At most `max_connections` requests run at once, further ones wait. No proxy is ever used.
    """

    def __init__(
        self, signer: Signer, *, ca_file: Path | None, max_connections: int, timeout_s: float = READ_TIMEOUT_S
    ) -> None:
        self.signer = signer
        parts = urlsplit(signer.origin)
        self._name = parts.hostname or ""
        self._port = parts.port
        self._tls = ssl.create_default_context(cafile=ca_file) if parts.scheme == "https" else None
        self._timeout_s = timeout_s
        self._slots = threading.BoundedSemaphore(max_connections)
        self._lock = threading.Lock()
        self._idle: list[tuple[http.client.HTTPConnection, float]] = []
        self._closed = False

    def close(self) -> None:
        """Closes what is idle; a request that still runs closes its connection at its end."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection, _ in idle:
            connection.close()

    @contextmanager
    def exchange(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: Body | None = None,
    ) -> Iterator[http.client.HTTPResponse]:
        """One request as it is given, one answer with its body still to be read; never tried again.

        Raises:
            OSError, http.client.HTTPException: no answer.
        """
        with self._slots:
            connection = self._take()
            reusable = False
            try:
                connection.request(method, target, body=body, headers=dict(headers))
                response = connection.getresponse()
                yield response
                # Only a connection whose answer was read to its end can carry another one.
                reusable = response.isclosed() and not response.will_close
            finally:
                self._give_back(connection, reusable=reusable)

    def attempt(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        *,
        wanted: tuple[int, ...],
        read: Callable[[http.client.HTTPResponse], Result],
        body: Body | None = None,
    ) -> Result:
        """One signed request; what `read` makes of an answer with a `wanted` status. Header names in lower case.

        Raises:
            RefusedError: another status.
            OSError, http.client.HTTPException: no whole answer.
        """
        signed = self.signer.headers(method, path, query, headers)
        with self.exchange(method, self.signer.target(path, query), signed, body) as response:
            if response.status in wanted:
                return read(response)
            said = response.read(_LONGEST_ERROR)
            response.read()
        raise RefusedError(response.status, *code_in(said))

    def perform(
        self,
        doing: str,
        method: str,
        path: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        *,
        wanted: tuple[int, ...],
        read: Callable[[http.client.HTTPResponse], Result],
        body: Body | None = None,
    ) -> Result:
        """The same, tried again with back-off while the failure may pass; `doing` names it in errors.

        Raises:
            RefusedError: S3 refuses in a way that will not pass.
            ObjectStoreError, NoSpaceError: it did not pass in time.
        """
        try:
            for trial in stamina.retry_context(
                on=_may_pass,
                attempts=ATTEMPTS,
                timeout=RETRY_FOR_S,
                wait_initial=0.1,
                wait_max=10.0,
                wait_jitter=0.2,
            ):
                with trial:
                    return self.attempt(method, path, query, headers, wanted=wanted, read=read, body=body)
        except RefusedError as error:
            if _may_pass(error):
                raise error.told(doing) from error
            raise
        except (OSError, http.client.HTTPException) as error:
            raise unreachable(doing, error) from error
        raise AssertionError("retrying ended without a result")

    def _take(self) -> http.client.HTTPConnection:
        oldest = time.monotonic() - _LONGEST_IDLE_S
        with self._lock:
            stale = [connection for connection, since in self._idle if since < oldest]
            self._idle = [entry for entry in self._idle if entry[1] >= oldest]
            found = self._idle.pop()[0] if self._idle else None
        for connection in stale:
            connection.close()
        return found or self._connect()

    def _connect(self) -> http.client.HTTPConnection:
        connection = (
            http.client.HTTPSConnection(self._name, self._port, timeout=CONNECT_TIMEOUT_S, context=self._tls)
            if self._tls
            else http.client.HTTPConnection(self._name, self._port, timeout=CONNECT_TIMEOUT_S)
        )
        try:
            connection.connect()
            connection.sock.settimeout(self._timeout_s)
        except BaseException:
            connection.close()
            raise
        return connection

    def _give_back(self, connection: http.client.HTTPConnection, *, reusable: bool) -> None:
        with self._lock:
            reusable = reusable and not self._closed
            if reusable:
                self._idle.append((connection, time.monotonic()))
        if not reusable:
            connection.close()


def read_all(response: http.client.HTTPResponse) -> bytes:
    """The whole body."""
    return response.read()


def fill(response: http.client.HTTPResponse, buffer: memoryview) -> None:
    """The body into `buffer`, received in place, exactly as long as it is.

    Raises:
        TruncatedError: the body has another length.
    """
    if response.length not in (None, len(buffer)):
        raise TruncatedError(f"{response.length} bytes announced, {len(buffer)} wanted")
    filled = 0
    while filled < len(buffer):
        count = response.readinto(buffer[filled:])
        if not count:
            raise TruncatedError(f"{filled} of {len(buffer)} bytes arrived")
        filled += count
