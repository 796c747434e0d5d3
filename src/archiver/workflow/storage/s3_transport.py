"""Signed requests to the S3 endpoint for payload, over pooled connections, tried again where that may help.

boto3 hands payload over in fresh `bytes` (one copy and one allocation for each) and spends over a
millisecond of CPU on a request; archives of 400,000 files need neither.
"""

import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import stamina

from archiver.workflow.errors import ArchiverError
from archiver.workflow.storage.s3_errors import code_in, passes, refusal, unreachable
from archiver.workflow.storage.s3_http import Answer, Body, Connection, TruncatedError
from archiver.workflow.storage.s3_signing import Signer

Result = TypeVar("Result")

CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 60.0
ATTEMPTS = 6
RETRY_FOR_S = 180.0
_LONGEST_IDLE_S = 5.0
"""Servers close idle connections after 5 s or more."""
_LONGEST_ERROR = 64 * 1024
_WITH_BODY = {"PUT", "POST"}
"""Methods whose requests tell the length of their body even where there is none."""


class RefusedError(Exception):
    """S3 answered with a status that was not wanted."""

    def __init__(self, status: int, code: str, message: str) -> None:
        self.status, self.code, self.said = status, code, message
        super().__init__(f"{status} {code} {message}")

    def told(self, doing: str) -> ArchiverError:
        """The same as an error of the archive."""
        return refusal(doing, self.status, self.code, self.said)


def _may_pass(error: Exception) -> bool:
    if isinstance(error, RefusedError):
        return passes(error.status, error.code)
    if isinstance(error, ssl.SSLCertVerificationError):
        return False
    return isinstance(error, OSError | HTTPException)


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
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._tls = ssl.create_default_context(cafile=ca_file) if parts.scheme == "https" else None
        self._timeout_s = timeout_s
        self._slots = threading.BoundedSemaphore(max_connections)
        self._lock = threading.Lock()
        self._idle: list[tuple[Connection, float]] = []
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
    ) -> Iterator[Answer]:
        """One request as it is given, one answer with its body still to be read; never tried again.

        Raises:
            OSError, HTTPException: no answer.
        """
        complete = {"host": self.signer.host, **headers}
        if "content-length" not in complete and (body is not None or method in _WITH_BODY):
            complete["content-length"] = str(0 if body is None else memoryview(body).nbytes)
        with self._slots:
            connection = self._take()
            reusable = False
            try:
                connection.send(method, target, complete, body)
                answer = Answer(connection, method)
                yield answer
                # Only a connection whose answer was read to its end can carry another one.
                reusable = answer.is_reusable
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
        read: Callable[[Answer], Result],
        body: Body | None = None,
    ) -> Result:
        """One signed request; what `read` makes of an answer with a `wanted` status. Header names in lower case.

        Raises:
            RefusedError: another status.
            OSError, HTTPException: no whole answer.
        """
        signed = self.signer.headers(method, path, query, headers)
        with self.exchange(method, self.signer.target(path, query), signed, body) as response:
            if response.status in wanted:
                return read(response)
            said = bytes(response.read()[:_LONGEST_ERROR])
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
        read: Callable[[Answer], Result],
        body: Body | None = None,
    ) -> Result:
        """The same, tried again with back-off while the failure may pass; `doing` names it in errors.

        Raises:
            RefusedError: S3 refuses in a way that will not pass.
            ObjectStoreError, NoSpaceError: it did not pass in time.
        """
        failed: Exception | None = None
        try:
            try:
                return self.attempt(method, path, query, headers, wanted=wanted, read=read, body=body)
            except (RefusedError, OSError, HTTPException) as error:
                # Only what fails meets the machinery of retries, which costs as much as all else of a request.
                failed = error
            for trial in stamina.retry_context(
                on=_may_pass,
                attempts=ATTEMPTS,
                timeout=RETRY_FOR_S,
                wait_initial=0.1,
                wait_max=10.0,
                wait_jitter=0.2,
            ):
                with trial:
                    if trial.num == 1:
                        raise failed
                    return self.attempt(method, path, query, headers, wanted=wanted, read=read, body=body)
        except RefusedError as error:
            if _may_pass(error):
                raise error.told(doing) from error
            raise
        except (OSError, HTTPException) as error:
            raise unreachable(doing, error) from error
        raise AssertionError("retrying ended without a result")

    def _take(self) -> Connection:
        oldest = time.monotonic() - _LONGEST_IDLE_S
        with self._lock:
            stale = [connection for connection, since in self._idle if since < oldest]
            self._idle = [entry for entry in self._idle if entry[1] >= oldest]
            found = self._idle.pop()[0] if self._idle else None
        for connection in stale:
            connection.close()
        return found or Connection(
            self._name, self._port, self._tls, connect_timeout_s=CONNECT_TIMEOUT_S, timeout_s=self._timeout_s
        )

    def _give_back(self, connection: Connection, *, reusable: bool) -> None:
        with self._lock:
            reusable = reusable and not self._closed
            if reusable:
                self._idle.append((connection, time.monotonic()))
        if not reusable:
            connection.close()


def read_all(response: Answer) -> bytes:
    """The whole body."""
    return bytes(response.read())


def fill(response: Answer, buffer: memoryview) -> None:
    """The body into `buffer`, received in place, exactly as long as it is.

    Raises:
        TruncatedError: the body has another length.
    """
    if response.length != len(buffer):
        raise TruncatedError(f"{response.length} bytes announced, {len(buffer)} wanted")
    filled = response.readinto(buffer)
    if filled < len(buffer):
        raise TruncatedError(f"{filled} of {len(buffer)} bytes arrived")
