"""The command that withdraws, restores or removes a data set is killed at every call that changes something."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from queue import SimpleQueue

import pytest

from archiver.workflow.holdings.rebuilding import LedgerRebuilding
from archiver.workflow.isolation import ChildProcess
from archiver.workflow.ledger.records import RetirementState, Stage
from archiver.workflow.retirement import Retiring, tell_retirement
from archiver.workflow.tombstones import Event, EventKind, find_event
from support.facility import Facility
from support.faults import EVERY_POINT, Runner, let_claims_grow_old
from support.faults_checks import Witness
from support.faults_matrix import Matrix
from support.faults_points import Fault, Point
from support.faults_runner import RETIREMENT
from support.faults_trials import AT_ONCE, ingest, must_be_killed, points_of, try_all

TIMEOUT = timedelta(minutes=5)
END = {"confirm": EventKind.RETIRED, "restore": EventKind.RESTORED, "remove": EventKind.REMOVED}
pytestmark = pytest.mark.timeout(3600 if EVERY_POINT else 900)


@dataclass
class Office:
    """The operators' desk: data sets come to the state from which a step goes on, and are looked at afterwards."""

    facility: Facility
    runner: Runner
    _children: SimpleQueue[ChildProcess]

    @contextmanager
    def _child(self) -> Iterator[ChildProcess]:
        """A process of its own for each of the trials that go on at once."""
        child = self._children.get()
        try:
            yield child
        finally:
            self._children.put(child)

    def ready_for(self, step: str) -> Witness:
        """A data set of its own, for which the step is asked for."""
        witness = ingest(self.facility)
        assert self.runner.run(self.facility, "archive", witness.pid).error == ""
        tools = self.facility.tools
        with self._child() as child:
            desk = Retiring(
                tools.catalogue,
                tools.ledger,
                tools.share,
                (),
                child,
                tools.storage_location,
                timedelta(),
                TIMEOUT,
                "ada",
            )
            _, word = desk.request(witness.pid, "wrong sample", dry_run=False)
            if step != "confirm":
                desk.confirm(witness.pid, word, dry_run=False)
            if step == "remove":
                desk.request_removal(witness.pid, dry_run=False)
        return witness

    def event(self, pid: str) -> Event | None:
        with self._child() as child:
            return child.call(find_event, None, self.facility.tools.share, pid)

    def check_all_agree(self, witness: Witness) -> None:
        """Ledger and catalogue say what the share says."""
        event, pid = self.event(witness.pid), witness.pid
        tools, lifecycle = self.facility.tools, self.facility.lifecycle(witness.pid)
        record = tools.ledger.dataset(pid)
        assert record is not None
        is_withdrawn = event is not None and event.kind.is_withdrawn
        assert lifecycle["retrievable"] is not is_withdrawn
        if event is None or not is_withdrawn:
            assert record.stage in (Stage.EMPTIED, Stage.PUBLISHED)
            assert lifecycle["archiveStatusMessage"] == "datasetOnArchiveDisk"
            return
        assert record.stage is RetirementState(event.kind).stage
        assert lifecycle["archiveStatusMessage"] == (
            "deleted" if event.kind is EventKind.REMOVED else "markedForDeletion"
        )
        assert bool(self.facility.registered(pid)) is (event.kind is not EventKind.REMOVED)

    def check_nothing_half_is_given_out(self, witness: Witness) -> str:
        """What is given out is whole, and what is withdrawn is not given out; which of both."""
        event = self.event(witness.pid)
        if event is None or not event.kind.is_final:
            assert witness.bag_faults() == []
        let_claims_grow_old(self.facility, witness.pid)
        outcome = self.runner.run(self.facility, "retrieve", witness.pid, holder="a user")
        if event is not None and event.kind.is_withdrawn:
            assert outcome.error == "RetiredError", outcome.message
            return "bag removed" if event.kind.is_final else "withdrawn, bag whole"
        assert outcome.error in ("", "RetiredError"), outcome.message  # the ledger may not know yet
        return "bag whole"

    def reconcile(self, witness: Witness) -> None:
        """As the service does it by itself: the ledger learns from the share, and tells the catalogue."""
        ledger, share = self.facility.tools.ledger, self.facility.tools.share
        with self._child() as child:
            work = LedgerRebuilding(ledger, child, share, TIMEOUT, verify=False, dry_run=False)
            found = {each.pid: each for each in work.rebuild()}
        assert not found[witness.pid].outcome.needs_attention, found[witness.pid]
        tell_retirement(self.facility.tools.catalogue, ledger, "ETHZ", witness.pid)


@pytest.fixture
def office(facility: Facility, runner: Runner) -> Iterator[Office]:
    with ExitStack() as stack:
        children: SimpleQueue[ChildProcess] = SimpleQueue()
        for _ in range(AT_ONCE):
            children.put(stack.enter_context(ChildProcess(60)))
        yield Office(facility, runner, children)


@pytest.mark.parametrize("step", RETIREMENT)
def test_killed_at_any_call_the_data_set_is_given_out_whole_or_not_at_all_and_the_command_can_be_given_again(
    step: str, office: Office, facility: Facility, runner: Runner, matrix: Matrix
) -> None:
    def trial(numbered: tuple[int, Point]) -> None:
        number, point = numbered
        witness = office.ready_for(step)
        with runner.start(facility, step, witness.pid, Fault(point)) as run:
            must_be_killed(run.ended(), point)
        seen = office.check_nothing_half_is_given_out(witness)
        if number % 2:
            office.reconcile(witness)
            office.check_all_agree(witness)
        again = runner.run(facility, step, witness.pid, holder="ada again")
        assert (again.error, again.message) == ("", "")
        office.check_all_agree(witness)
        event = office.event(witness.pid)
        assert event is not None
        assert event.kind is END[step]
        if step != "remove":
            assert witness.bag_faults() == []
        else:
            assert witness.tars() == []
        by = "reconciliation and the same command" if number % 2 else "the same command"
        matrix.add(f"retire {step} killed (SIGKILL)", f"{point.moment} {point.call}", seen, f"{by}: all agree")

    witness = office.ready_for(step)
    with runner.start(facility, step, witness.pid) as run:
        assert run.outcome().error == ""
        calls = run.calls
    office.check_all_agree(witness)
    assert try_all(list(enumerate(points_of(calls, ""))), trial) > 0
