import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, create_engine, text

from archiver.workflow.errors import ClaimLostError
from archiver.workflow.ledger.ledger import Ledger
from archiver.workflow.ledger.records import (
    Claim,
    DatablockRecord,
    RetirementRecord,
    RetirementState,
    RetrievalState,
    Stage,
)

TIMEOUT = timedelta(minutes=5)
DAY = timedelta(days=1)
AT = datetime(2026, 11, 26, 3, tzinfo=UTC)
PID = "p/a"
FOLDER = "openem-network/datasets/p/a"
ARCHIVE_ID = f"{FOLDER}/data/datablocks/p-a_0.tar"


def note(ledger: Ledger, claim: Claim, state: RetirementState) -> None:
    ledger.note_retirement(
        claim,
        state,
        at=AT,
        by="ada",
        reason="wrong sample",
        restorable_until=AT + DAY,
        message="withdrawn",
        files=3,
        payload_bytes=30,
    )


def known(ledger: Ledger) -> RetirementRecord:
    found = ledger.retirement(PID)
    assert found is not None
    return found


def stage(ledger: Ledger) -> Stage:
    found = ledger.dataset(PID)
    assert found is not None
    return found.stage


@pytest.fixture
def claim(ledger: Ledger) -> Claim:
    """On a data set that is archived and registered."""
    claim = ledger.claim_dataset(PID, "ada", TIMEOUT)
    block = DatablockRecord(ARCHIVE_ID, PID, 0, 30, 100, 3, "ab" * 32, "read", AT)
    ledger.adopt_dataset(claim, Stage.PUBLISHED, [block], 3, 30)
    ledger.record_stage(claim, Stage.REGISTERED)
    return claim


def test_a_request_changes_nothing_but_waits_with_its_word(ledger: Ledger, claim: Claim) -> None:
    assert ledger.request_retirement(PID, "ada", "first", "aaa", DAY)
    assert ledger.request_retirement(PID, "bo", "second", "bbb", DAY)

    record = known(ledger)
    assert (record.state, record.by, record.reason, record.word) == (RetirementState.REQUESTED, "bo", "second", "bbb")
    assert record.told
    assert stage(ledger) is Stage.REGISTERED
    assert ledger.drop_retirement_request(PID)
    assert not ledger.drop_retirement_request(PID)
    assert ledger.retirement(PID) is None


def test_what_is_restored_comes_back_to_the_stage_it_had(ledger: Ledger, claim: Claim) -> None:
    ledger.request_retirement(PID, "ada", "wrong sample", "aaa", DAY)

    note(ledger, claim, RetirementState.RETIRED)

    record = known(ledger)
    assert (record.state, record.word, record.told) == (RetirementState.RETIRED, "", False)
    assert stage(ledger) is Stage.RETIRED
    assert not ledger.request_retirement(PID, "ada", "again", "bbb", DAY)
    note(ledger, claim, RetirementState.RETIRED)  # as by a command that is given again
    note(ledger, claim, RetirementState.RESTORED)
    assert stage(ledger) is Stage.REGISTERED
    assert len(ledger.datablocks(PID)) == 1
    ledger.mark_retirement_told(known(ledger))
    assert ledger.retirement(PID) is None


def test_the_datablocks_of_what_is_removed_go_and_it_no_longer_counts_as_archived(ledger: Ledger, claim: Claim) -> None:
    note(ledger, claim, RetirementState.RETIRED)
    assert ledger.archive_totals().datasets == 1
    assert ledger.request_removal(PID, "ccc", DAY)
    assert known(ledger).word == "ccc"

    note(ledger, claim, RetirementState.REMOVING)
    assert not ledger.request_removal(PID, "ddd", DAY)
    assert [each.pid for each in ledger.unfinished_datasets(10)] == [PID]
    assert ledger.oldest_checked(10) == []
    note(ledger, claim, RetirementState.REMOVED)

    assert stage(ledger) is Stage.REMOVED
    assert ledger.datablocks(PID) == []
    totals = ledger.archive_totals()
    assert (totals.datasets, totals.datablocks, totals.files) == (0, 0, 0)
    assert ledger.unfinished_datasets(10) == []


def test_nothing_is_noted_for_a_claim_that_is_lost(ledger: Ledger, claim: Claim) -> None:
    ledger.claim_dataset(PID, "another", timedelta())

    with pytest.raises(ClaimLostError):
        note(ledger, claim, RetirementState.RETIRED)

    assert ledger.retirement(PID) is None
    assert stage(ledger) is Stage.REGISTERED


