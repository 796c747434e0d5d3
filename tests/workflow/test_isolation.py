"""Calls in a child process: they answer, or they end; nothing hangs, and nothing is left behind."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog

import support
from archiver.workflow.errors import MissingFilesError, PermanentError, StalledError, TransientError
from archiver.workflow.isolation import ChildProcess
from support import isolated_calls

DEADLINE_S = 30


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _is_gone(pid: int) -> bool:
    """Whether the process has ended (one nobody has waited for yet counts)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.fixture(autouse=True)
def _importable_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Functions travel by name."""
    monkeypatch.setenv("PYTHONPATH", str(Path(support.__file__).parent.parent))


@pytest.fixture
def child() -> Iterator[ChildProcess]:
    with ChildProcess(DEADLINE_S) as opened:
        yield opened


def test_a_result_comes_back_from_another_process(child: ChildProcess) -> None:
    assert child.call(isolated_calls.add, None, 2, other=3) == 5
    assert child.call(isolated_calls.own_pid) != os.getpid()


def test_one_child_answers_many_calls(child: ChildProcess) -> None:
    pids = {child.call(isolated_calls.own_pid) for _ in range(5)}

    assert len(pids) == 1


def test_a_large_result_arrives_whole(child: ChildProcess) -> None:
    assert child.call(isolated_calls.large_result, None, 5_000_000) == bytes(5_000_000)


def test_all_progress_arrives_before_the_result(child: ChildProcess) -> None:
    told: list[int] = []

    result = child.call(isolated_calls.count_up, told.append, [1, 2, 3, 4, 5])

    assert sum(told) == result == 15


def test_progress_of_one_call_is_not_told_to_the_next(child: ChildProcess) -> None:
    child.call(isolated_calls.count_up, None, [7])
    told: list[int] = []

    child.call(isolated_calls.count_up, told.append, [1])

    assert told == [1]


def test_an_exception_comes_back_with_its_names(child: ChildProcess) -> None:
    names = [f"file {number}\n" for number in range(30)]

    with pytest.raises(MissingFilesError, match="and 10 more") as caught:
        child.call(isolated_calls.miss_files, None, names)

    assert caught.value.names == tuple(names)
    assert not hasattr(caught.value, "__notes__")


def test_the_child_lives_on_after_an_exception(child: ChildProcess) -> None:
    before = child.call(isolated_calls.own_pid)
    with pytest.raises(MissingFilesError):
        child.call(isolated_calls.miss_files, None, [])

    assert child.call(isolated_calls.own_pid) == before


def test_an_exception_nobody_foresaw_tells_where_it_happened(child: ChildProcess) -> None:
    with pytest.raises(FileNotFoundError, match="nothing here") as caught:
        child.call(isolated_calls.fail_with, None, FileNotFoundError, "nothing here")

    assert "in fail_with" in caught.value.__notes__[0]


def test_an_exception_that_cannot_be_pickled_is_told_in_its_words(child: ChildProcess) -> None:
    with pytest.raises(PermanentError, match="StubbornError: will not travel"):
        child.call(isolated_calls.fail_with, None, isolated_calls.StubbornError, "will not travel")

    assert child.call(isolated_calls.add, None, 1, 1) == 2


def test_an_exception_that_cannot_be_made_again_is_told_in_its_words(child: ChildProcess) -> None:
    with pytest.raises(PermanentError, match="NeedyError: needs more"):
        child.call(isolated_calls.fail_needily)

    assert child.call(isolated_calls.add, None, 1, 1) == 2


def test_a_result_that_cannot_travel_is_an_error_and_not_a_hang(child: ChildProcess) -> None:
    with pytest.raises(TypeError, match="pickle"):
        child.call(isolated_calls.result_that_cannot_travel)

    assert child.call(isolated_calls.add, None, 1, 1) == 2


def test_an_argument_that_cannot_travel_is_an_error_and_not_a_hang(child: ChildProcess) -> None:
    with pytest.raises(TypeError, match="pickle"):
        child.call(isolated_calls.add, None, threading.Lock(), 1)  # type: ignore[arg-type]

    assert child.call(isolated_calls.add, None, 1, 1) == 2


def test_a_function_the_child_cannot_import_is_an_error_and_not_a_hang(
    child: ChildProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONPATH")

    with pytest.raises(ModuleNotFoundError, match="support"):
        child.call(isolated_calls.add, None, 1, 1)


def test_what_a_child_logs_carries_the_ids_of_its_call_and_not_those_of_the_one_before(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with ChildProcess(DEADLINE_S) as child:
        with structlog.contextvars.bound_contextvars(job_id="job 1", pid="p/1", run_id="run 1"):
            child.call(isolated_calls.say, None, "first")
        with structlog.contextvars.bound_contextvars(pid="p/2"):
            child.call(isolated_calls.say, None, "second")

    lines = [line for line in capfd.readouterr().err.splitlines() if "where=" in line]
    first, second = ([line for line in lines if f"event={event}" in line] for event in ("first", "second"))
    assert len(first) == len(second) == 2
    assert all('job_id="job 1"' in line and 'run_id="run 1"' in line and "pid=p/1" in line for line in first)
    assert all("pid=p/2" in line and "job_id" not in line and "run_id" not in line for line in second)


def test_a_stalled_child_is_killed(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    with ChildProcess(4) as child:
        with pytest.raises(StalledError, match=r"hold_still showed no progress for 4 s.*tried again"):
            child.call(isolated_calls.hold_still, None, pid_file)

        assert _is_gone(int(pid_file.read_text()))
        assert child.call(isolated_calls.add, None, 1, 1) == 2


def test_progress_keeps_a_long_call_alive(tmp_path: Path) -> None:
    stop = tmp_path / "stop"
    told: list[int] = []

    def tell(count: int) -> None:
        told.append(count)
        if sum(told) > 250:  # each takes 20 ms at least, so this is longer than the stall timeout
            stop.touch()

    with ChildProcess(4) as child:
        assert child.call(isolated_calls.count_slowly_then, tell, stop) == sum(told)


@pytest.mark.parametrize("with_signal", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_child_is_a_passing_error_and_the_next_call_works(
    child: ChildProcess, with_signal: signal.Signals
) -> None:
    with pytest.raises(TransientError, match=rf"die ended unexpectedly \(exit code -{with_signal.value}\)"):
        child.call(isolated_calls.die, None, int(with_signal))

    assert child.call(isolated_calls.add, None, 1, 1) == 2


def test_a_child_killed_between_calls_is_a_passing_error_and_the_next_call_works(child: ChildProcess) -> None:
    pid = child.call(isolated_calls.own_pid)
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # all its threads are gone, and its end of the pipe

    with pytest.raises(TransientError, match="exit code -9"):
        child.call(isolated_calls.add, None, 1, 1)
    assert child.call(isolated_calls.add, None, 1, 1) == 2


class _ClaimGoneError(Exception):
    pass


def test_a_call_that_is_given_up_does_not_answer_the_next_one(child: ChildProcess, tmp_path: Path) -> None:
    pid = child.call(isolated_calls.own_pid)

    def give_up(count: int) -> None:
        raise _ClaimGoneError

    with pytest.raises(_ClaimGoneError):
        child.call(isolated_calls.count_slowly_then, give_up, tmp_path / "never")

    assert _is_gone(pid)
    assert child.call(isolated_calls.add, None, 1, 1) == 2


def test_leaving_the_block_ends_the_child() -> None:
    with ChildProcess(DEADLINE_S) as child:
        pid = child.call(isolated_calls.own_pid)

    assert _is_gone(pid)


def test_a_child_that_was_never_called_is_never_started_and_need_not_be_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[object] = []
    monkeypatch.setattr("archiver.workflow.isolation.subprocess.Popen", lambda *command, **_: started.append(command))

    with ChildProcess(DEADLINE_S) as child:
        pass
    child.close()

    assert started == []


def test_a_child_leaves_no_descriptors_behind() -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for _ in range(5):
        with ChildProcess(DEADLINE_S) as child:
            child.call(isolated_calls.own_pid)

    assert len(os.listdir("/proc/self/fd")) < before + 5  # noqa: PTH208  # servers of other tests open some too


def test_two_children_work_side_by_side() -> None:
    with ChildProcess(DEADLINE_S) as one, ChildProcess(DEADLINE_S) as other:
        assert one.call(isolated_calls.own_pid) != other.call(isolated_calls.own_pid)
        one.close()
        assert other.call(isolated_calls.add, None, 1, 1) == 2


def test_a_child_dies_with_its_parent_in_the_middle_of_a_call(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    code = (
        "import sys; from pathlib import Path; from support.isolated_calls import parent_that_waits; "
        "parent_that_waits(Path(sys.argv[1]))"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(pid_file)])
    try:
        _until(lambda: pid_file.exists() and pid_file.read_text() != "")
    finally:
        parent.kill()
        parent.wait()

    pid = int(pid_file.read_text())
    _until(lambda: _is_gone(pid))
