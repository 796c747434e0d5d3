"""One trial: strike a run, see that nothing is lost, let the next run go on, see that all is well."""

import re
import signal
import traceback
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from queue import SimpleQueue
from typing import TypeVar

from archiver.workflow.names import bag_folder
from support.facility import Facility, file_entry
from support.faults import EVERY_POINT, Runner, let_claims_grow_old
from support.faults_checks import BAG, Witness
from support.faults_points import Moment, Point

T = TypeVar("T")

FILES: Mapping[str, bytes] = {
    "a.txt": b"alpha",
    "sub/b.bin": b"\x00\x01" * 5000,
    "sub/c.bin": b"\x02\x03" * 6000,
    "sub/empty": b"",
}
"""Two datablocks with the target size of these tests."""
_EVERY_SO_MANY = 5
AT_ONCE = 2


def ingest(facility: Facility, files: Mapping[str, bytes] = FILES) -> Witness:
    """A data set with a folder, listed and uploaded; no other has anything in common with it, not even folders."""
    pid = facility.new_dataset(f"{uuid.uuid4().hex}/run")
    entries = [file_entry("sub", 4096, perm="drwxr-xr-x")]
    entries += [file_entry(path, len(content)) for path, content in files.items()]
    facility.list_files(pid, entries)
    facility.upload(pid, files)
    return Witness(facility, pid, files)


def points_of(calls: Iterable[Point], part: str) -> list[Point]:
    """Where to strike in the calls whose names begin with `part` (a regular expression).

    Before each call that changes something, and after every fifth of them; with ARCHIVER_ALL_FAULT_POINTS before
    each call, and after each that changes something. A process killed before a call that changes nothing leaves
    behind what the same process leaves when it is killed before the next one that does.
    """
    wanted = sorted(point for point in calls if re.match(part, point.call))
    changing = [point for point in wanted if point.has_effect]
    before, after = (wanted, changing) if EVERY_POINT else (changing, changing[::_EVERY_SO_MANY])
    return before + [replace(point, moment=Moment.AFTER) for point in after]


def some(points: Sequence[T], every: int) -> Sequence[T]:
    """All of them with ARCHIVER_ALL_FAULT_POINTS, else one of so many."""
    return points if EVERY_POINT else points[::every]


def try_all(points: Iterable[T], trial: Callable[[T], None], at_once: int = AT_ONCE) -> int:
    """Carry out the trial at every point, so many at once; how many.

    Raises:
        AssertionError: naming each point at which it failed, and how.
    """

    def failure(point: T) -> str:
        try:
            trial(point)
        except Exception as error:  # noqa: BLE001  # all failures are told together
            return f"{point}:\n{''.join(traceback.format_exception(error)[-2:])}"
        return ""

    with ThreadPoolExecutor(at_once) as pool:
        failures = list(pool.map(failure, points))
    assert not any(failures), "\n".join(filter(None, failures))
    return len(failures)


def archive_after_the_crash(facility: Facility, runner: Runner, witness: Witness) -> str:
    """What holds after a crash, before and after the next run; where complete copies lay in between."""
    copies = witness.check_nothing_lost()
    published = witness.published()
    let_claims_grow_old(facility, witness.pid)
    outcome = runner.run(facility, "archive", witness.pid, holder="next run")
    assert outcome.error == "", outcome.message
    witness.check_archived_once()
    assert published.items() <= witness.bag_contents().items(), "a published file was changed"
    return " and ".join(copies)


def must_be_killed(status: int, point: Point) -> None:
    """A run with another end never came to the point, and would prove nothing."""
    assert status == -signal.SIGKILL, f"the run ended with {status} and was not killed {point}"


def retrieve_after_the_crash(facility: Facility, runner: Runner, witness: Witness) -> str:
    """What holds after a crash, before and after the next run; what could be seen in the bucket in between."""
    seen = witness.check_no_wrong_copy()
    published = witness.published()
    let_claims_grow_old(facility, witness.pid)
    outcome = runner.run(facility, "retrieve", witness.pid, holder="next run")
    assert outcome.error == "", outcome.message
    witness.check_retrieved()
    assert witness.published() == published, "the bag was changed"
    return f"{BAG}, {seen} of {len(witness.tars())} datablocks in the bucket"


class Archived:
    """Data sets that were archived, for trials of retrieval: each has one for itself, as if never retrieved."""

    def __init__(self, facility: Facility, runner: Runner) -> None:
        self._facility = facility
        self._runner = runner
        self._free: SimpleQueue[Witness] = SimpleQueue()
        for _ in range(AT_ONCE):
            witness = ingest(facility)
            assert runner.run(facility, "archive", witness.pid).error == ""
            self._free.put(witness)

    def calls_of_a_retrieval(self) -> list[Point]:
        """The calls of a run that retrieves without any fault."""
        witness = self._free.get()
        with self._runner.start(self._facility, "retrieve", witness.pid) as run:
            assert run.outcome().error == ""
            witness.check_retrieved()
            self._free.put(witness)
            return run.calls

    def for_each(self, trial: Callable[[T, Witness], None]) -> Callable[[T], None]:
        """The trial with a data set for itself."""

        def alone(point: T) -> None:
            witness = self._free.get()
            try:
                forget_retrieved(self._facility, witness)
                trial(point, witness)
            finally:
                self._free.put(witness)

        return alone


def forget_retrieved(facility: Facility, witness: Witness) -> None:
    """As if the data set had never been retrieved."""
    store, bucket = facility.tools.store, facility.tools.store_settings.s3_retrieval_bucket
    store.delete(bucket, list(store.list(bucket, bag_folder(witness.pid))))
    for tar in witness.tars():
        facility.tools.ledger.forget_retrieval(str(tar.relative_to(facility.lts_root)))
