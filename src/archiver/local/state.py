"""What is known of an embedded stack from outside: the file its launcher keeps, and the lock it holds."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from archiver.local.private_files import write_private
from archiver.workflow.errors import PermanentError

STATE_FILE = "stack.json"
LOCK_FILE = "launcher.lock"
_LOCK_WITHIN_S = 3.0
_LOCK_POLL_S = 0.05


class AlreadyRunningError(PermanentError):
    """Another launcher holds the folder."""

    code = "already-running"


class PartState(StrEnum):
    """What a part is doing."""

    WAITING = "waiting"
    """For the parts it comes after."""
    STARTING = "starting"
    READY = "ready"
    DONE = "done"
    """A job that ended well."""
    DEAD = "dead"
    ENDING = "ending"
    ENDED = "ended"


class Phase(StrEnum):
    """What a stack as a whole is doing."""

    STARTING = "starting"
    READY = "ready"
    DEGRADED = "degraded"
    """A part died too often to be started again; the others go on."""
    ENDING = "ending"
    ENDED = "ended"
    FAILED = "failed"
    KILLED = "killed"
    """Its launcher is gone without having said so."""


class PartStatus(BaseModel):
    """A part as its launcher last saw it."""

    model_config = ConfigDict(frozen=True)

    name: str
    state: PartState = PartState.WAITING
    pid: int | None = None
    url: str = ""
    log: Path
    ready_after_s: float | None = None
    """From the start of its program until it was ready, seconds."""
    restarts: int = 0
    message: str = ""


class Urls(BaseModel):
    """Where the parts answer."""

    model_config = ConfigDict(frozen=True)

    api: str
    """Root of the API, with its root path."""
    prefect_api: str
    prefect_ui: str
    scicat: str
    identity: str
    s3: str


class StackState(BaseModel):
    """Content of the launcher's file. It holds credentials: mode 0600."""

    model_config = ConfigDict(frozen=True)

    folder: Path
    launch: str
    launcher_pid: int
    phase: Phase
    started_at: datetime
    ready_after_s: float | None = None
    message: str = ""
    parts: tuple[PartStatus, ...] = ()
    urls: Urls
    ports: dict[str, int] = Field(default_factory=dict)
    environment: dict[str, str] = Field(default_factory=dict)
    """Every setting of the service by its environment variable, secrets included."""
    credentials: dict[str, str] = Field(default_factory=dict)


def write_state(state: StackState) -> None:
    """Replace the file of the state's folder."""
    write_private(state.folder / STATE_FILE, state.model_dump_json(indent=2))


def read_state(folder: Path) -> StackState | None:
    """What the last launcher wrote in `folder`; None where there never was one (of this version)."""
    try:
        return StackState.model_validate_json((folder / STATE_FILE).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValidationError):
        return None


def _try_lock(handle: int, how: int) -> bool:
    try:
        fcntl.flock(handle, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_held(folder: Path) -> bool:
    """Tell whether a launcher is alive in `folder`."""
    try:
        handle = os.open(folder / LOCK_FILE, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        return not _try_lock(handle, fcntl.LOCK_SH)
    finally:
        os.close(handle)


def launcher_pid(folder: Path) -> int | None:
    """Process id of the launcher that is alive in `folder`."""
    if not is_held(folder):
        return None
    text = (folder / LOCK_FILE).read_text(encoding="ascii").strip()
    return int(text) if text else None


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Be the launcher of `folder`. The lock ends with this process, however it ends.

    Raises:
        AlreadyRunningError: another one is alive there.
    """
    handle = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        # A look at the lock by `is_held` takes it for a moment.
        deadline = time.monotonic() + _LOCK_WITHIN_S
        while not _try_lock(handle, fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                raise AlreadyRunningError(f"A stack runs in {folder} already. Use it, or end it first: archiver down.")
            time.sleep(_LOCK_POLL_S)
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode("ascii"), 0)
        yield
    finally:
        os.close(handle)
