"""The audit as operators see it: the state it ends with, and its artifacts."""

import pytest
from prefect.client.orchestration import get_client

from archiver.workflow.flows.fixity import fixity_audit
from archiver.workflow.names import archive_id
from support.bags import tamper
from support.facility import Facility
from support.operators_channel import run_receiver

# Prefect leaves closing its connections to the garbage collector; ours are closed, as the use cases' tests show.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning"),
    # A plugin of apprise imports it where it still exists.
    pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning"),
]


def artifacts(key: str) -> list[object]:
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(artifact_filter=None)
    return [artifact.data for artifact in found if artifact.key == key]


def test_a_good_archive_completes_and_shows_the_arithmetic(registered: Facility) -> None:
    registered.archive(registered.ingest({"f": b"1"}))

    state = fixity_audit(return_state=True)

    assert state.is_completed(), state.message
    assert "1 datablocks read" in (state.message or "")
    assert "to read it once in 365 days" in str(artifacts("fixity-audit")[-1])


def test_damage_fails_the_run_is_shown_in_a_table_and_told_to_operators(
    registered: Facility, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = registered.ingest({"f": b"1"})
    registered.archive(pid)
    with run_receiver() as receiver:
        monkeypatch.setenv("NOTIFY_URLS", receiver.url)
        assert fixity_audit(return_state=True).is_completed()
        assert receiver.titles == []
        tamper(registered.lts_root / archive_id(pid, 0), b"\xff", 600)

        state = fixity_audit(recall=1, hours=1, terabytes=1, return_state=True)

    assert state.is_failed()
    assert "DAMAGE FOUND" in (state.message or "")
    assert archive_id(pid, 0) in str(artifacts("fixity-damage"))
    (told,) = receiver.got
    assert (told["title"], told["type"]) == ("Archiver: damage found at 1 datablocks", "failure")
    assert archive_id(pid, 0) in told["message"]


def test_a_share_that_is_not_mounted_fails_the_run(registered: Facility) -> None:
    (registered.lts_root / ".archiver-share-identity").rename(registered.lts_root.parent / "identity")

    state = fixity_audit(return_state=True)

    assert state.is_failed()
    assert "not mounted" in (state.message or "")
