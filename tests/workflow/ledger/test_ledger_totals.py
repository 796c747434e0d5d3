"""Sums over the ledger, as operators and Prometheus see them."""

import uuid
from datetime import UTC, datetime, timedelta

from archiver.workflow.ledger.facts import LTS_IDENTITY
from archiver.workflow.ledger.ledger import Ledger
from archiver.workflow.ledger.records import (
    ArchiveTotals,
    CopyTotals,
    DatablockRecord,
    Stage,
)

TIMEOUT = timedelta(minutes=5)


def datablock(pid: str, index: int) -> DatablockRecord:
    return DatablockRecord(
        archive_id=f"openem-network/datasets/{pid}/data/datablocks/x_{index}.tar",
        pid=pid,
        index=index,
        size=1000,
        packed_size=1512,
        files=3,
        sha256="ab" * 32,
        proof="read",
        verified_at=None,
    )


def archive(ledger: Ledger, pid: str, datablocks: int = 2, stage: Stage = Stage.EMPTIED) -> list[str]:
    """A data set that came as far as `stage`; its archive ids."""
    claim = ledger.claim_dataset(pid, "run", TIMEOUT)
    ledger.record_stage(claim, Stage.PLANNED, files=3 * datablocks, payload_bytes=1000 * datablocks)
    blocks = [datablock(pid, index) for index in range(datablocks)]
    for block in blocks:
        ledger.record_datablock(claim, block)
    ledger.record_stage(claim, stage, message="disk full" if stage is Stage.FAILED else "")
    ledger.release_claim(claim)
    return [block.archive_id for block in blocks]


def test_an_empty_ledger_has_nothing_and_says_so(ledger: Ledger) -> None:
    assert ledger.archive_totals() == ArchiveTotals(0, 0, 0, 0, 0)
    assert ledger.copy_totals() == CopyTotals(0, 0, None)
    assert (ledger.stage_counts(), ledger.counters(), ledger.share_space()) == ([], [], None)


def test_only_archived_data_sets_count_as_archived(ledger: Ledger) -> None:
    archive(ledger, "p/a", 2)
    archive(ledger, "p/b", 1, Stage.FAILED)

    assert ledger.archive_totals() == ArchiveTotals(1, 6, 2000, 2, 3024)


def test_data_sets_are_counted_by_stage_with_the_age_of_the_oldest(ledger: Ledger) -> None:
    archive(ledger, "p/a", stage=Stage.FAILED)
    first = ledger.dataset("p/a")
    archive(ledger, "p/b", stage=Stage.FAILED)
    ledger.claim_dataset("p/c", "run", TIMEOUT)

    found = {each.stage: each for each in ledger.stage_counts()}
    assert {stage: (each.count, each.held) for stage, each in found.items()} == {
        Stage.FAILED: (2, 0),
        Stage.CLAIMED: (1, 1),
    }
    assert first is not None
    assert found[Stage.FAILED].oldest <= first.updated_at + timedelta(seconds=1)


def test_what_is_unfinished_is_listed_newest_first(ledger: Ledger) -> None:
    archive(ledger, "p/a", stage=Stage.FAILED)
    archive(ledger, "p/done")
    archive(ledger, "p/b", stage=Stage.FAILED)

    assert [each.pid for each in ledger.unfinished_datasets(10)] == ["p/b", "p/a"]
    assert [each.pid for each in ledger.unfinished_datasets(1)] == ["p/b"]


def test_each_stage_and_its_time_is_counted(ledger: Ledger) -> None:
    archive(ledger, "p/a")
    archive(ledger, "p/b", stage=Stage.FAILED)

    found = {(each.name, each.label): each for each in ledger.counters()}
    assert {label: each.count for (name, label), each in found.items() if name == "stage_seconds"} == {
        "planned": 2,
        "emptied": 1,
        "failed": 1,
    }
    assert all(0 <= each.total < 60 for each in found.values())


def test_what_was_retrieved_is_counted_also_when_the_copy_is_long_gone(ledger: Ledger) -> None:
    (block,) = archive(ledger, "p/a", 1)
    expires = datetime.now(UTC) + timedelta(days=7)
    for _ in range(2):
        claim = ledger.claim_retrieval(block, "run", TIMEOUT)
        ledger.record_retrieved(claim, 1512, "ab" * 32, expires)
        assert ledger.copy_totals() == CopyTotals(1, 1512, expires)
        ledger.forget_retrieval(block, claim)

    found = {each.name: each.total for each in ledger.counters() if each.name.startswith("retrieved")}
    assert found == {"retrieved_bytes": 3024, "retrieved_files": 6}
    assert ledger.copy_totals() == CopyTotals(0, 0, None)


def test_errors_are_counted_by_kind(ledger: Ledger) -> None:
    for code in ("no-space", "missing-files", "no-space"):
        ledger.count_error(code)

    assert {each.label: each.count for each in ledger.counters() if each.name == "errors"} == {
        "missing-files": 1,
        "no-space": 2,
    }


def test_tasks_of_the_reconciliation_that_are_stuck_are_counted_apart_from_errors_of_data_sets(ledger: Ledger) -> None:
    ledger.count_error("catalogue-refused")
    for _ in range(2):
        ledger.count_stuck_task("catalogue-refused")

    counted = {each.name: each.count for each in ledger.counters() if each.label == "catalogue-refused"}
    assert counted == {"errors": 1, "stuck_tasks": 2}


def test_room_is_known_of_the_archives_own_share_only(ledger: Ledger) -> None:
    ours, other = uuid.uuid4(), uuid.uuid4()
    ledger.record_share_space(ours, 1, 2)
    assert ledger.share_space() is None  # not ours yet
    ledger.remember(LTS_IDENTITY, str(ours))
    ledger.record_share_space(other, 3, 4)
    ledger.record_share_space(ours, 50 * 10**12, 100 * 10**12)
    ledger.record_share_space(ours, 40 * 10**12, 100 * 10**12)

    found = ledger.share_space()
    assert found is not None
    assert (found.share, found.free_bytes, found.total_bytes) == (str(ours), 40 * 10**12, 100 * 10**12)
