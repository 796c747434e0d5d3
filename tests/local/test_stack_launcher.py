"""The launcher: one for a folder, ends everything in order, and leaves nothing behind when it is killed."""

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from archiver.local.leftovers import find_leftovers, mark_of
from archiver.local.settings import LocalSettings, PortChoice
from archiver.local.stack import StackFailedError, current_stack, stack_state, start_stack, stop_stack
from archiver.local.state import STATE_FILE, AlreadyRunningError, PartState, Phase, StackState, hold, is_held

# A stack of one small part, in the hands of the real launcher.
_LAUNCH = """
import json, os, sys
from archiver.local.launcher import detach, launch
from archiver.local.parts import Part, new_file_probe
from archiver.local.settings import LocalSettings

PROGRAM = '''
import pathlib, signal, sys
print("at work", flush=True)
pathlib.Path(sys.argv[1]).touch()
signal.pause()
'''

def parts(plan):
    plan.addresses.write_text(json.dumps({"ledger": "postgresql://l", "prefect": "postgresql://p"}))
    ready = plan.folder / "ready"
    return [
        Part(
            name="worker",
            command=(sys.executable, "-S", "-c", PROGRAM, str(ready)),
            environment=lambda: os.environ,
            ready=lambda: new_file_probe(ready),
        )
    ]

owner = sys.stdin.fileno() if "owned" in sys.argv else None
held = detach() if "detached" in sys.argv else lambda: None
sys.exit(launch(LocalSettings(), make_parts=parts, owner=owner, held=held))
"""


def _until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _state(folder: Path) -> StackState:
    state = stack_state(folder)
    assert state is not None
    return state


def _environment(folder: Path) -> dict[str, str]:
    return os.environ | {"ARCHIVER_LOCAL_FOLDER": str(folder), "ARCHIVER_LOCAL_PORTS": "free"}


@contextmanager
def _launched(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    launcher = subprocess.Popen(
        [sys.executable, "-c", _LAUNCH, *arguments], env=_environment(folder), stdin=subprocess.PIPE
    )
    try:
        _until(lambda: launcher.poll() is not None or _ready(folder, launcher.pid))
        yield launcher
    finally:
        launcher.kill()
        launcher.communicate()


def _ready(folder: Path, pid: int) -> bool:
    state = stack_state(folder)
    return state is not None and state.launcher_pid == pid and state.phase is Phase.READY


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "stack"


def test_a_stack_that_is_ready_can_be_found_and_used(folder: Path) -> None:
    with _launched(folder):
        stack = current_stack(folder)

        assert stack is not None
        assert stack.part("worker").state is PartState.READY
        assert stack.environment["S3_PASSWORD"] == stack.credentials.s3_password
        assert find_leftovers(mark_of(folder)) == [stack.part("worker").pid]


def test_the_state_with_its_credentials_is_for_the_owner_only(folder: Path) -> None:
    with _launched(folder):
        assert stat.S_IMODE((folder / STATE_FILE).stat().st_mode) == 0o600


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_end_every_part(folder: Path, number: signal.Signals) -> None:
    with _launched(folder) as launcher:
        launcher.send_signal(number)

        assert launcher.wait(30) == 0
    assert find_leftovers(mark_of(folder)) == []
    assert _state(folder).phase is Phase.ENDED
    assert current_stack(folder) is None


def test_an_owned_stack_ends_with_its_owner(folder: Path) -> None:
    with _launched(folder, "owned") as launcher:
        assert launcher.stdin is not None
        launcher.stdin.close()

        assert launcher.wait(30) == 0
        launcher.stdin = None
    assert _state(folder).phase is Phase.ENDED


def test_a_detached_launcher_outlives_the_command_that_started_it(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _LAUNCH, "detached"], env=_environment(folder), timeout=60, check=False
    )

    try:
        assert done.returncode == 0
        assert is_held(folder)
        _until(lambda: current_stack(folder) is not None)
    finally:
        assert stop_stack(folder)
    assert not is_held(folder)


def test_a_killed_launcher_takes_its_parts_down_and_is_recognised(folder: Path) -> None:
    with _launched(folder) as launcher:
        launcher.kill()
        launcher.wait()

        _until(lambda: find_leftovers(mark_of(folder)) == [])
    assert not is_held(folder)
    assert _state(folder).phase is Phase.KILLED
    assert current_stack(folder) is None


def test_a_folder_of_a_killed_launcher_can_be_used_again_with_the_same_ports(folder: Path) -> None:
    with _launched(folder) as launcher:
        ports = _state(folder).ports
        launcher.kill()
        launcher.wait()
    with _launched(folder):
        assert _state(folder).phase is Phase.READY
        assert _state(folder).ports == ports


def test_the_death_of_a_part_is_told_and_ends_the_stack_with_exit_code_1(folder: Path) -> None:
    with _launched(folder) as launcher:
        stack = current_stack(folder)
        assert stack is not None
        stack.kill("worker")

        assert launcher.wait(30) == 1
    state = _state(folder)
    assert state.phase is Phase.FAILED
    assert "worker was ended by SIGKILL" in state.message
    assert "at work" in state.message


def test_a_second_launcher_is_refused(folder: Path) -> None:
    with _launched(folder), pytest.raises(AlreadyRunningError, match="archiver down"), hold(folder):
        pass


def test_starting_a_stack_that_runs_gives_that_one(folder: Path) -> None:
    settings = LocalSettings(archiver_local_folder=folder, archiver_local_ports=PortChoice.FREE)
    with _launched(folder) as launcher:
        stack, started = start_stack(settings)

        assert not started
        assert stack.state().launcher_pid == launcher.pid


def test_stopping_ends_the_launcher_and_its_parts(folder: Path) -> None:
    with _launched(folder) as launcher:
        assert stop_stack(folder)

        assert launcher.wait(30) == 0
    assert find_leftovers(mark_of(folder)) == []


def test_stopping_where_nothing_runs_is_fine(folder: Path) -> None:
    assert not stop_stack(folder)


def test_stopping_clears_what_a_killed_launcher_left(folder: Path) -> None:
    with _launched(folder) as launcher:
        launcher.kill()
        launcher.wait()
    stop_stack(folder)

    assert find_leftovers(mark_of(folder)) == []
    assert _state(folder).phase is Phase.ENDED


def test_a_launcher_that_cannot_start_says_why(folder: Path) -> None:
    port = 9999
    settings = LocalSettings(archiver_local_folder=folder, archiver_local_api_port=port, archiver_local_s3_port=port)

    with pytest.raises(StackFailedError, match="Two parts have the same port"):
        start_stack(settings)
