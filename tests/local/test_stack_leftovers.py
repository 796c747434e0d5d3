"""Every process of a launch is found and ended, whoever its parent is."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from archiver.local import leftovers
from archiver.local.leftovers import TAG, end_leftovers, find_leftovers, mark_of

_SLEEP = "import time; time.sleep(600)"
_STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); {_SLEEP}"


def _start(mark: str, program: str = _SLEEP, *, wait: bool = False) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-S", "-c", program],
        env=os.environ | {TAG: mark},
        stdout=subprocess.PIPE if wait else subprocess.DEVNULL,
    )
    if process.stdout is not None:
        assert process.stdout.readline() == b"ready\n"
        process.stdout.close()
    return process


@pytest.fixture
def marked(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = _start(mark_of(tmp_path, "first"))
    yield process
    process.kill()
    process.wait()


def test_a_process_is_found_by_its_folder_and_by_its_launch(tmp_path: Path, marked: subprocess.Popen[bytes]) -> None:
    assert find_leftovers(mark_of(tmp_path)) == [marked.pid]
    assert find_leftovers(mark_of(tmp_path, "first")) == [marked.pid]


def test_a_process_is_found_by_its_part(tmp_path: Path) -> None:
    process = _start(mark_of(tmp_path, "first", "api"))

    assert end_leftovers(mark_of(tmp_path, "first", "ap")) == []
    assert end_leftovers(mark_of(tmp_path, "first", "api")) == [process.pid]

    assert process.wait() == -signal.SIGTERM


def test_processes_of_another_launch_or_folder_are_left_alone(tmp_path: Path, marked: subprocess.Popen[bytes]) -> None:
    assert end_leftovers(mark_of(tmp_path, "second")) == []
    assert end_leftovers(mark_of(tmp_path / "other")) == []
    assert marked.poll() is None


def test_a_child_whose_parent_has_died_is_ended(tmp_path: Path) -> None:
    mark = mark_of(tmp_path, "launch")
    program = f"import subprocess, sys; print(subprocess.Popen([sys.executable, '-S', '-c', {_SLEEP!r}], stdout=2).pid)"
    parent = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | {TAG: mark}, stdout=subprocess.PIPE, check=True
    )
    child = int(parent.stdout)

    assert end_leftovers(mark) == [child]

    assert find_leftovers(mark) == []


def test_a_process_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    mark = mark_of(tmp_path, "launch")
    process = _start(mark, _STUBBORN, wait=True)

    assert end_leftovers(mark, grace_s=0.2) == [process.pid]

    assert process.wait() == -signal.SIGKILL


def test_one_does_not_end_oneself(tmp_path: Path) -> None:
    mark = mark_of(tmp_path, "launch")
    program = f"import sys; from archiver.local.leftovers import end_leftovers; sys.exit(len(end_leftovers({mark!r})))"

    done = subprocess.run([sys.executable, "-c", program], env=os.environ | {TAG: mark}, check=False)

    assert done.returncode == 0


def _keeper(mark: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-I", "-S", leftovers.__file__, mark], stdin=subprocess.PIPE, start_new_session=True
    )


def test_the_keeper_ends_everything_when_its_launcher_is_gone(tmp_path: Path) -> None:
    mark = mark_of(tmp_path, "launch")
    process, keeper = _start(mark), _keeper(mark)

    keeper.communicate()

    assert process.wait() == -signal.SIGTERM
    assert keeper.returncode == 0


def test_the_keeper_does_nothing_after_an_end_in_order(tmp_path: Path, marked: subprocess.Popen[bytes]) -> None:
    keeper = _keeper(mark_of(tmp_path, "first"))

    keeper.communicate(leftovers.IN_ORDER)

    assert marked.poll() is None
