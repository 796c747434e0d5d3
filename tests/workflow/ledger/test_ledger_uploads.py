from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from archiver.workflow.ledger.errors import (
    LargerThanLandingZoneError,
    NoLandingSpaceError,
    NoOpenUploadError,
    UploadFinalizedError,
    UploadOpenError,
)
from archiver.workflow.ledger.ledger import Ledger
from archiver.workflow.ledger.records import LandingUsage, UploadRecord, UploadState

Reserve = Callable[..., UploadRecord]


def test_a_reservation_is_found_as_it_was_made(ledger: Ledger, in_a_while: datetime) -> None:
    made = ledger.reserve_upload("20.500/a", "ana", "p1", 70, 80, 1000, in_a_while)
    assert made == ledger.find_upload("20.500/a")
    assert (made.state, made.holder, made.owner_group) == (UploadState.OPEN, "ana", "p1")
    assert (made.announced_bytes, made.reserved_bytes, made.landed_bytes, made.held_bytes) == (70, 80, 0, 0)
    assert made.expires_at == in_a_while
    assert made.created_at.tzinfo is UTC


def test_an_unknown_upload_is_not_found(ledger: Ledger) -> None:
    assert ledger.find_upload("20.500/none") is None


def test_the_last_byte_of_the_landing_zone_can_be_reserved_and_not_one_more(ledger: Ledger, reserve: Reserve) -> None:
    reserve("a", 600)
    reserve("b", 400)
    with pytest.raises(NoLandingSpaceError) as refused:
        reserve("c", 1)
    assert (refused.value.free_bytes, refused.value.requested_bytes) == (0, 1)
    assert ledger.find_upload("c") is None


def test_more_than_the_whole_landing_zone_is_the_users_error(reserve: Reserve) -> None:
    with pytest.raises(LargerThanLandingZoneError):
        reserve("a", 1001)


def test_what_lies_there_counts_when_it_is_more_than_was_reserved(ledger: Ledger, reserve: Reserve) -> None:
    reserve("a", 100)
    ledger.record_landed("a", 700)
    with pytest.raises(NoLandingSpaceError) as refused:
        reserve("b", 301)
    assert refused.value.free_bytes == 300
    reserve("b", 300)


def test_the_same_holder_asking_again_replaces_its_reservation(ledger: Ledger, reserve: Reserve) -> None:
    reserve("a", 900)
    again = reserve("a", 1000)
    assert again.reserved_bytes == 1000
    assert ledger.landing_usage() == LandingUsage(1000, 0, 1000, 1, 0)


def test_a_replaced_reservation_counts_what_already_landed(ledger: Ledger, reserve: Reserve) -> None:
    reserve("a", 500)
    ledger.record_landed("a", 500)
    reserve("b", 500)
    with pytest.raises(NoLandingSpaceError):
        reserve("a", 501)
    assert reserve("a", 10).landed_bytes == 500
    assert ledger.landing_usage().committed_bytes == 1000


def test_an_upload_open_for_somebody_else_is_refused(reserve: Reserve) -> None:
    reserve("a", holder="ana")
    with pytest.raises(UploadOpenError, match="ana"):
        reserve("a", holder="ben")


def test_a_finalized_upload_cannot_be_requested_again_until_it_is_emptied(ledger: Ledger, reserve: Reserve) -> None:
    reserve("a")
    ledger.finalize_upload("a", 100)
    with pytest.raises(UploadFinalizedError):
        reserve("a")
    assert ledger.landing_emptied("a")
    emptied = ledger.find_upload("a")
    assert emptied is not None
    assert emptied.state is UploadState.EMPTIED
    assert reserve("a").state is UploadState.OPEN


