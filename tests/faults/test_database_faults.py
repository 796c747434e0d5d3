"""The ledger's PostgreSQL is restarted, or away, while a data set is archived or retrieved."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from archiver.config.settings import LedgerSettings
from archiver.local.postgres import PostgresServer, start_postgres
from archiver.workflow.ledger.ledger import Ledger
from support.facility import Facility
from support.faults import EVERY_POINT, Runner
from support.faults_checks import Witness
from support.faults_matrix import Matrix
from support.faults_points import Blow, Fault, Point
from support.faults_runner import Outcome
from support.faults_trials import (
    Archived,
    archive_after_the_crash,
    ingest,
    retrieve_after_the_crash,
    some,
    try_all,
)

pytestmark = pytest.mark.timeout(3600 if EVERY_POINT else 900)

GIVES_UP_QUIETLY = {"ledger: release_claim", "ledger: release_retrieval"}
"""What is not told there ends by itself."""


class Database:
    """A server that can be restarted."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._server: PostgresServer = start_postgres(folder, databases=("ledger",), durable=False)
        self.url = self._server.url("ledger", scheme="postgresql+psycopg")

    def stop(self) -> None:
        self._server.stop()

    def start(self) -> None:
        self._server = start_postgres(self._folder, self._server.port, durable=False)

    def restart(self) -> None:
        self.stop()
        self.start()


@pytest.fixture
def database(postgres_folder: Path) -> Iterator[Database]:
    """A server of the test's own."""
    found = Database(postgres_folder)
    try:
        yield found
    finally:
        found.stop()


@pytest.fixture
def ledger_url(database: Database) -> str:
    """Of that server, in place of the one that tests share."""
    with Ledger.open(LedgerSettings(ledger_url=SecretStr(database.url))) as ledger:
        ledger.migrate()
    return database.url


def _ledger_calls(calls: list[Point]) -> list[Point]:
    return [point for point in calls if point.call.startswith("ledger: ")]


def _run(
    facility: Facility, runner: Runner, use_case: str, pid: str, point: Point, event: Callable[[], None]
) -> Outcome:
    with runner.start(facility, use_case, pid, Fault(point, Blow.STOP)) as run:
        run.wait_until_stopped()
        event()
        run.go_on()
        return run.outcome()


@pytest.fixture
def calls(facility: Facility, runner: Runner) -> list[Point]:
    """What a run that archives without trouble asks of the ledger."""
    with runner.start(facility, "archive", ingest(facility).pid) as run:
        assert run.outcome().error == ""
        return _ledger_calls(run.calls)


def test_a_database_that_is_restarted_while_archiving_is_connected_to_again(
    calls: list[Point], database: Database, facility: Facility, runner: Runner, matrix: Matrix
) -> None:
    def trial(point: Point) -> None:
        witness = ingest(facility)
        outcome = _run(facility, runner, "archive", witness.pid, point, database.restart)
        assert outcome.error == "", outcome.message
        witness.check_archived_once()
        matrix.add("PostgreSQL restarted in mid-run", f"archiving, before {point.call}", "", "archived once")

    assert try_all(some(calls, 7), trial, at_once=1) > 0


def test_a_database_that_is_restarted_while_retrieving_is_connected_to_again(
    archived: Archived, database: Database, facility: Facility, runner: Runner, matrix: Matrix
) -> None:
    def trial(point: Point, witness: Witness) -> None:
        outcome = _run(facility, runner, "retrieve", witness.pid, point, database.restart)
        assert outcome.error == "", outcome.message
        witness.check_retrieved()
        matrix.add("PostgreSQL restarted in mid-run", f"retrieving, before {point.call}", "", "retrieved")

    calls = _ledger_calls(archived.calls_of_a_retrieval())
    assert try_all(some(calls, 4), archived.for_each(trial), at_once=1) > 0


def test_a_database_that_is_away_for_longer_than_a_run_that_archives_costs_nothing(
    calls: list[Point], database: Database, facility: Facility, runner: Runner, matrix: Matrix
) -> None:
    def trial(point: Point) -> None:
        witness = ingest(facility)
        try:
            outcome = _run(facility, runner, "archive", witness.pid, point, database.stop)
        finally:
            database.start()
        assert outcome.error == ("" if point.call in GIVES_UP_QUIETLY else "LedgerError"), outcome.message
        copies = archive_after_the_crash(facility, runner, witness)
        went = f"{outcome.error or 'archived'}; next run: archived once"
        matrix.add("PostgreSQL away for longer than the run", f"archiving, from {point.call} on", copies, went)

    assert try_all(some(calls, 6), trial, at_once=1) > 0


def test_a_database_that_is_away_for_longer_than_a_run_that_retrieves_costs_nothing(
    archived: Archived, database: Database, facility: Facility, runner: Runner, matrix: Matrix
) -> None:
    asked = _ledger_calls(archived.calls_of_a_retrieval())

    def trial(point: Point, witness: Witness) -> None:
        try:
            outcome = _run(facility, runner, "retrieve", witness.pid, point, database.stop)
        finally:
            database.start()
        quietly = point.call in GIVES_UP_QUIETLY and point == asked[-1]
        assert outcome.error == ("" if quietly else "LedgerError"), outcome.message
        seen = retrieve_after_the_crash(facility, runner, witness)
        went = f"{outcome.error or 'retrieved'}; next run: retrieved"
        matrix.add("PostgreSQL away for longer than the run", f"retrieving, from {point.call} on", seen, went)

    assert try_all(some(asked, 4), archived.for_each(trial), at_once=1) > 0
