"""Space in the retrieval bucket: counted in the ledger, waited for with a reason, never exceeded."""

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from archiver.config.settings import TERABYTE
from archiver.workflow.errors import NoSpaceError, PermanentError
from archiver.workflow.monitor import Monitor
from archiver.workflow.retrieval import Retrieval
from support.facility import Facility, SpaceNotes


def with_space(facility: Facility, capacity: int, wait_s: float = 0.01) -> Facility:
    """The facility with so many bytes for retrieved data."""
    settings = facility.tools.store_settings.model_copy(
        update={"s3_total_retrieval_space_tb": capacity / TERABYTE, "retrieval_space_timeout_s": wait_s}
    )
    return replace(facility, tools=replace(facility.tools, store_settings=settings))


def archived(facility: Facility, size: int = 100_000) -> tuple[str, int]:
    """A data set, and the length of its tars."""
    pid = facility.ingest({"f": bytes(size)})
    return pid, sum(totals.packed_size for totals in facility.archive(pid).datablocks)


def test_what_is_larger_than_all_the_space_is_refused_at_once_with_what_to_do(facility: Facility) -> None:
    pid, packed = archived(facility)

    with pytest.raises(PermanentError, match=r"S3_TOTAL_RETRIEVAL_SPACE_TB.*fewer files"):
        with_space(facility, packed - 1, wait_s=3600).retrieve(pid)

    assert with_space(facility, packed).retrieve(pid).tars


def test_a_full_bucket_is_told_after_the_deadline_and_nothing_is_copied(facility: Facility) -> None:
    first, packed = archived(facility)
    second, _ = archived(facility)
    small = with_space(facility, packed + 5)
    small.retrieve(first)
    notes = SpaceNotes(second)

    with pytest.raises(NoSpaceError, match=r"has 5 of \d+ bytes free.*next copy expires at"):
        Retrieval(small.tools, notes).retrieve(second, "run")

    assert any(note.startswith("waiting for space: The retrieval bucket has 5 of") for note in notes.told)
    assert facility.tools.ledger.retrieval_bytes(timedelta(minutes=2)) == packed


def test_a_run_goes_on_when_space_comes_free(facility: Facility) -> None:
    first, packed = archived(facility)
    second, _ = archived(facility)
    small = with_space(facility, packed, wait_s=120)
    (copy,) = small.retrieve(first).tars
    notes = SpaceNotes(second)
    ended: list[str] = []
    run = threading.Thread(target=lambda: ended.append(Retrieval(small.tools, notes).retrieve(second, "run").message))
    run.start()
    assert notes.waits.wait(60)

    facility.tools.ledger.forget_retrieval(copy.archive_id)
    run.join(120)

    assert ended
    assert facility.tools.ledger.retrieval_bytes(timedelta(minutes=2)) == packed


def test_a_copy_that_is_there_needs_no_space(facility: Facility) -> None:
    pid, packed = archived(facility)
    small = with_space(facility, packed)
    small.retrieve(pid)

    assert small.retrieve(pid, "another job").tars[0].shared


def test_the_first_datablock_reserves_for_all_of_the_data_set(facility: Facility) -> None:
    """Else two data sets that are half there could wait for each other's space."""
    facility = facility.with_settings(archiver_target_size_gb=100_000 / 1000**3)
    pid = facility.ingest({"f": bytes(100_000), "g": bytes(100_000)})
    packed = sum(totals.packed_size for totals in facility.archive(pid).datablocks)
    small = with_space(facility, packed)
    ledger = small.tools.ledger
    seen = []

    class Watching(Monitor):
        def advance(self, count: int) -> None:
            seen.append(ledger.retrieval_bytes(timedelta(minutes=2)))

    Retrieval(small.tools, Watching(pid)).retrieve(pid, "run")

    assert seen
    assert set(seen) == {packed}


def test_space_of_an_expired_copy_counts_until_it_is_removed(facility: Facility) -> None:
    pid, packed = archived(facility)
    (copy,) = facility.retrieve(pid).tars
    ledger = facility.tools.ledger
    late = datetime.now(UTC) + timedelta(days=30)

    claim = ledger.claim_retrieval(copy.archive_id, "clean-up", timedelta(minutes=2))
    assert ledger.begin_removal(claim, late)
    assert ledger.retrieval_bytes(timedelta(minutes=2)) == packed
    ledger.forget_retrieval(copy.archive_id, claim)

    assert ledger.retrieval_bytes(timedelta(minutes=2)) == 0
