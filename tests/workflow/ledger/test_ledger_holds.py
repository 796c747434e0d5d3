from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from archiver.workflow.ledger.errors import LedgerError, NoOpenUploadError, OverReservationError
from archiver.workflow.ledger.holds import WHOLE_OBJECT
from archiver.workflow.ledger.ledger import Ledger
from archiver.workflow.ledger.records import UploadRecord

Reserve = Callable[..., UploadRecord]
AtOnce = Callable[..., list[object]]


def held(ledger: Ledger, pid: str = "a") -> int:
    upload = ledger.find_upload(pid)
    assert upload is not None
    assert upload.held_bytes == sum(size for _, _, size in ledger.held_objects(pid))
    return upload.held_bytes


def test_objects_and_parts_are_granted_up_to_the_reservation(ledger: Ledger, reserve: Reserve) -> None:
    reserve("a", 100)
    ledger.hold_object("a", "k1", WHOLE_OBJECT, 40)
    ledger.hold_object("a", "k2", 1, 30)
    ledger.hold_object("a", "k2", 2, 30)
    with pytest.raises(OverReservationError, match="100 bytes are reserved"):
        ledger.hold_object("a", "k3", WHOLE_OBJECT, 1)
    ledger.hold_object("a", "empty", WHOLE_OBJECT, 0)
    assert ledger.held_objects("a") == [("empty", 0, 0), ("k1", 0, 40), ("k2", 1, 30), ("k2", 2, 30)]
    assert held(ledger) == 100


def test_an_object_put_again_counts_once(ledger: Ledger, reserve: Reserve) -> None:
    reserve("a", 100)
    for size in (60, 100, 100, 20):
        ledger.hold_object("a", "k", 0, size)
        assert held(ledger) == size


def test_a_refused_object_leaves_what_was_granted_before(ledger: Ledger, reserve: Reserve) -> None:
    reserve("a", 100)
    ledger.hold_object("a", "k", 0, 60)
    with pytest.raises(OverReservationError):
        ledger.hold_object("a", "k", 0, 101)
    assert ledger.held_objects("a") == [("k", 0, 60)]
    assert held(ledger) == 60


def test_a_released_part_gives_its_space_back(ledger: Ledger, reserve: Reserve) -> None:
    reserve("a", 100)
    for part in (1, 2, 3):
        ledger.hold_object("a", "k", part, 30)
    ledger.release_object("a", "k", 2)
    assert held(ledger) == 60
    ledger.release_object("a", "k")
    assert held(ledger) == 0
    ledger.release_object("a", "k")
    ledger.release_object("none", "k", 1)
    assert held(ledger) == 0


def test_without_an_open_upload_nothing_is_granted(ledger: Ledger, reserve: Reserve) -> None:
    with pytest.raises(NoOpenUploadError):
        ledger.hold_object("a", "k", 0, 1)
    reserve("a", 100)
    ledger.hold_object("a", "k", 0, 1)
    ledger.finalize_upload("a", 1)
    with pytest.raises(NoOpenUploadError):
        ledger.hold_object("a", "k", 0, 1)


def test_a_smaller_reservation_still_lets_known_objects_be_put_again(ledger: Ledger, reserve: Reserve) -> None:
    reserve("a", 100)
    ledger.hold_object("a", "k1", 0, 60)
    ledger.hold_object("a", "k2", 0, 30)
    reserve("a", 50)
    ledger.hold_object("a", "k1", 0, 60)
    with pytest.raises(OverReservationError):
        ledger.hold_object("a", "k3", 0, 1)
    assert ledger.landing_usage().committed_bytes == 90


def test_each_object_moves_the_expiry_on_by_the_idle_time(ledger: Ledger, reserve: Reserve) -> None:
    idle = timedelta(days=2)
    before = reserve("a", 100, expires_at=datetime.now(UTC) + idle)
    ledger.hold_object("a", "k", 0, 1)
    after = ledger.find_upload("a")
    assert after is not None
    assert after.expires_at > before.expires_at
    assert after.touched_at > before.touched_at
    assert abs(after.expires_at - after.touched_at - idle) < timedelta(seconds=5)


