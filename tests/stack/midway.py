"""A run that is held in the middle of its work, so that what happens to it then does not hang on who is faster."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stack.archive import VOLUME, bytes_so_far
from stack.commands import CommandFailedError
from stack.operated import OperatedStack
from stack.payload import LARGE_FILE_BYTES
from stack.visitor import Visitor
from stack.waiting import NotInTimeError, wait_for

_TRIES = 4


@contextmanager
def held_in_mid_archive(stack: OperatedStack, visitor: Visitor, folder: Path) -> Iterator[str]:
    """The pid of a data set of which more than one large file lies on the share, and not all.

    Its run does nothing for the time of the block, and goes on after it if it is still there.

    Raises:
        NotInTimeError: every run ended before it could be held.
    """
    share = stack.folder_of_volume(VOLUME)
    for _ in range(_TRIES):
        pid = visitor.ingest(folder)
        _wait_until_midway(share, pid)
        held = _hold(stack)
        try:
            if visitor.lifecycle(pid)["archiveStatusMessage"] != "datasetOnArchiveDisk" and held:
                yield pid
                return
        finally:
            _let_go(stack, held)
        visitor.archived(pid)
    raise NotInTimeError(f"{_TRIES} runs had ended before they could be held.")


def _wait_until_midway(share: Path, pid: str) -> None:
    wait_for("half of the data set on the share", lambda: bytes_so_far(share, pid) > LARGE_FILE_BYTES, 600, 0.02)


def _hold(stack: OperatedStack) -> list[str]:
    """The containers of runs, which do nothing from now on; those that ended meanwhile are not among them."""
    held = []
    for container in stack.runs():
        try:
            stack.engine.docker("pause", container)
        except CommandFailedError:
            continue
        held.append(container)
    return held


def _let_go(stack: OperatedStack, held: list[str]) -> None:
    for container in held:
        try:
            stack.engine.docker("unpause", container)
        except CommandFailedError:  # it was killed meanwhile
            assert container not in stack.runs()
