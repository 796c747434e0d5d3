from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from archiver.workflow.errors import ClaimLostError, DatasetBusyError
from archiver.workflow.ledger.ledger import Ledger
from archiver.workflow.ledger.records import Claim, DatablockRecord, DatasetRecord, Stage

AtOnce = Callable[..., list[object]]
TIMEOUT = timedelta(minutes=5)
DEAD = timedelta(0)
"""Timeout after which every holder counts as dead."""


def datablock(index: int = 0, pid: str = "p/a") -> DatablockRecord:
    return DatablockRecord(
        archive_id=f"openem-network/datasets/{pid}/data/datablocks/x_{index}.tar",
        pid=pid,
        index=index,
        size=10**13,
        packed_size=10**13 + 512,
        files=3,
        sha256="ab" * 32,
        proof="",
        verified_at=None,
    )


def known(ledger: Ledger, pid: str = "p/a") -> DatasetRecord:
    found = ledger.dataset(pid)
    assert found is not None
    return found


def test_a_first_claim_makes_the_data_set_known(ledger: Ledger) -> None:
    assert ledger.dataset("p/a") is None
    assert ledger.claim_dataset("p/a", "run1", TIMEOUT) == Claim("p/a", 1, "run1")
    found = known(ledger)
    assert (found.stage, found.fence, found.holder, found.message) == (Stage.CLAIMED, 1, "run1", "")
    assert found.archived_at is None
    assert found.heartbeat_at is not None


def test_a_living_holder_keeps_others_out(ledger: Ledger) -> None:
    ledger.claim_dataset("p/a", "run1", TIMEOUT)
    with pytest.raises(DatasetBusyError, match="run1"):
        ledger.claim_dataset("p/a", "run2", TIMEOUT)
    assert known(ledger).fence == 1


def test_every_claim_raises_the_fence_by_one(ledger: Ledger) -> None:
    fences = [ledger.claim_dataset("p/a", f"run{number}", DEAD).fence for number in range(5)]
    last = ledger.claim_dataset("p/a", "run4", TIMEOUT)
    ledger.release_claim(last)
    after = ledger.claim_dataset("p/a", "run9", TIMEOUT)
    assert [*fences, last.fence, after.fence] == [1, 2, 3, 4, 5, 6, 7]


def test_of_two_claimants_one_wins(ledger: Ledger, at_once: AtOnce) -> None:
    for number in range(20):
        outcomes = at_once(2, [partial(ledger.claim_dataset, f"p/{number}", holder, TIMEOUT) for holder in ("x", "y")])
        assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Claim", "DatasetBusyError"]


def test_concurrent_takeovers_of_a_dead_run_all_get_different_fences(ledger: Ledger, at_once: AtOnce) -> None:
    ledger.claim_dataset("p/a", "dead", TIMEOUT)
    claims = at_once(8, [partial(ledger.claim_dataset, "p/a", f"run{n}", DEAD) for n in range(16)])
    fences = sorted(claim.fence for claim in claims if isinstance(claim, Claim))
    assert fences == list(range(2, 18))


def test_a_lost_claim_refuses_everything_and_notes_nothing(ledger: Ledger) -> None:
    lost = ledger.claim_dataset("p/a", "run1", TIMEOUT)
    ledger.record_stage(lost, Stage.PLANNED, files=3)
    ledger.claim_dataset("p/a", "run2", DEAD)
    before = known(ledger)
    refused: list[Callable[[], object]] = [
        partial(ledger.heartbeat, lost),
        partial(ledger.check_claim, lost),
        partial(ledger.record_stage, lost, Stage.WRITTEN, files=9),
        partial(ledger.record_datablock, lost, datablock()),
        partial(ledger.adopt_dataset, lost, Stage.PUBLISHED, [datablock()], 1, 1),
    ]
    for call in refused:
        with pytest.raises(ClaimLostError, match="run1"):
            call()
    ledger.release_claim(lost)
    assert known(ledger) == before
    assert ledger.datablocks("p/a") == []


def test_a_released_claim_is_lost(ledger: Ledger) -> None:
    claim = ledger.claim_dataset("p/a", "run1", TIMEOUT)
    ledger.check_claim(claim)
    ledger.release_claim(claim)
    assert known(ledger).holder is None
    with pytest.raises(ClaimLostError):
        ledger.record_stage(claim, Stage.WRITTEN)


def test_a_claim_of_another_data_set_does_not_hold(ledger: Ledger) -> None:
    with pytest.raises(ClaimLostError):
        ledger.check_claim(Claim("p/none", 1, "run1"))


def test_a_heartbeat_keeps_the_claim_from_being_taken(ledger: Ledger) -> None:
    claim = ledger.claim_dataset("p/a", "run1", TIMEOUT)
    before = known(ledger).heartbeat_at
    ledger.heartbeat(claim)
    after = known(ledger).heartbeat_at
    assert before is not None
    assert after is not None
    assert after > before