def test_what_the_catalogue_was_told_is_not_taken_for_what_came_later(ledger: Ledger, claim: Claim) -> None:
    note(ledger, claim, RetirementState.RETIRED)
    retired = known(ledger)
    note(ledger, claim, RetirementState.RESTORED)

    ledger.mark_retirement_told(retired)

    assert not known(ledger).told
    assert [each.state for each in ledger.retirements()] == [RetirementState.RESTORED]


def test_a_data_set_known_from_its_tombstone_alone_counts_as_archived_before(ledger: Ledger) -> None:
    claim = ledger.claim_dataset(PID, "rebuild", TIMEOUT)

    note(ledger, claim, RetirementState.REMOVED)

    found = ledger.dataset(PID)
    assert found is not None
    assert (found.stage, found.files, found.payload_bytes, found.archived_at) == (Stage.REMOVED, 3, 30, AT)


def test_copies_below_the_folder_expire_now_and_no_others(ledger: Ledger, in_a_while: datetime) -> None:
    folder = "openem-network/datasets/p/a_b"
    other = "openem-network/datasets/p/aXb/data/datablocks/x.tar"  # an underscore is no wildcard
    for archive_id in (f"{folder}/data/datablocks/x.tar", f"{folder}/selections/y.tar", other):
        claim = ledger.claim_retrieval(archive_id, "run", TIMEOUT)
        ledger.record_retrieved(claim, 10, "ab", in_a_while)
        ledger.release_retrieval(claim)

    assert ledger.expire_copies(folder) == 2
    assert ledger.expire_copies(folder) == 0

    expired = [each.archive_id for each in ledger.expired_retrievals(ledger.now())]
    assert len(expired) == 2
    assert other not in expired


def test_a_copy_that_is_being_made_may_be_removed_when_its_run_is_gone(ledger: Ledger) -> None:
    ledger.claim_retrieval(ARCHIVE_ID, "run", TIMEOUT)
    assert ledger.expired_retrievals(ledger.now()) == []

    assert ledger.expire_copies(FOLDER) == 1

    (copy,) = ledger.expired_retrievals(ledger.now())
    assert (copy.state, copy.holder) == (RetrievalState.COPYING, "run")


def test_no_copy_of_a_withdrawn_data_set_is_kept_whenever_it_comes(
    ledger: Ledger, claim: Claim, in_a_while: datetime
) -> None:
    copy = ledger.claim_retrieval(ARCHIVE_ID, "run", TIMEOUT)
    note(ledger, claim, RetirementState.RETIRED)
    ledger.expire_copies(FOLDER)

    ledger.record_retrieved(copy, 100, "ab", in_a_while)
    assert not ledger.extend_retrieval(ARCHIVE_ID, in_a_while)

    assert [each.archive_id for each in ledger.expired_retrievals(ledger.now())] == [ARCHIVE_ID]
    note(ledger, claim, RetirementState.RESTORED)
    assert ledger.extend_retrieval(ARCHIVE_ID, in_a_while)
    assert ledger.expired_retrievals(ledger.now()) == []


def test_a_copy_and_a_withdrawal_that_are_noted_at_the_same_time_come_one_after_the_other(
    ledger: Ledger, ledger_url: str, claim: Claim, in_a_while: datetime
) -> None:
    copy = ledger.claim_retrieval(ARCHIVE_ID, "run", TIMEOUT)
    engine = create_engine(ledger_url)
    with ThreadPoolExecutor(1) as threads:
        with engine.begin() as withdrawal:
            withdrawal.execute(text("UPDATE datasets SET stage = 'retired'"))
            noted = threads.submit(ledger.record_retrieved, copy, 100, "ab", in_a_while)
            assert waits_for_a_lock(engine)
        noted.result(60)
    engine.dispose()

    assert [each.archive_id for each in ledger.expired_retrievals(ledger.now())] == [ARCHIVE_ID]


def waits_for_a_lock(engine: Engine) -> bool:
    """Whether another connection comes to wait for one."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    pause = threading.Event()
    for _ in range(600):
        with engine.connect() as connection:
            if connection.execute(text(waiting)).scalar_one():
                return True
        pause.wait(0.05)
    return False
