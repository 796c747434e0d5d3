"""The databases are lost, and come back from the backup that the stack has made."""

from contextlib import suppress
from pathlib import Path

import pytest

from stack.archive import datablocks_of_whole_bag
from stack.commands import CommandFailedError
from stack.operated import OperatedStack
from stack.operators_view import PrefectView
from stack.payload import write_noise
from stack.visitor import Visitor
from stack.waiting import NotInTimeError, wait_for

pytestmark = [pytest.mark.timeout(7200), pytest.mark.long]

_DATABASES = ("ledger", "prefect")


def _known(stack: OperatedStack) -> set[str]:
    return set(stack.sql("ledger", "SELECT pid FROM datasets WHERE archived_at IS NOT NULL").split())


def test_databases_come_back_from_their_backup_and_what_was_archived_since_is_made_known_again(
    stack: OperatedStack, visitor: Visitor, prefect: PrefectView, tmp_path: Path
) -> None:
    before = visitor.ingest(write_noise(tmp_path / "before", 3, 5000, 11))
    visitor.archived(before)
    stack.compose("run", "--rm", "postgres-backup", "now")
    registered = prefect.registered()
    since = visitor.ingest(write_noise(tmp_path / "since", 3, 5000, 12))
    visitor.archived(since)
    assert _known(stack) >= {before, since}

    with pytest.raises(CommandFailedError, match="Stop the services that use it first"):
        stack.compose("run", "--rm", "postgres-restore", "ledger")
    stack.down()
    stack.up("postgres")
    stack.wait_until_healthy("postgres")
    for database in _DATABASES:
        stack.sql("postgres", f"DROP DATABASE {database}")
        stack.sql("postgres", f"CREATE DATABASE {database} OWNER {database}")
        stack.compose("run", "--rm", "postgres-restore", database)
    assert before in _known(stack)
    assert since not in _known(stack)
    stack.up()

    with suppress(NotInTimeError):  # the comparison below says what is different
        wait_for("everything is registered as before", lambda: prefect.registered() == registered, 300)
    assert prefect.registered() == registered
    stack.compose("exec", "-T", "reconciliation", "archiver", "lts", "rebuild-ledger")
    assert _known(stack) >= {before, since}
    for pid in (before, since):
        assert len(datablocks_of_whole_bag(stack, pid)) == 1
        visitor.retrieved(pid)
    again = visitor.ingest(write_noise(tmp_path / "after", 3, 5000, 13))
    visitor.archived(again)
    assert prefect.taken_slots() == {}
