"""The worker's companion: leftovers are told from work, and the credential is a file."""

import os
import signal
import stat
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from archiver.config.settings import QueueSettings
from archiver.workflow.container_sweep import (
    LINGER,
    EngineError,
    RunContainer,
    is_leftover,
    read_containers,
    sweep,
)
from archiver.workflow.job_queue import JobQueue, RunState
from archiver.workflow.worker import lay_credential, supervise, worker_command

_NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
_LONG_AGO = _NOW - 2 * LINGER
_JUST_NOW = _NOW - timedelta(seconds=20)


def _container(created_at: datetime = _LONG_AGO, run_id: UUID | None = None) -> RunContainer:
    return RunContainer("c0ffee", "quick-heron", run_id or uuid4(), created_at)


def _run(state_type: str, last_sign: datetime) -> RunState:
    return RunState(uuid4(), "archive", "1", state_type, state_type.capitalize(), "", _LONG_AGO, last_sign)


@pytest.mark.parametrize("state", ["COMPLETED", "FAILED", "CRASHED", "CANCELLED"])
def test_a_container_whose_run_ended_a_while_ago_is_a_leftover(state: str) -> None:
    assert is_leftover(_container(), _run(state, _LONG_AGO), _NOW)


@pytest.mark.parametrize("state", ["COMPLETED", "CRASHED"])
def test_a_container_may_outlive_its_run_for_a_moment(state: str) -> None:
    assert not is_leftover(_container(), _run(state, _JUST_NOW), _NOW)


@pytest.mark.parametrize("state", ["SCHEDULED", "PENDING", "RUNNING", "PAUSED", "CANCELLING"])
def test_a_container_whose_run_goes_on_is_left_alone_however_silent_it_is(state: str) -> None:
    assert not is_leftover(_container(), _run(state, _NOW - timedelta(days=9)), _NOW)


def test_a_run_that_the_server_does_not_know_leaves_a_leftover_once_it_is_old() -> None:
    assert is_leftover(_container(_LONG_AGO), None, _NOW)
    assert not is_leftover(_container(_JUST_NOW), None, _NOW)


class _Engine:
    def __init__(self, containers: Sequence[RunContainer], stuck: RunContainer | None = None) -> None:
        self.containers, self.stuck = containers, stuck
        self.removed: list[RunContainer] = []

    def run_containers(self, pool: str) -> Sequence[RunContainer]:
        return self.containers

    def remove(self, container: RunContainer) -> None:
        if container == self.stuck:
            raise EngineError("it does not end")
        self.removed.append(container)


class _Queue(JobQueue):
    def __init__(self, runs: dict[UUID, RunState]) -> None:
        super().__init__(QueueSettings(), 0)
        self._known = runs

    def run(self, run_id: UUID) -> RunState | None:
        return self._known.get(run_id)


def test_one_leftover_that_cannot_be_removed_does_not_keep_the_others() -> None:
    stuck, over, working = _container(), replace(_container(), name="over"), replace(_container(), name="working")
    runs = {
        stuck.run_id: _run("CRASHED", _LONG_AGO),
        over.run_id: _run("CRASHED", _LONG_AGO),
        working.run_id: _run("RUNNING", _LONG_AGO),
    }
    engine = _Engine([stuck, working, over], stuck=stuck)

    assert sweep(engine, _Queue(runs), "archival") == 1
    assert engine.removed == [over]


def test_containers_without_a_runs_id_are_nobodys_to_remove() -> None:
    listed: list[dict[str, object]] = [
        {
            "Id": "1",
            "Names": ["/mine"],
            "Labels": {"io.prefect.flow-run-id": str(UUID(int=7))},
            "Created": 1_700_000_000,
        },
        {"Id": "2", "Names": ["/other"], "Labels": {}, "Created": 1_700_000_000},
    ]

    (found,) = read_containers(listed)

    assert found == RunContainer("1", "mine", UUID(int=7), datetime.fromtimestamp(1_700_000_000, UTC))


def test_the_credential_is_a_file_that_only_the_user_of_runs_can_read(tmp_path: Path) -> None:
    lay_credential("old", tmp_path, os.getuid(), os.getgid())
    file = lay_credential("archiver:secret", tmp_path, os.getuid(), os.getgid())

    assert file.read_text() == "archiver:secret"
    assert stat.S_IMODE(file.stat().st_mode) == 0o400
    assert list(tmp_path.iterdir()) == [file]


def test_a_worker_never_makes_a_pool_of_its_own_and_installs_nothing() -> None:
    command = worker_command("archival", 2)

    assert "--no-create-pool-if-not-found" in command
    assert command[command.index("--install-policy") + 1] == "never"
    assert command[command.index("--limit") + 1] == "2"
    assert "--limit" not in worker_command("archival", None)


def test_a_signal_to_end_lets_the_worker_finish_what_it_has(tmp_path: Path) -> None:
    sign = tmp_path / "finished"
    worker = (
        "import pathlib, signal, sys, time\n"
        "def end(*_):\n"
        f"    time.sleep(0.3); pathlib.Path({str(sign)!r}).write_text('yes'); sys.exit(7)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        f"pathlib.Path({str(tmp_path / 'ready')!r}).touch()\n"
        "signal.pause()\n"
    )

    def end_it() -> None:
        while not (tmp_path / "ready").exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
    ending = threading.Thread(target=end_it)
    ending.start()
    try:
        code = supervise([sys.executable, "-c", worker], "archival", 3600)
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
    ending.join()

    assert code == 7
    assert sign.read_text() == "yes"
