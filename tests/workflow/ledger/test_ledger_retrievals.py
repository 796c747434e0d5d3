from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from archiver.workflow.errors import ClaimLostError, DatasetBusyError
from archiver.workflow.ledger.errors import NoRetrievalSpaceError
from archiver.workflow.ledger.ledger import Ledger
from archiver.workflow.ledger.records import RetrievalRecord, RetrievalState

TIMEOUT = timedelta(minutes=5)
DEAD = timedelta(0)
DAY = timedelta(days=1)
TAR = "openem-network/datasets/p/a/data/datablocks/p-a_0.tar"


def known(ledger: Ledger) -> RetrievalRecord:
    found = ledger.retrieval(TAR)
    assert found is not None
    return found


def test_a_claimed_copy_is_being_copied(ledger: Ledger) -> None:
    assert ledger.retrieval(TAR) is None
    claim = ledger.claim_retrieval(TAR, "run1", TIMEOUT)
    ledger.heartbeat_retrieval(claim)
    found = known(ledger)
    assert (found.state, found.holder, found.size, found.expires_at) == (
        RetrievalState.COPYING,
        "run1",
        None,
        None,
    )


def test_a_copy_is_made_by_one_run_at_a_time(ledger: Ledger, at_once: Callable[..., list[object]]) -> None:
    outcomes = at_once(8, [partial(ledger.claim_retrieval, TAR, f"run{n}", TIMEOUT) for n in range(8)])
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["DatasetBusyError"] * 7 + ["RetrievalClaim"]
    with pytest.raises(DatasetBusyError):
        ledger.claim_retrieval(TAR, "late", TIMEOUT)


def test_a_finished_copy_is_ready_with_its_size_and_checksum(ledger: Ledger) -> None:
    until = datetime.now(UTC) + DAY
    claim = ledger.claim_retrieval(TAR, "run1", TIMEOUT)
    ledger.record_retrieved(claim, 10**12, "ab" * 32, until)
    ledger.release_retrieval(claim)
    found = known(ledger)
    assert (found.state, found.size, found.sha256, found.expires_at, found.holder) == (
        RetrievalState.READY,
        10**12,
        "ab" * 32,
        until,
        None,
    )


def test_a_lost_claim_refuses_everything(ledger: Ledger) -> None:
    lost = ledger.claim_retrieval(TAR, "run1", TIMEOUT)
    ledger.claim_retrieval(TAR, "run2", DEAD)
    refused: list[Callable[[], object]] = [
        partial(ledger.heartbeat_retrieval, lost),
        partial(ledger.record_retrieved, lost, 1, "", datetime.now(UTC)),
        partial(ledger.forget_retrieval, TAR, lost),
    ]
    for call in refused:
        with pytest.raises(ClaimLostError, match="run1"):
            call()
    ledger.release_retrieval(lost)
    assert (known(ledger).holder, known(ledger).state) == ("run2", RetrievalState.COPYING)


def test_the_fence_grows_even_when_a_copy_was_forgotten(ledger: Ledger) -> None:
    fences = []
    for _ in range(3):
        fences.append(ledger.claim_retrieval(TAR, "run1", TIMEOUT).fence)
        fences.append(ledger.claim_retrieval(TAR, "run2", DEAD).fence)
        assert ledger.forget_retrieval(TAR)
    assert fences == sorted(set(fences))
    assert not ledger.forget_retrieval(TAR)


def test_a_copy_stays_ready_while_it_is_claimed_again(ledger: Ledger) -> None:
    first = ledger.claim_retrieval(TAR, "run1", TIMEOUT)
    ledger.record_retrieved(first, 5, "x", datetime.now(UTC) + DAY)
    ledger.claim_retrieval(TAR, "run2", DEAD)
    assert known(ledger).state is RetrievalState.READY


def test_extending_never_shortens(ledger: Ledger) -> None:
    start = datetime.now(UTC)
    claim = ledger.claim_retrieval(TAR, "run1", TIMEOUT)
    assert not ledger.extend_retrieval(TAR, start + DAY)
    ledger.record_retrieved(claim, 5, "x", start + 3 * DAY)
    assert ledger.extend_retrieval(TAR, start + 2 * DAY)
    assert known(ledger).expires_at == start + 3 * DAY
    assert ledger.extend_retrieval(TAR, start + 4 * DAY)
    ledger.record_retrieved(claim, 5, "x", start + DAY)
    assert known(ledger).expires_at == start + 4 * DAY


def test_expired_copies_are_listed_longest_expired_first(ledger: Ledger) -> None:
    start = datetime.now(UTC)
    for name, days in (("b", 2), ("a", 1), ("c", 3)):
        claim = ledger.claim_retrieval(name, "run", TIMEOUT)
        ledger.record_retrieved(claim, 5, "x", start + days * DAY)
    ledger.claim_retrieval("never-ready", "run", TIMEOUT)
    assert ledger.expired_retrievals(start) == []
    assert [copy.archive_id for copy in ledger.expired_retrievals(start + 2 * DAY, 3 * DAY)] == ["a", "b"]