def test_a_new_claim_keeps_the_stage_that_was_reached(ledger: Ledger) -> None:
    claim = ledger.claim_dataset("p/a", "run1", TIMEOUT)
    ledger.record_stage(claim, Stage.WRITTEN, files=3, payload_bytes=70)
    ledger.claim_dataset("p/a", "run2", DEAD)
    found = known(ledger)
    assert (found.stage, found.files, found.payload_bytes) == (Stage.WRITTEN, 3, 70)


def test_numbers_left_out_stay_and_a_message_goes_with_the_next_stage(ledger: Ledger) -> None:
    claim = ledger.claim_dataset("p/a", "run1", TIMEOUT)
    ledger.record_stage(claim, Stage.PLANNED, files=3, payload_bytes=70)
    ledger.record_stage(claim, Stage.FAILED, message="3 files are missing")
    failed = known(ledger)
    assert (failed.stage, failed.message, failed.files) == (Stage.FAILED, "3 files are missing", 3)
    ledger.record_stage(claim, Stage.WRITTEN, payload_bytes=71)
    found = known(ledger)
    assert (found.message, found.files, found.payload_bytes) == ("", 3, 71)


def test_the_time_of_archiving_is_that_of_publishing_and_survives_a_failure(ledger: Ledger) -> None:
    claim = ledger.claim_dataset("p/a", "run1", TIMEOUT)
    ledger.record_stage(claim, Stage.VERIFIED)
    assert known(ledger).archived_at is None
    ledger.record_stage(claim, Stage.PUBLISHED)
    published = known(ledger).archived_at
    assert published is not None
    ledger.record_stage(claim, Stage.FAILED, message="catalogue down")
    ledger.record_stage(claim, Stage.REGISTERED)
    ledger.record_stage(claim, Stage.EMPTIED)
    assert known(ledger).archived_at == published


def test_datablocks_are_kept_as_recorded_and_replaced_by_archive_id(ledger: Ledger) -> None:
    claim = ledger.claim_dataset("p/a", "run1", TIMEOUT)
    ledger.record_datablock(claim, datablock(1))
    ledger.record_datablock(claim, datablock(0))
    verified = replace(datablock(0), proof="server", verified_at=datetime.now(UTC))
    ledger.record_datablock(claim, verified)
    assert ledger.datablocks("p/a") == [verified, datablock(1)]


def test_a_datablock_of_another_data_set_is_refused(ledger: Ledger) -> None:
    claim = ledger.claim_dataset("p/a", "run1", TIMEOUT)
    with pytest.raises(ValueError, match="p/b"):
        ledger.record_datablock(claim, datablock(pid="p/b"))


def test_a_takeover_during_recording_never_mixes_two_runs(ledger: Ledger, at_once: AtOnce) -> None:
    first = ledger.claim_dataset("p/a", "run1", TIMEOUT)
    writes = [partial(ledger.record_datablock, first, datablock(index)) for index in range(40)]
    second: list[Claim] = []

    def take_over_and_adopt() -> None:
        second.append(ledger.claim_dataset("p/a", "run2", DEAD))
        ledger.adopt_dataset(second[0], Stage.PUBLISHED, [datablock(99)], 3, 70)

    outcomes = at_once(8, [*writes[:20], take_over_and_adopt, *writes[20:]])
    assert outcomes[20] is None
    assert {type(outcome) for outcome in outcomes} <= {type(None), ClaimLostError}
    assert ledger.datablocks("p/a") == [datablock(99)]


def test_adopting_notes_exactly_the_datablocks_found(ledger: Ledger) -> None:
    claim = ledger.claim_dataset("p/a", "run1", TIMEOUT)
    ledger.record_datablock(claim, datablock(0))
    ledger.record_datablock(claim, datablock(7))
    ledger.adopt_dataset(claim, Stage.PUBLISHED, [datablock(0), datablock(1)], files=6, payload_bytes=70)
    assert ledger.datablocks("p/a") == [datablock(0), datablock(1)]
    found = known(ledger)
    assert (found.stage, found.files, found.payload_bytes) == (Stage.PUBLISHED, 6, 70)
    assert found.archived_at is not None


def test_a_forgotten_data_set_is_unknown_and_its_run_has_lost_it(ledger: Ledger) -> None:
    claim = ledger.claim_dataset("p/a", "run1", TIMEOUT)
    ledger.record_datablock(claim, datablock())
    assert ledger.forget_dataset("p/a")
    assert ledger.dataset("p/a") is None
    assert ledger.datablocks("p/a") == []
    assert not ledger.forget_dataset("p/a")
    with pytest.raises(ClaimLostError):
        ledger.record_datablock(claim, datablock())


def test_data_sets_are_listed_by_stage(ledger: Ledger) -> None:
    for pid, stage in (("p/c", Stage.EMPTIED), ("p/a", Stage.PLANNED), ("p/b", Stage.EMPTIED)):
        ledger.record_stage(ledger.claim_dataset(pid, "run", TIMEOUT), stage)
    assert [found.pid for found in ledger.datasets()] == ["p/a", "p/b", "p/c"]
    assert [found.pid for found in ledger.datasets(Stage.EMPTIED)] == ["p/b", "p/c"]
    assert ledger.datasets(Stage.FAILED) == []