def test_sixteen_threads_never_pass_the_reservation(ledger: Ledger, reserve: Reserve, at_once: AtOnce) -> None:
    reserve("a", 1000)
    calls = [
        partial(ledger.hold_object, "a", f"k{number % 97}", number % 3, 5 + number % 97 % 17) for number in range(480)
    ]
    outcomes = at_once(16, calls)
    assert {type(outcome) for outcome in outcomes} == {type(None), OverReservationError}
    assert held(ledger) <= 1000
    assert held(ledger) > 1000 - 21


def test_one_object_put_from_many_threads_counts_once(ledger: Ledger, reserve: Reserve, at_once: AtOnce) -> None:
    reserve("a", 1000)
    outcomes = at_once(16, [partial(ledger.hold_object, "a", "k", 0, 100 + number) for number in range(160)])
    assert outcomes == [None] * 160
    assert 100 <= held(ledger) < 260


def test_grants_releases_and_new_reservations_at_once_keep_the_sum_right(
    ledger: Ledger, reserve: Reserve, at_once: AtOnce
) -> None:
    reserve("a", 1000)
    calls: list[Callable[[], object]] = []
    for number in range(240):
        key = f"k{number % 7}"
        calls.append(partial(ledger.hold_object, "a", key, number % 3, 1 + number % 40))
        if number % 3 == 0:
            calls.append(partial(ledger.release_object, "a", key, None if number % 2 else number % 3))
        if number % 40 == 0:
            calls.append(partial(reserve, "a", 1000))
    outcomes = at_once(16, calls)
    assert not [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    held(ledger)


@pytest.mark.parametrize("end", ["finalize", "abort", "expire"])
def test_an_upload_can_end_while_objects_are_being_granted(
    ledger: Ledger, reserve: Reserve, at_once: AtOnce, end: str, in_a_while: datetime
) -> None:
    ends: dict[str, Callable[[], object]] = {
        "finalize": lambda: ledger.finalize_upload("a", 100),
        "abort": lambda: ledger.abort_upload("a"),
        "expire": lambda: ledger.expire_uploads(in_a_while + timedelta(days=1)),
    }
    reserve("a", 1000)
    calls = [partial(ledger.hold_object, "a", f"k{number % 20}", 0, number % 40) for number in range(200)]
    outcomes = at_once(16, [*calls[:100], ends[end], *calls[100:]])
    assert not [outcome for outcome in outcomes if isinstance(outcome, LedgerError)]
    assert {type(outcome) for outcome in calls_only(outcomes)} <= {type(None), NoOpenUploadError}
    upload = ledger.find_upload("a")
    assert upload is not None
    assert upload.held_bytes == 0


def calls_only(outcomes: list[object]) -> list[object]:
    return [*outcomes[:100], *outcomes[101:]]


def test_multipart_uploads_are_remembered_until_they_are_closed(ledger: Ledger, reserve: Reserve) -> None:
    reserve("a")
    ledger.open_multipart("a", "k1", "u1")
    ledger.open_multipart("a", "k1", "u2")
    ledger.open_multipart("a", "k2", "u3")
    ledger.open_multipart("a", "k2", "u3")
    ledger.open_multipart("b", "k2", "u4")
    ledger.abort_upload("a")
    ledger.close_multipart("a", "k1", "u1")
    ledger.close_multipart("a", "k1", "u1")
    assert ledger.multiparts("a") == [("k1", "u2"), ("k2", "u3")]


def test_negative_sizes_and_parts_are_refused(ledger: Ledger, reserve: Reserve) -> None:
    reserve("a")
    for part, size in ((0, -1), (-1, 1)):
        with pytest.raises(ValueError, match="negative"):
            ledger.hold_object("a", "k", part, size)