def test_two_hundred_concurrent_reservations_never_exceed_the_capacity(
    ledger: Ledger, reserve: Reserve, at_once: Callable[..., list[object]]
) -> None:
    outcomes = at_once(32, [partial(reserve, f"d/{number}", 7 + number % 5) for number in range(200)])
    granted = [outcome for outcome in outcomes if isinstance(outcome, UploadRecord)]
    refused = [outcome for outcome in outcomes if isinstance(outcome, NoLandingSpaceError)]
    assert len(granted) + len(refused) == 200
    total = sum(upload.reserved_bytes for upload in granted)
    assert total <= 1000
    assert total > 1000 - 11
    assert ledger.landing_usage() == LandingUsage(total, 0, total, len(granted), 0)


def test_of_many_concurrent_holders_of_one_data_set_one_wins(
    ledger: Ledger, reserve: Reserve, at_once: Callable[..., list[object]]
) -> None:
    outcomes = at_once(16, [partial(reserve, "a", 10, f"user{number}") for number in range(16)])
    assert sum(isinstance(outcome, UploadRecord) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, UploadOpenError) for outcome in outcomes) == 15
    assert ledger.landing_usage().open_uploads == 1


def test_a_finalized_upload_keeps_what_it_uses_until_it_is_emptied(ledger: Ledger, reserve: Reserve) -> None:
    reserve("a", 600)
    finalized = ledger.finalize_upload("a", 550)
    assert (finalized.state, finalized.landed_bytes) == (UploadState.FINALIZED, 550)
    assert ledger.landing_usage() == LandingUsage(550, 550, 550, 0, 1)
    with pytest.raises(NoLandingSpaceError):
        reserve("b", 451)
    reserve("b", 450)
    ledger.abort_upload("b")
    assert ledger.landing_emptied("a")
    assert not ledger.landing_emptied("a")
    assert ledger.landing_usage() == LandingUsage(0, 0, 0, 0, 0)


def test_finalizing_again_only_notes_the_landed_bytes(ledger: Ledger, reserve: Reserve) -> None:
    reserve("a")
    ledger.finalize_upload("a", 90)
    assert ledger.finalize_upload("a", 95).landed_bytes == 95


def test_finalizing_without_an_upload_is_refused(ledger: Ledger) -> None:
    with pytest.raises(NoOpenUploadError):
        ledger.finalize_upload("a", 1)


def test_an_aborted_upload_gives_its_space_back(ledger: Ledger, reserve: Reserve) -> None:
    reserve("a", 1000)
    ledger.hold_object("a", "k", 0, 10)
    aborted = ledger.abort_upload("a")
    assert aborted is not None
    assert aborted.state is UploadState.ABORTED
    assert ledger.abort_upload("a") is None
    assert reserve("b", 1000).state is UploadState.OPEN
    assert reserve("a", 0).held_bytes == 0
    assert ledger.held_objects("a") == []


def test_the_space_of_an_aborted_upload_counts_until_its_objects_are_gone(ledger: Ledger, reserve: Reserve) -> None:
    reserve("a", 1000)
    ledger.abort_upload("a", emptied=False)
    assert ledger.landing_usage() == LandingUsage(0, 1000, 1000, 0, 0, 1000)
    with pytest.raises(NoLandingSpaceError):
        reserve("b", 1)
    ledger.record_left_behind("a", 300)
    reserve("b", 700)
    assert reserve("a", 200).landed_bytes == 300
    ledger.record_left_behind("a", 500)  # that of the new upload: counted there
    assert ledger.landing_usage() == LandingUsage(900, 300, 1000, 2, 0)


def test_what_comes_after_the_end_of_an_upload_counts(ledger: Ledger, reserve: Reserve) -> None:
    before = datetime.now(UTC) - timedelta(minutes=1)
    reserve("a", 600)
    ledger.finalize_upload("a", 600)
    ledger.landing_emptied("a")
    reserve("b")
    assert [each.pid for each in ledger.closed_since(before)] == ["a"]
    assert ledger.closed_since(datetime.now(UTC) + timedelta(minutes=1)) == []
    ledger.record_left_behind("a", 950)
    with pytest.raises(NoLandingSpaceError):
        reserve("c", 51)


def test_a_finalized_upload_cannot_be_aborted(ledger: Ledger, reserve: Reserve) -> None:
    reserve("a")
    ledger.finalize_upload("a", 100)
    with pytest.raises(UploadFinalizedError):
        ledger.abort_upload("a")


