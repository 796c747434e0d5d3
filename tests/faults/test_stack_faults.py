"""The Prefect server, workers and runs of the whole service are killed or cancelled in the middle of their work."""

import time
from collections.abc import Iterator

import pytest

from archiver.local.stack import Stack
from archiver.workflow.flows.monitor import LEASE_S
from archiver.workflow.ledger.records import Stage
from archiver.workflow.monitor import Limit
from support.faults_checks import BAG, LANDING_ZONE, Witness
from support.faults_matrix import Matrix
from support.faults_trials import forget_retrieved, ingest
from support.stacks import whole_stack
from support.struck_stack import (
    StruckStack,
    settings_of_the_stack,
    soon,
    struck_stack,
)

pytestmark = [pytest.mark.stack, pytest.mark.timeout(1200)]

WRITERS, READERS = 2, 1
"""Who may use the share at once, by concurrency-limits.toml."""


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with settings_of_the_stack(), whole_stack() as running:
        yield running


@pytest.fixture(scope="module")
def service(stack: Stack) -> Iterator[StruckStack]:
    with struck_stack(stack) as struck:
        yield struck


@pytest.fixture(scope="module")
def archived_before(service: StruckStack) -> Witness:
    """A data set to be retrieved."""
    witness = ingest(service.facility)
    service.must_succeed(service.submit("archive", witness))
    witness.check_archived_once()
    return witness


@pytest.fixture
def archived(service: StruckStack, archived_before: Witness) -> Witness:
    """A data set that is as if never retrieved."""
    forget_retrieved(service.facility, archived_before)
    return archived_before


@pytest.fixture(autouse=True)
def nothing_is_left(service: StruckStack) -> Iterator[None]:
    """Whatever a test did: all goes on in the end, and nobody keeps a place under a limit."""
    try:
        yield
    finally:
        service.proxy.heal()
    service.wait_for_free_places()
    assert service.proxy.passing() == []


def nothing_lost(*witnesses: Witness) -> str:
    copies = {" and ".join(witness.check_nothing_lost()) for witness in witnesses}
    return ", ".join(sorted(copies))


def test_the_server_of_prefect_is_killed_while_every_place_is_taken(
    service: StruckStack, archived: Witness, matrix: Matrix
) -> None:
    let_write = service.hold_archive_jobs()
    let_read = service.hold_retrieve_jobs()
    news = [ingest(service.facility) for _ in range(WRITERS + 2)]
    jobs = [service.submit("archive", witness) for witness in news]
    retrieval = service.submit("retrieve", archived)
    soon(lambda: service.tasks_at_work("write "), lambda count: count == len(news))
    soon(lambda: service.tasks_at_work("retrieve "), lambda count: count == 1)
    soon(lambda: sum(map(service.is_held, news)), lambda count: count == WRITERS)
    service.wait_until_held(archived)
    taken = service.places()
    assert taken == {str(Limit.WRITE_LTS): WRITERS, str(Limit.READ_LTS): READERS}

    killed = service.stack.kill("prefect-server")
    service.stack.wait_for_restart("prefect-server", killed, within_s=240)

    assert service.places() == taken
    assert sum(map(service.is_held, news)) == WRITERS
    copies = nothing_lost(*news)
    let_write()
    # Each has written its first datablock and waits to read it back: the only place belongs to the retrieval.
    soon(lambda: service.tasks_at_work("read back "), lambda count: count == len(news))
    assert service.is_held(archived)
    assert service.places() == {str(Limit.WRITE_LTS): 0, str(Limit.READ_LTS): READERS}
    let_read()
    for job in (*jobs, retrieval):
        service.must_succeed(job)
    assert service.most_written_at_once() == WRITERS
    for witness in news:
        witness.check_archived_once()
    archived.check_retrieved()
    service.wait_for_free_places()
    matrix.add(
        "Prefect server killed (SIGKILL), every place taken",
        "four archive jobs, two of them writing",
        copies,
        "places kept, the others wait on; the same runs: archived once; places free",
    )
    matrix.add(
        "Prefect server killed (SIGKILL), every place taken",
        "retrieve job, copying",
        BAG,
        "place kept; the same run: retrieved; place free",
    )


def test_workers_are_killed_while_their_runs_are_at_work(
    service: StruckStack, archived: Witness, matrix: Matrix
) -> None:
    service.hold_archive_jobs()
    service.hold_retrieve_jobs()
    new = ingest(service.facility)
    job, retrieval = service.submit("archive", new), service.submit("retrieve", archived)
    service.wait_until_held(new, archived)

    workers = {name: service.stack.kill(name) for name in ("prefect-archival-worker", "prefect-retrieval-worker")}
    copies = nothing_lost(new)
    for name, killed in workers.items():
        service.stack.wait_for_restart(name, killed, within_s=240)
    service.proxy.heal()

    # Processes of a worker write their log into its pipe, and end when it is broken. (Containers go on.)
    service.must_succeed(job, runs=2)
    service.must_succeed(retrieval, runs=2)
    new.check_archived_once()
    archived.check_retrieved()
    matrix.add("worker killed (SIGKILL)", "archive job, writing", copies, "next run: archived once")
    matrix.add("worker killed (SIGKILL)", "retrieve job, copying", BAG, "next run: retrieved")


