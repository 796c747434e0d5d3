"""Where a process can be struck: every call to the share, S3, SciCat and the ledger, counted and named.

Only processes that tests start install this (`support.faults_runner`); the service has no hook for it. Each call is
noted in a list before it is made, so that one good run tells at which points others can be struck.
"""

import errno
import os
import re
import signal
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from botocore.client import BaseClient  # type: ignore[import-untyped]

from archiver.workflow.catalogue.connection import Connection
from archiver.workflow.ledger.ledger import Ledger
from archiver.workflow.storage import lts
from archiver.workflow.storage.lts import PosixShare
from archiver.workflow.storage.s3_transport import Transport

RUN = "run"
"""Name of the process that runs the use case."""
CHILD = "child"
"""Names of the processes it has for the share begin with this, a number follows."""

_NO_CALLS_OF_A_RUN = {"open", "close", "migrate", "check"}
_WITHOUT_EFFECT = re.compile(
    r"ledger: (check_claim|dataset|datasets|datablocks|retrieval|retirement|now)$|scicat: (GET|POST v3/auth)"
    r"|s3: (GET|HEAD|List|Get|Head)|share: (identity|free_bytes|size|names|read_small|open|read|commit|fsync|flush)$"
)


class Moment(StrEnum):
    """On which side of a call."""

    BEFORE = "before"
    AFTER = "after"


class Blow(StrEnum):
    """What happens at a point."""

    KILL = "kill"
    """SIGKILL to the run and its children."""
    KILL_ALONE = "kill alone"
    """SIGKILL to the process that makes the call, and to no other."""
    STOP = "stop"
    """SIGSTOP to the run and its children; whoever watches lets them go on."""
    HANG = "hang"
    """The call does not return."""
    FAIL = "fail"
    """The call raises an OSError, without effect (before) or though it took effect (after)."""
    SHORT = "short"
    """The call writes only half of what it was given, and says so."""


@dataclass(frozen=True, slots=True, order=True)
class Point:
    """One side of the `number`th (from 1) call of this name in one process."""

    process: str
    call: str
    number: int
    moment: Moment = Moment.BEFORE

    def __str__(self) -> str:
        return f"{self.moment} {self.call} no. {self.number} ({self.process})"

    @property
    def has_effect(self) -> bool:
        """Whether the call changes anything outside the process."""
        return not _WITHOUT_EFFECT.match(self.call)


@dataclass(frozen=True, slots=True)
class Fault:
    """What shall happen where."""

    point: Point
    blow: Blow = Blow.KILL
    errno: int = errno.EIO
    """Of a call that fails."""
    times: int = 1
    """At so many calls in a row."""


class _Watch:
    """Counts the calls of this process, notes them, and strikes."""

    def __init__(self, process: str, faults: Sequence[Fault], notes: Path) -> None:
        self._process = process
        self._faults = [fault for fault in faults if fault.point.process == process]
        self._notes = os.open(notes, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def around(self, name: Callable[..., str], function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, watched; `name` tells from its arguments what the call is called."""

        def watched(*arguments: Any, **named: Any) -> Any:
            call = name(*arguments, **named)
            with self._lock:
                self._counts[call] += 1
                number = self._counts[call]
            os.write(self._notes, f"{self._process}\t{call}\t{number}\n".encode())
            if self._strike(call, number, Moment.BEFORE):
                arguments = _halved(*arguments)
            result = function(*arguments, **named)
            self._strike(call, number, Moment.AFTER)
            return result

        return watched

    def _strike(self, call: str, number: int, moment: Moment) -> bool:
        """Let happen what is due; whether the call shall write less than it was given."""
        short = False
        for fault in self._faults:
            point = fault.point
            if (point.call, point.moment) == (call, moment) and 0 <= number - point.number < fault.times:
                short = short or fault.blow is Blow.SHORT
                _blow(fault)
        return short


def _halved(descriptor: int, data: memoryview) -> tuple[int, memoryview]:
    return descriptor, data[: (len(data) + 1) // 2]


def _blow(fault: Fault) -> None:
    if fault.blow is Blow.KILL:
        os.killpg(0, signal.SIGKILL)
    elif fault.blow is Blow.KILL_ALONE:
        os.kill(os.getpid(), signal.SIGKILL)
    elif fault.blow is Blow.STOP:
        os.killpg(0, signal.SIGSTOP)
    elif fault.blow is Blow.HANG:
        threading.Event().wait()
    elif fault.blow is Blow.FAIL:
        raise OSError(fault.errno, os.strerror(fault.errno))


def _named(name: str) -> Callable[..., str]:
    return lambda *_arguments, **_named: name


def _scicat_call(_connection: Connection, request: Any, *_arguments: Any, **_named: Any) -> str:
    path = re.sub(r"^/api/", "", request.url.raw_path.decode().partition("?")[0])
    path = re.sub(r"(datasets|blocks)/[^/]+", r"\1/*", path)
    return f"scicat: {request.method} {path}"


def _s3_request(_transport: Transport, method: str, _path: str, query: dict[str, str], *_: Any, **_named: Any) -> str:
    return f"s3: {method}{' list' if 'list-type' in query else ''}{' part' if 'partNumber' in query else ''}"


class _WatchedOs:
    """The module `os` as the share's own module sees it, with some of its functions watched."""

    def __init__(self, watch: _Watch) -> None:
        self.write = watch.around(_named("share: write"), os.write)
        self.fsync = watch.around(_named("share: fsync"), os.fsync)
        self._open_to_read = watch.around(_named("share: open"), os.open)
        self.preadv = watch.around(_named("share: read"), os.preadv)
        self.fdatasync = watch.around(_named("share: flush"), os.fdatasync)

    def open(self, path: Path, flags: int, *mode: int) -> int:
        to_read = flags == os.O_RDONLY | os.O_CLOEXEC
        return int((self._open_to_read if to_read else os.open)(path, flags, *mode))

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)


def install(process: str, faults: Sequence[Fault], notes: Path) -> None:
    """From now on note the calls this process makes, and let these faults happen."""
    watch = _Watch(process, faults, notes)

    def put(owner: Any, attribute: str, name: Callable[..., str]) -> None:
        setattr(owner, attribute, watch.around(name, getattr(owner, attribute)))

    put(Connection, "_send", _scicat_call)
    put(Transport, "attempt", _s3_request)
    put(BaseClient, "_make_api_call", lambda _client, operation, _arguments: f"s3: {operation}")
    for part in Ledger.__mro__:
        for method, function in vars(part).items():
            if not method.startswith("_") and method not in _NO_CALLS_OF_A_RUN and callable(function):
                put(part, method, _named(f"ledger: {method}"))
    if process.startswith(CHILD):
        _install_share(watch, put)


def _install_share(watch: _Watch, put: Callable[[Any, str, Callable[..., str]], None]) -> None:
    """The share's calls, and the system calls that make up one."""
    for method in ("identity", "free_bytes", "size", "names", "read_small"):
        put(PosixShare, method, _named(f"share: {method}"))
    put(lts._PosixWriter, "__enter__", _named("share: create"))
    put(lts._PosixWriter, "commit", _named("share: commit"))
    names = {"replace": "rename", "mkdir": "mkdir", "unlink": "remove", "rmdir": "remove folder", "chmod": "seal"}
    for method, name in names.items():
        put(Path, method, _named(f"share: {name}"))
    setattr(lts, "os", _WatchedOs(watch))  # noqa: B010  # mypy knows that a module is no object of ours