def test_a_copy_that_was_begun_and_never_completed_expires_a_day_after_its_last_sign_of_life(ledger: Ledger) -> None:
    claim = ledger.claim_retrieval(TAR, "run1", TIMEOUT)
    now = datetime.now(UTC)

    assert ledger.expired_retrievals(now + DAY - TIMEOUT) == []
    assert [copy.archive_id for copy in ledger.expired_retrievals(now + DAY + TIMEOUT)] == [TAR]

    ledger.release_retrieval(claim)
    assert [copy.archive_id for copy in ledger.expired_retrievals(now + DAY + TIMEOUT)] == [TAR]
    assert ledger.begin_removal(ledger.claim_retrieval(TAR, "cleaner", TIMEOUT), now)


def test_an_expired_copy_is_forgotten_under_its_claim(ledger: Ledger) -> None:
    claim = ledger.claim_retrieval(TAR, "cleaner", TIMEOUT)
    assert ledger.forget_retrieval(TAR, claim)
    assert ledger.retrieval(TAR) is None


def test_a_copy_that_is_being_removed_can_no_longer_be_extended(ledger: Ledger) -> None:
    now = datetime.now(UTC)
    claim = ledger.claim_retrieval(TAR, "run1", TIMEOUT)
    ledger.record_retrieved(claim, 10, "ab" * 32, now)

    assert not ledger.begin_removal(claim, now - DAY)
    assert ledger.begin_removal(claim, now)

    assert not ledger.extend_retrieval(TAR, now + DAY)
    assert known(ledger).state is RetrievalState.COPYING


def test_a_copy_that_was_extended_is_not_removed(ledger: Ledger) -> None:
    now = datetime.now(UTC)
    claim = ledger.claim_retrieval(TAR, "run1", TIMEOUT)
    ledger.record_retrieved(claim, 10, "ab" * 32, now)
    assert ledger.extend_retrieval(TAR, now + DAY)

    assert not ledger.begin_removal(claim, now)
    assert known(ledger).state is RetrievalState.READY


def claim_with(ledger: Ledger, archive_id: str, reserve: int, capacity: int = 100) -> None:
    ledger.claim_retrieval(archive_id, f"run of {archive_id}", TIMEOUT, reserve=reserve, capacity=capacity)


def test_copies_and_reservations_together_stay_within_the_capacity(ledger: Ledger) -> None:
    ready = ledger.claim_retrieval("ready", "run", TIMEOUT, reserve=60, capacity=100)
    until = datetime.now(UTC) + DAY
    ledger.record_retrieved(ready, 50, "ab" * 32, until)
    ledger.release_retrieval(ready)
    claim_with(ledger, "one", 30)

    with pytest.raises(NoRetrievalSpaceError, match="has 20 of 100 bytes free") as refused:
        claim_with(ledger, "two", 21)

    assert (refused.value.free_bytes, refused.value.next_free) == (20, until)
    assert ledger.retrieval("two") is None
    claim_with(ledger, "two", 20)
    assert ledger.retrieval_bytes(TIMEOUT) == 100


def test_200_copies_asked_for_at_once_never_take_more_than_there_is(
    ledger: Ledger, at_once: Callable[..., list[object]]
) -> None:
    calls = [partial(claim_with, ledger, f"tar {number}", 7) for number in range(200)]
    outcomes = at_once(24, calls)

    granted = [outcome for outcome in outcomes if outcome is None]
    assert len(granted) == 100 // 7
    assert all(isinstance(outcome, NoRetrievalSpaceError) for outcome in outcomes if outcome is not None)
    assert ledger.retrieval_bytes(TIMEOUT) == 7 * (100 // 7)


def test_a_reservation_ends_with_its_claim(ledger: Ledger) -> None:
    claim = ledger.claim_retrieval(TAR, "run", TIMEOUT, reserve=100, capacity=100)
    ledger.release_retrieval(claim)

    assert ledger.retrieval_bytes(TIMEOUT) == 0
    claim_with(ledger, "next", 100)


def test_what_a_dead_run_reserved_counts_no_more(ledger: Ledger) -> None:
    claim_with(ledger, "dead", 100)

    assert ledger.retrieval_bytes(DEAD) == 0
    ledger.claim_retrieval("next", "run", DEAD, reserve=100, capacity=100)


def test_a_copy_that_is_made_anew_takes_its_place_once(ledger: Ledger) -> None:
    claim = ledger.claim_retrieval(TAR, "run", TIMEOUT, reserve=80, capacity=100)
    ledger.record_retrieved(claim, 80, "ab" * 32, datetime.now(UTC) + DAY)
    ledger.release_retrieval(claim)

    ledger.claim_retrieval(TAR, "run", TIMEOUT, reserve=80, capacity=100)

    assert ledger.retrieval_bytes(TIMEOUT) == 80