def test_runs_are_killed_with_and_without_their_worker_and_their_places_come_free(
    service: StruckStack, archived: Witness, matrix: Matrix
) -> None:
    service.hold_archive_jobs()
    service.hold_retrieve_jobs()
    news = [ingest(service.facility), ingest(service.facility)]
    job, orphan = (service.submit("archive", witness) for witness in news)
    retrieval = service.submit("retrieve", archived)
    service.wait_until_held(*news, archived)

    service.kill_processes(job)
    service.kill_processes(retrieval)
    worker = service.stack.kill("prefect-archival-worker")
    service.kill_processes(orphan)
    copies = nothing_lost(*news)
    assert archived.check_no_wrong_copy() == 0
    service.proxy.heal()

    # The next run of each waits for a place: all of them are taken by the dead, until their leases end.
    for each in (job, orphan, retrieval):
        soon(lambda each=each: len(service.runs(each)), lambda count: count == 2)  # type: ignore[misc]
    for each in (job, orphan, retrieval):
        service.must_succeed(each, runs=2)
    service.wait_for_free_places()
    for witness in news:
        witness.check_archived_once()
    archived.check_retrieved()
    service.stack.wait_for_restart("prefect-archival-worker", worker, within_s=240)
    went = "next run: archived once; place free"
    matrix.add("run killed (SIGKILL)", "archive job, writing", copies, went)
    matrix.add("run and its worker killed (SIGKILL)", "archive job, writing", copies, went)
    matrix.add("run killed (SIGKILL)", "retrieve job, copying", BAG, "next run: retrieved; place free")


def test_runs_that_are_cancelled_stop_and_give_their_places_back(
    service: StruckStack, archived: Witness, matrix: Matrix
) -> None:
    service.hold_archive_jobs()
    service.hold_retrieve_jobs()
    new, waiting = ingest(service.facility), ingest(service.facility)
    with service.place_taken(Limit.WRITE_LTS):
        writes, copies = service.submit("archive", new), service.submit("retrieve", archived)
        service.wait_until_held(new, archived)
        waits = service.submit("archive", waiting)
        soon(lambda: service.tasks_at_work("write ", waits), lambda count: count == 1)
        for job in (waits, writes, copies):
            assert service.queue.cancel(service.run(job).id)
        cancelled_at = time.monotonic()
        for job in (writes, copies):
            soon(lambda job=job: service.run(job).state_type, lambda state: state == "CANCELLED")  # type: ignore[misc]
            soon(lambda job=job: service.processes(job), lambda alive: not alive)  # type: ignore[misc]
        others = {str(Limit.WRITE_LTS): 1, str(Limit.READ_LTS): 0}
        soon(service.places, lambda taken: taken == others)
        assert time.monotonic() - cancelled_at < LEASE_S, "the places were not given back, their leases ended"
        soon(lambda: service.run(waits).state_type, lambda state: state == "CANCELLED")
        soon(lambda: service.processes(waits), lambda alive: not alive)
    service.proxy.heal()

    for job in (writes, copies, waits):
        assert service.end_of(job) == "finishedUnsuccessful"
        assert len(service.runs(job)) == 1
    for witness in (new, waiting):
        assert witness.copies() == [LANDING_ZONE]
    record = service.facility.tools.ledger.dataset(new.pid)
    assert record is not None
    assert (record.stage, record.holder) == (Stage.FAILED, None)
    assert archived.check_no_wrong_copy() == 0

    for witness in (new, waiting):
        service.set_archivable(witness)
    again = service.submit("archive", new, waiting)
    service.must_succeed(service.submit("retrieve", archived))
    archived.check_retrieved()
    service.must_succeed(again)
    for witness in (new, waiting):
        witness.check_archived_once()
    ended = "process gone, place free, job ended"
    matrix.add("run cancelled", "archive job, writing", LANDING_ZONE, f"{ended}; a new job: archived once")
    matrix.add("run cancelled", "archive job, waiting for a place", LANDING_ZONE, f"{ended}; a new job: archived once")
    matrix.add("run cancelled", "retrieve job, copying", BAG, f"{ended}; a new job: retrieved")


def test_two_jobs_for_a_data_set_at_once_and_a_third_after_success(
    service: StruckStack, archived: Witness, matrix: Matrix
) -> None:
    service.hold_archive_jobs()
    service.hold_retrieve_jobs()
    new = ingest(service.facility)
    jobs = [service.submit("archive", new), service.submit("archive", new)]
    retrievals = [service.submit("retrieve", archived), service.submit("retrieve", archived)]
    service.wait_until_held(new, archived)
    for job in (*jobs, *retrievals):
        soon(lambda job=job: service.run(job).state_type, lambda state: state == "RUNNING")  # type: ignore[misc]
    copies = nothing_lost(new)
    service.proxy.heal()

    for job in (*jobs, *retrievals):
        service.must_succeed(job)
    new.check_archived_once()
    archived.check_retrieved()
    said = sorted(service.facility.job(job)["statusMessage"].partition(": ")[2].partition(":")[0] for job in jobs)
    assert said == ["archived", "was archived already"]
    matrix.add("two jobs for one data set at once", "archiving", copies, "both end well; archived once")
    matrix.add("two jobs for one data set at once", "retrieving", BAG, "both end well; retrieved")

    before = new.published(), service.facility.registered(new.pid)
    service.set_archivable(new)
    third = service.submit("archive", new)
    service.must_succeed(third)
    assert "was archived already" in service.facility.job(third)["statusMessage"]
    assert (new.published(), service.facility.registered(new.pid)) == before
    new.check_archived_once()
    matrix.add("second job after success", "archiving", BAG, "ends well; nothing changed")
