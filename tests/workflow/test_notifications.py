"""The operators' channel, with a real HTTP receiver at its other end."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from archiver.config.settings import NotificationSettings, ReconciliationSettings
from archiver.workflow.catalogue.client import Catalogue
from archiver.workflow.job_queue import JobQueue
from archiver.workflow.ledger.ledger import Ledger
from archiver.workflow.notifications import Nobody, Weight, open_channel
from archiver.workflow.reconciliation import Reconciliation
from archiver.workflow.storage.object_store import ObjectStore
from support.operators_channel import Receiver, run_receiver

# A plugin of apprise imports it where it still exists.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with run_receiver() as running:
        yield running


def test_a_message_arrives_as_it_was_sent(receiver: Receiver) -> None:
    assert open_channel(receiver.settings).send("Archiver: job 1 failed", "p/a: disk <full> & more", Weight.FAILURE)

    (got,) = receiver.got
    assert (got["title"], got["message"], got["type"]) == (
        "Archiver: job 1 failed",
        "p/a: disk <full> & more",
        "failure",
    )


def test_a_receiver_that_fails_is_told_in_the_log_without_its_password(receiver: Receiver) -> None:
    receiver.status = 500
    with capture_logs() as lines:
        assert not open_channel(receiver.settings).send("t", "b", Weight.FAILURE)

    assert [line["event"] for line in lines] == ["notification_failed"]
    assert "secret" not in str(lines)


def test_nobody_is_told_where_nothing_is_set() -> None:
    channel = open_channel(NotificationSettings(notify_urls=SecretStr("")))

    assert isinstance(channel, Nobody)
    assert channel.send("t", "b", Weight.FAILURE)


def test_an_address_that_is_none_is_told_without_being_shown() -> None:
    with capture_logs() as lines:
        channel = open_channel(NotificationSettings(notify_urls=SecretStr("nonsense://secret")))

    assert isinstance(channel, Nobody)
    assert lines[0]["event"] == "notifications_off"
    assert "Address 1 of NOTIFY_URLS" in lines[0]["error"]
    assert "secret" not in str(lines)


def ready_copy(ledger: Ledger, name: str, expires_at: datetime) -> str:
    archive_id = f"openem-network/datasets/p/{name}/data/datablocks/x_0.tar"
    claim = ledger.claim_retrieval(archive_id, "run", timedelta(minutes=1))
    ledger.record_retrieved(claim, 10, "ab" * 32, expires_at)
    ledger.release_retrieval(claim)
    return archive_id


def test_operators_are_told_once_that_links_expire_soon_and_again_after_an_extension(
    ledger: Ledger, receiver: Receiver
) -> None:
    now = datetime.now(UTC)
    soon = ready_copy(ledger, "soon", now + timedelta(hours=5))
    ready_copy(ledger, "later", now + timedelta(days=5))
    nothing = cast("Any", None)  # of what this part does not use
    reconciliation = Reconciliation(
        cast("Catalogue", nothing),
        cast("JobQueue", nothing),
        ledger,
        cast("ObjectStore", nothing),
        "retrieval",
        "landing",
        ReconciliationSettings(),
        channel=open_channel(receiver.settings),
        warn_before=timedelta(hours=24),
    )

    def look() -> None:
        for _, work in reconciliation._expiring_links():
            work()

    receiver.status = 500
    look()
    receiver.status = 200
    look()
    look()
    assert [each["title"] for each in receiver.got] == ["Archiver: links to 1 datablocks expire soon"] * 2
    assert soon in receiver.got[-1]["message"]
    assert "later" not in receiver.got[-1]["message"]

    ledger.extend_retrieval(soon, now + timedelta(hours=10))
    look()
    look()
    assert len(receiver.got) == 3
