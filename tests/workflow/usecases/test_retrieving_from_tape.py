"""Datablocks on tape: asked for together, waited for with a reason and a deadline, and read when they are there.

There is no tape here: which bytes are on the disk is said in the file system's place, and reading what is not there
waits as a call into the kernel does.
"""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import pytest

from archiver.workflow.errors import PermanentError
from archiver.workflow.holdings import recalling
from archiver.workflow.isolation import ChildProcess
from archiver.workflow.monitor import Limit, Monitor
from archiver.workflow.retrieval import Retrieval
from archiver.workflow.storage.lts import PosixShare
from support.facility import Facility

T = TypeVar("T")
FILES = {f"f{number}": bytes([number]) * 1_200_000 for number in range(4)}
"""A datablock each, with the target size of these tests."""


@dataclass
class Tape:
    """What was asked for, and what came."""

    asked_for: list[str] = field(default_factory=list)
    came: dict[str, threading.Event] = field(default_factory=dict)
    comes_at_once: bool = False

    def bring(self, archive_id: str) -> None:
        self.came.setdefault(archive_id, threading.Event()).set()

    def has(self, archive_id: str) -> bool:
        return self.came.setdefault(archive_id, threading.Event()).is_set()


@pytest.fixture
def tape(monkeypatch: pytest.MonkeyPatch) -> Iterator[Tape]:
    tape = Tape()
    at_hand, touch = PosixShare.bytes_at_hand, recalling.touch

    def only_what_came(share: PosixShare, path: str) -> int | None:
        return at_hand(share, path) if tape.has(path) else 0

    def wait(share: PosixShare, archive_id: str) -> None:
        tape.asked_for.append(archive_id)
        if tape.comes_at_once:
            tape.bring(archive_id)
        tape.came[archive_id].wait(60)
        touch(share, archive_id)

    def in_this_process(_: ChildProcess, function: Any, on_progress: Any, /, *arguments: Any, **named: Any) -> Any:
        return function(on_progress or (lambda _: None), *arguments, **named)

    monkeypatch.setattr(PosixShare, "bytes_at_hand", only_what_came)
    monkeypatch.setattr(recalling, "touch", wait)
    monkeypatch.setattr(ChildProcess, "call", in_this_process)
    yield tape
    for event in tape.came.values():
        event.set()


class Told(Monitor):
    """Keeps what is told, and the steps for which a place is taken; brings from tape what is waited for."""

    def __init__(self, pid: str, waited_for: Callable[[], None] = lambda: None) -> None:
        super().__init__(pid)
        self.notes: list[str] = []
        self.steps: list[str] = []
        self._waited_for = waited_for

    def note(self, message: str) -> None:
        self.notes.append(message)
        if "from tape" in message:
            self._waited_for()

    def step(self, name: str, work: Callable[[], T], limit: Limit | None = None) -> T:
        self.steps.append(name)
        return super().step(name, work, limit)


def _archived(facility: Facility) -> tuple[str, list[str]]:
    small = facility.with_settings(archiver_target_size_gb=0.001)
    pid = facility.ingest(FILES)
    return pid, [totals.archive_id for totals in small.archive(pid).datablocks]


def _with_lts(facility: Facility, **changes: Any) -> Facility:
    return replace(facility, tools=replace(facility.tools, lts=facility.tools.lts.model_copy(update=changes)))


def test_datablocks_on_tape_are_asked_for_in_batches_and_read_when_they_came(facility: Facility, tape: Tape) -> None:
    pid, tars = _archived(facility)
    facility = _with_lts(facility, lts_recall_batch=3)
    first_asked: list[str] = []

    def bring_first() -> None:
        if not first_asked:
            first_asked.extend(tape.asked_for)
        tape.comes_at_once = True
        for archive_id in list(tape.asked_for):
            tape.bring(archive_id)

    monitor = Told(pid, bring_first)
    outcome = Retrieval(facility.tools, monitor).retrieve(pid, "test")

    assert sorted(first_asked) == tars[:3]
    assert monitor.notes[0] == f"waiting for {tars[0].rpartition('/')[2]} to come from tape"
    assert sorted(tape.asked_for) == tars
    assert facility.retrieved(outcome) == FILES


def test_no_place_among_those_that_read_is_taken_while_the_tape_is_waited_for(facility: Facility, tape: Tape) -> None:
    pid, tars = _archived(facility)
    steps_meanwhile: list[str] = []

    def bring_all() -> None:
        steps_meanwhile.extend(monitor.steps)
        for archive_id in tars:
            tape.bring(archive_id)

    monitor = Told(pid, bring_all)
    Retrieval(facility.tools, monitor).retrieve(pid, "test")

    assert steps_meanwhile == []
    assert len(monitor.steps) == 4


def test_what_does_not_come_in_time_ends_the_retrieval_with_what_to_do(facility: Facility, tape: Tape) -> None:
    pid, _ = _archived(facility)
    facility = _with_lts(facility, lts_recall_hours=0.5 / 3600)

    with pytest.raises(PermanentError, match=r"1 tars of .* did not come from tape in .* \(LTS_RECALL_HOURS\)"):
        facility.retrieve(pid)


def test_single_files_wait_for_their_datablock_alone(facility: Facility, tape: Tape) -> None:
    pid, tars = _archived(facility)
    tape.comes_at_once = True

    outcome = facility.retrieve(pid, files=["f2"])

    assert tape.asked_for == [tars[2]]
    assert facility.retrieved(outcome) == {"f2": FILES["f2"]}


@pytest.mark.usefixtures("facility")
def test_what_lies_on_the_disk_is_asked_for_by_nobody(facility: Facility, tape: Tape) -> None:
    pid, tars = _archived(facility)
    for archive_id in tars:
        tape.bring(archive_id)
    monitor = Told(pid)

    Retrieval(facility.tools, monitor).retrieve(pid, "test")

    assert tape.asked_for == []
    assert not any("tape" in note for note in monitor.notes)
