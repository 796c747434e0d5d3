"""Functions to be called in a child process: good ones, and ones that go wrong in every way."""

import os
import signal
import threading
import time
from pathlib import Path

import structlog

from archiver.workflow.errors import MissingFilesError
from archiver.workflow.isolation import ChildProcess, Progress


class StubbornError(Exception):
    """Cannot be pickled."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.lock = threading.Lock()


class NeedyError(Exception):
    """Can be pickled, but not made again from that."""

    def __init__(self, message: str, *, detail: str) -> None:
        super().__init__(f"{message} {detail}")


def add(progress: Progress, one: int, other: int) -> int:
    progress(0)
    return one + other


def own_pid(progress: Progress) -> int:
    progress(0)
    return os.getpid()


def count_up(progress: Progress, counts: list[int]) -> int:
    for count in counts:
        progress(count)
    return sum(counts)


def count_slowly_then(progress: Progress, stop: Path) -> int:
    """Shows signs of life until a file appears; how many."""
    beats = 0
    while not stop.exists():
        progress(1)
        beats += 1
        time.sleep(0.02)
    return beats


def say(progress: Progress, event: str) -> None:
    """Logs a line, and another one from a thread of its own, as the pool that reads from S3 does."""
    progress(0)
    log = structlog.get_logger("archiver.workflow.isolated_calls")
    log.warning(event, where="call")
    thread = threading.Thread(target=lambda: log.warning(event, where="thread"))
    thread.start()
    thread.join()


def large_result(progress: Progress, size: int) -> bytes:
    progress(0)
    return bytes(size)


def result_that_cannot_travel(progress: Progress) -> object:
    progress(0)
    return threading.Lock()


def miss_files(progress: Progress, names: list[str]) -> None:
    progress(0)
    raise MissingFilesError("Missing:", names)


def fail_with(progress: Progress, kind: type[Exception], message: str) -> None:
    progress(0)
    raise kind(message)


def fail_needily(progress: Progress) -> None:
    progress(0)
    raise NeedyError("needs", detail="more")


def hold_still(progress: Progress, pid_file: Path) -> None:
    """What a call to a share that does not answer looks like from outside."""
    progress(0)
    pid_file.write_text(str(os.getpid()))
    signal.pause()


def die(progress: Progress, with_signal: int) -> None:
    progress(0)
    os.kill(os.getpid(), with_signal)
    signal.pause()


def parent_that_waits(pid_file: Path) -> None:
    """To be run in a process of its own: its child works until it is killed."""
    with ChildProcess(60) as child:
        child.call(hold_still, None, pid_file)
