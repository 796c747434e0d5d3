"""Calls in a child process that can be killed: a share that hangs must not take the run with it.

    with ChildProcess(stall_timeout=600) as child:
        child.call(pack_datablock, order, on_progress=show)

The child works on one call at a time and reports progress; when nothing is heard from it for `stall_timeout`
seconds it is killed and `StalledError` raised (a process waiting for NFS can be killed, a thread cannot).
Functions and arguments travel by pickle, so functions must be importable; the ids that the caller's log lines carry
go with them. The child dies with its parent: it reads from a pipe whose other end only the parent holds.
"""

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Protocol, Self, TypeVar

import structlog

from archiver.config.logs import configure_logs
from archiver.workflow.errors import ArchiverError, PermanentError, StalledError, TransientError

log = structlog.get_logger(__name__)

T = TypeVar("T")
P = ParamSpec("P")
_QUIET_S = 0.2
"""Progress is passed on at most this often, seconds."""


class Progress(Protocol):
    """Told how far a call is: `count` bytes more are done."""

    def __call__(self, count: int, /) -> None:
        """So many more bytes are done; 0 is a sign of life."""


class _ChildProgress:
    """Collects counts and sends them to the parent, which also takes them as a sign of life."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._pending = 0
        self._sent_at = 0.0

    def __call__(self, count: int, /) -> None:
        self._pending += count
        now = time.monotonic()
        if now - self._sent_at >= _QUIET_S:
            self.flush(now)

    def flush(self, now: float | None = None) -> None:
        self._connection.send(("progress", self._pending))
        self._pending = 0
        self._sent_at = time.monotonic() if now is None else now


def _packed_error(error: Exception) -> bytes:
    """The answer that carries `error`, or its words where it does not survive the way."""
    if not isinstance(error, ArchiverError):
        # What nobody foresaw must be found in the log, and the traceback itself cannot travel.
        error.add_note("In the child process:\n" + "".join(traceback.format_exception(error)))
    try:
        packed = pickle.dumps(("error", error))
        pickle.loads(packed)  # noqa: S301  # nosec B301  # made in the line above
    except Exception:  # noqa: BLE001  # a class of its own making may raise anything here
        return pickle.dumps(("error", PermanentError(f"{type(error).__name__}: {error}")))
    return packed


def _serve(connection: Connection, ids: dict[str, Any]) -> None:
    """The child's life: calls, one after another, until the parent hangs up. `ids` become those of each call."""
    while True:
        try:
            request = connection.recv_bytes()
        except EOFError:
            return
        progress = _ChildProgress(connection)
        try:
            call = pickle.loads(request)  # noqa: S301  # nosec B301  # from our parent
            function, arguments, named, own_ids = call
            ids.clear()
            ids.update(own_ids)
            answer = pickle.dumps(("result", function(progress, *arguments, **named)))
        except Exception as error:  # noqa: BLE001  # whatever it is, the parent raises it
            answer = _packed_error(error)
        progress.flush()
        connection.send_bytes(answer)


class ChildProcess:
    """A child process for calls that may hang; started at the first call, and again after it was killed."""

    def __init__(self, stall_timeout: float) -> None:
        self._stall_timeout = stall_timeout
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._lifeline = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def call(
        self,
        function: Callable[Concatenate[Progress, P], T],
        on_progress: Progress | None = None,
        /,
        *arguments: P.args,
        **named: P.kwargs,
    ) -> T:
        """`function(progress, *arguments)` in the child: its result, or the exception it raised.

        When this ends in any other way (`on_progress` raised, say), the child is gone.

        Raises:
            StalledError: nothing was heard for the stall timeout; the child is gone.
            TransientError: the child died (killed from outside, out of memory).
            PermanentError: it raised an exception that cannot be carried over, with its words.
        """
        connection = self._connection or self._start()
        answered = False
        try:
            request = (function, arguments, named, structlog.contextvars.get_contextvars())
            self._send(connection, request, function.__name__)
            while True:
                kind, value = self._receive(connection, function.__name__)
                if kind == "progress":
                    if on_progress is not None and value:
                        on_progress(value)
                    continue
                answered = True
                if kind == "error":
                    error: BaseException = value
                    raise error
                result: T = value
                return result
        finally:
            if not answered:
                # Its answer, should it still come, must not be taken for that of the next call.
                self._kill()

    def _send(self, connection: Connection, request: object, name: str) -> None:
        packed = pickle.dumps(request)
        try:
            connection.send_bytes(packed)
        except OSError as error:
            raise self._ended(name) from error

    def _receive(self, connection: Connection, name: str) -> tuple[str, Any]:
        try:
            if not connection.poll(self._stall_timeout):
                raise StalledError(
                    f"{name} showed no progress for {self._stall_timeout:.0f} s and was given up. "
                    "Look at the mount of the long-term storage; the run is tried again."
                )
            packed = connection.recv_bytes()
        except (EOFError, OSError) as error:
            raise self._ended(name) from error
        message: tuple[str, Any] = pickle.loads(packed)  # noqa: S301  # nosec B301  # from our child
        return message

    def _ended(self, name: str) -> TransientError:
        return TransientError(
            f"The process working on {name} ended unexpectedly (exit code {self._kill()}). "
            "Look for an out-of-memory kill on the host; the run is tried again."
        )

    def _start(self) -> Connection:
        ours, theirs = Pipe()
        watched, self._lifeline = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(theirs.fileno()), str(watched)],
            pass_fds=[theirs.fileno(), watched],
            stdin=subprocess.DEVNULL,
        )
        theirs.close()
        os.close(watched)
        self._connection = ours
        return ours

    def _kill(self) -> int | None:
        process, self._process = self._process, None
        if self._connection is not None:
            self._connection.close()
            self._connection = None
            os.close(self._lifeline)
        if process is None:
            return None
        process.kill()
        try:
            return process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            # Stuck in the kernel beyond the reach of SIGKILL: it ends when the share answers.
            log.exception("child_cannot_be_killed", pid=process.pid)
            return None

    def close(self) -> None:
        """End the child."""
        self._kill()


def _die_with_parent(lifeline: int) -> None:
    os.read(lifeline, 1)  # answers only when the parent is gone
    os._exit(1)


def main(descriptor: int, lifeline: int) -> None:
    """Entry of the child."""
    threading.Thread(target=_die_with_parent, args=(lifeline,), daemon=True).start()
    # Ctrl-C in a terminal reaches the whole group; the parent decides when the child ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ids: dict[str, Any] = {}
    configure_logs(ids=ids)
    _serve(Connection(descriptor), ids)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
