"""From an older version of the service to this one with what it holds, and back."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from stack.archive import datablocks_of_whole_bag
from stack.engine import Engine
from stack.figures import Note
from stack.operated import OperatedStack, copy_of_commit, last_commit_with_older_ledger
from stack.operators_view import PrefectView
from stack.payload import write_noise
from stack.visitor import Visitor
from stack.waiting import wait_for

pytestmark = [pytest.mark.timeout(7200), pytest.mark.long]

_PROJECT = Path(__file__).parents[3]
_REVISION = "SELECT version_num FROM alembic_version"


@pytest.fixture
def older(stack: OperatedStack, engine: Engine, tmp_path: Path, note: Note) -> Iterator[OperatedStack]:
    """The stack of an older commit, without any data, in the place of the one of now."""
    commit = last_commit_with_older_ledger(_PROJECT)
    note("older version that is upgraded", commit[:12])
    older = stack.as_of(copy_of_commit(_PROJECT, commit, tmp_path / "older"), f"as-of-{commit[:12]}")
    older.make("STACK=docker", "secrets")
    older.build()
    stack.down(with_data=True)
    older.up()
    try:
        yield older
    finally:
        older.down(with_data=True)
        stack.up()


def _visit(stack: OperatedStack) -> Visitor:
    return Visitor(stack.addresses, stack.secret("scicatingestorpass"))


def test_an_older_version_is_upgraded_with_what_it_holds_and_the_way_back_begins_with_a_refusal(
    older: OperatedStack, stack: OperatedStack, prefect: PrefectView, tmp_path: Path
) -> None:
    with _visit(older) as visitor:
        pid = visitor.ingest(write_noise(tmp_path / "older data", 3, 5000, 21))
        visitor.archived(pid)
        tars = visitor.datablocks(pid)
    revision = older.sql("ledger", _REVISION).strip()
    older.wait_for_backup("ledger")
    older.stop("prefect-archival-worker", "prefect-retrieval-worker")

    stack.up()

    assert stack.sql("ledger", _REVISION).strip() > revision
    with _visit(stack) as visitor:
        assert visitor.datablocks(pid) == tars == datablocks_of_whole_bag(stack, pid)
        visitor.retrieved(pid)
        visitor.archived(visitor.ingest(write_noise(tmp_path / "newer data", 3, 5000, 22)))
    assert prefect.taken_slots() == {}

    began = datetime.now(UTC)
    older.compose("up", "--detach", "--no-build", "--no-deps", "archiver-service-api")
    refusal = "this version knows up to"
    wait_for("the older version refuses the ledger", lambda: refusal in older.said("archiver-service-api", began), 180)
    assert "Install the version of the service that made it" in older.said("archiver-service-api", began)
    assert older.health_of("archiver-service-api") != ["healthy"]

    # The way back that the documentation tells: the backup of the older version, and what it does not know of.
    older.down()
    older.up("postgres")
    older.wait_until_healthy("postgres")
    older.compose("run", "--rm", "postgres-restore", "ledger")
    older.up()
    assert older.sql("ledger", _REVISION).strip() == revision
    older.compose("exec", "-T", "reconciliation", "archiver", "lts", "rebuild-ledger")
    with _visit(older) as visitor:
        visitor.retrieved(pid)