def test_only_open_uploads_whose_time_is_over_expire(ledger: Ledger, reserve: Reserve) -> None:
    soon = datetime.now(UTC) + timedelta(hours=1)
    reserve("over", expires_at=soon)
    reserve("finalized", expires_at=soon)
    ledger.finalize_upload("finalized", 1)
    reserve("later")
    assert ledger.expire_uploads(datetime.now(UTC)) == []
    expired = ledger.expire_uploads(soon)
    assert [(upload.pid, upload.state) for upload in expired] == [("over", UploadState.EXPIRED)]
    assert [upload.pid for upload in ledger.uploads()] == ["finalized", "later"]
    assert [upload.pid for upload in ledger.uploads([UploadState.EXPIRED])] == ["over"]


def test_the_newest_closed_upload_is_found_when_none_is_open(ledger: Ledger, reserve: Reserve) -> None:
    reserve("a", 10)
    ledger.abort_upload("a")
    reserve("a", 20)
    ledger.abort_upload("a")
    newest = ledger.find_upload("a")
    assert newest is not None
    assert newest.reserved_bytes == 20


def test_data_unknown_to_the_ledger_is_adopted_beyond_the_capacity(
    ledger: Ledger, reserve: Reserve, in_a_while: datetime
) -> None:
    reserve("a", 900)
    adopted = ledger.adopt_upload("b", "rebuilt", "p2", 500, in_a_while)
    assert adopted is not None
    assert (adopted.reserved_bytes, adopted.landed_bytes) == (500, 500)
    assert ledger.adopt_upload("b", "rebuilt", "p2", 500, in_a_while) is None
    assert ledger.landing_usage().committed_bytes == 1400


def test_a_time_without_zone_is_refused(ledger: Ledger) -> None:
    with pytest.raises(Exception, match="must have a zone"):
        ledger.expire_uploads(datetime(2030, 1, 1))  # noqa: DTZ001  # that is what is refused


def test_negative_sizes_are_refused(reserve: Reserve) -> None:
    with pytest.raises(ValueError, match="negative"):
        reserve("a", -1)


def test_what_an_expired_upload_left_counts_until_it_is_gone(
    ledger: Ledger, reserve: Callable[..., UploadRecord]
) -> None:
    reserve("20.500/a", 900, expires_at=datetime.now(UTC) - timedelta(hours=1))
    ledger.expire_uploads(datetime.now(UTC))
    ledger.record_left_behind("20.500/a", 700)

    usage = ledger.landing_usage()
    assert (usage.reserved_bytes, usage.committed_bytes, usage.left_behind_bytes) == (0, 700, 700)
    assert [upload.pid for upload in ledger.left_behind()] == ["20.500/a"]
    with pytest.raises(NoLandingSpaceError, match="has 300 bytes free"):
        reserve("20.500/b", 301)

    ledger.record_left_behind("20.500/a", 0)
    assert ledger.landing_usage().committed_bytes == 0
    reserve("20.500/b", 1000)


def test_a_new_upload_takes_over_what_the_expired_one_left(
    ledger: Ledger, reserve: Callable[..., UploadRecord]
) -> None:
    reserve("20.500/a", 900, expires_at=datetime.now(UTC) - timedelta(hours=1))
    ledger.expire_uploads(datetime.now(UTC))
    ledger.record_left_behind("20.500/a", 700)

    assert reserve("20.500/a", 800).landed_bytes == 700

    usage = ledger.landing_usage()
    assert (usage.committed_bytes, usage.landed_bytes, usage.left_behind_bytes) == (800, 700, 0)


def test_activity_moves_the_expiry_on(ledger: Ledger, reserve: Callable[..., UploadRecord]) -> None:
    before = reserve("20.500/a")
    ledger.touch_upload("20.500/a")
    after = ledger.find_upload("20.500/a")
    assert after is not None
    assert after.expires_at > before.expires_at
    assert after.touched_at > before.touched_at
