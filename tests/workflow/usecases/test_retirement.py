"""Data sets withdrawn, restored and removed, with a real share, ledger, object store and the simulator of SciCat."""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import bagit  # type: ignore[import-untyped]
import pytest
from pydantic import SecretStr
from sqlalchemy import create_engine, text
from structlog.testing import capture_logs

from archiver.cli.errors import CommandError
from archiver.cli.retire import who
from archiver.config.settings import FixitySettings, LedgerSettings, LtsSettings, ReconciliationSettings
from archiver.local.postgres import PostgresServer
from archiver.local.scicat.defaults import ARCHIVER
from archiver.workflow.archiving import report_archiving_failure
from archiver.workflow.catalogue.client import Catalogue
from archiver.workflow.catalogue_repair import CatalogueOutcome, CatalogueRepair
from archiver.workflow.claims import claimed
from archiver.workflow.errors import DamagedError, DatasetBusyError, PermanentError, RetiredError, WrongShareError
from archiver.workflow.fixity import FixityAudit
from archiver.workflow.healing import Healing, HealOutcome
from archiver.workflow.holdings.extraction import ExtractOrder, extract
from archiver.workflow.holdings.listing import Holdings, HoldingState
from archiver.workflow.holdings.rebuilding import AdoptionOutcome, LedgerRebuilding
from archiver.workflow.holdings.verification import verify_bag
from archiver.workflow.isolation import ChildProcess
from archiver.workflow.ledger.ledger import Ledger
from archiver.workflow.ledger.records import Claim, RetirementState, RetrievalClaim, RetrievalState, Stage
from archiver.workflow.monitor import Monitor
from archiver.workflow.names import archive_id, bag_folder
from archiver.workflow.retirement import RetirementStateError, Retiring, tell_retirement
from archiver.workflow.retrieval import report_retrieval_failure
from archiver.workflow.share_comparison import ShareComparison, ShareFinding
from archiver.workflow.storage.lts import IDENTITY_FILE, PosixShare, ShareAddress
from archiver.workflow.tombstones import EventKind, find_event, note_event
from support.bags import FILES as OTHER_FILES
from support.bags import ignore, make_bag, new_share
from support.facility import Facility

TIMEOUT = timedelta(minutes=5)
DEAD_ADDRESS = "http://127.0.0.1:9"
"""Where nothing listens."""
FILES = {"a.txt": b"alpha", "sub/b.bin": b"\x00\x01" * 500}


@pytest.fixture
def archived(facility: Facility) -> str:
    """A data set of two datablocks, archived and registered; its pid."""
    pid = facility.ingest(FILES)
    facility.with_settings(archiver_datablock_files=1).archive(pid)
    return pid


@pytest.fixture
def child() -> Iterator[ChildProcess]:
    with ChildProcess(60) as process:
        yield process


@dataclass(frozen=True)
class Office:
    """The use case with any time for restoring, and any copies."""

    facility: Facility
    child: ChildProcess

    def __call__(self, *copies: ShareAddress, days: float = 30) -> Retiring:
        tools, kept = self.facility.tools, timedelta(days=days)
        return Retiring(
            tools.catalogue, tools.ledger, tools.share, copies, self.child, "ETHZ", kept, TIMEOUT, "ada@desk"
        )

    def retire(self, pid: str, *copies: ShareAddress, days: float = 30) -> None:
        at_work = self(*copies, days=days)
        _, word = at_work.request(pid, "wrong sample", dry_run=False)
        assert at_work.confirm(pid, word, dry_run=False).left == ()

    def remove(self, pid: str) -> None:
        _, word = self().request_removal(pid, dry_run=False)
        assert self().remove(pid, word, dry_run=False).left == ()


@pytest.fixture
def office(facility: Facility, child: ChildProcess) -> Office:
    return Office(facility, child)


def stage(facility: Facility, pid: str) -> Stage:
    record = facility.tools.ledger.dataset(pid)
    assert record is not None
    assert record.holder is None
    return record.stage


def events(facility: Facility, pid: str) -> list[str]:
    folder = facility.bag(pid) / "archiver-retirement"
    return sorted(each.name for each in folder.iterdir())


def bag_files(facility: Facility, pid: str) -> dict[str, str]:
    """SHA-256 of the files of the bag itself."""
    return {
        path: sha256 for path, sha256 in facility.share_contents().items() if pid in path and "retirement" not in path
    }


def is_copied(facility: Facility, archive_id: str) -> bool:
    """Whether there is anything to be downloaded."""
    tools = facility.tools
    return tools.store.head(tools.store_settings.s3_retrieval_bucket, archive_id) is not None


def before_the_claim(monkeypatch: pytest.MonkeyPatch, do: Callable[[], object]) -> None:
    """Somebody else does something just before the data set is claimed the next time."""
    claim = Ledger.claim_dataset

    def claim_after_that(ledger: Ledger, *arguments: Any) -> Claim:
        monkeypatch.setattr(Ledger, "claim_dataset", claim)
        do()
        return claim(ledger, *arguments)

    monkeypatch.setattr(Ledger, "claim_dataset", claim_after_that)


def rebuild(ledger: Ledger, office: Office) -> dict[str, AdoptionOutcome]:
    share = office.facility.tools.share
    work = LedgerRebuilding(ledger, office.child, share, TIMEOUT, verify=False, dry_run=False)
    work.prepare()
    return {each.pid: each.outcome for each in work.rebuild()}


# ---------------------------------------------------------------------------------------- withdrawn


def test_a_withdrawn_data_set_is_told_everywhere_and_nothing_of_its_bag_changes(
    facility: Facility, office: Office, archived: str
) -> None:
    before = bag_files(facility, archived)

    office.retire(archived)

    assert bag_files(facility, archived) == before
    bagit.Bag(str(facility.bag(archived))).validate()
    assert events(facility, archived) == ["0001-retired.json"]
    tombstone = facility.bag(archived) / "archiver-retirement/0001-retired.json"
    told = json.loads(tombstone.read_text())
    assert (told["by"], told["reason"], told["files"]) == ("ada@desk", "wrong sample", 2)
    assert [each["archive_id"] for each in told["datablocks"]] == [archive_id(archived, 0), archive_id(archived, 1)]
    assert tombstone.stat().st_mode & 0o222 == 0
    assert stage(facility, archived) is Stage.RETIRED
    lifecycle = facility.lifecycle(archived)
    assert (lifecycle["archivable"], lifecycle["retrievable"]) == (False, False)
    assert lifecycle["archiveStatusMessage"] == "markedForDeletion"
    assert f"archiver retire restore {archived}" in lifecycle["archiveReturnMessage"]
    assert len(facility.registered(archived)) == 2


def test_retrieval_of_a_withdrawn_data_set_is_refused_with_what_to_do(
    facility: Facility, office: Office, archived: str
) -> None:
    office.retire(archived)

    with pytest.raises(RetiredError, match="ask the operators to restore it") as refused:
        facility.retrieve(archived)

    report_retrieval_failure(facility.tools.catalogue, archived, refused.value)
    lifecycle = facility.lifecycle(archived)
    assert lifecycle["retrieveReturnMessage"] == str(refused.value)
    assert "Failed" not in lifecycle["retrieveStatusMessage"]


def test_the_tombstone_alone_is_enough_for_a_refusal(facility: Facility, office: Office, archived: str) -> None:
    """As after a crash just behind it, or with a ledger that was restored from before."""
    office.retire(archived)
    engine = create_engine(facility.ledger_settings.ledger_url.get_secret_value())
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM retirements"))
        connection.execute(text("UPDATE datasets SET stage = 'emptied'"))
    engine.dispose()

    with pytest.raises(RetiredError, match="withdrawn"):
        facility.retrieve(archived)
    with pytest.raises(RetiredError, match="withdrawn"):
        facility.archive(archived)


def test_copies_that_users_have_links_to_expire(facility: Facility, office: Office, archived: str) -> None:
    facility.retrieve(archived)
    ledger = facility.tools.ledger
    assert ledger.expired_retrievals(ledger.now()) == []

    office.retire(archived)

    expired = {each.archive_id for each in ledger.expired_retrievals(ledger.now())}
    assert expired == {archive_id(archived, 0), archive_id(archived, 1)}


def test_a_retrieval_that_was_under_way_leaves_no_link_behind(
    facility: Facility, office: Office, archived: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = Ledger.record_retrieved

    def withdrawn_meanwhile(ledger: Ledger, *arguments: object, **named: object) -> None:
        monkeypatch.setattr(Ledger, "record_retrieved", record)
        office.retire(archived)
        record(ledger, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Ledger, "record_retrieved", withdrawn_meanwhile)

    with pytest.raises(RetiredError):
        facility.retrieve(archived)

    ledger = facility.tools.ledger
    expired = {each.archive_id: each.state for each in ledger.expired_retrievals(ledger.now())}
    assert expired == {archive_id(archived, 0): RetrievalState.READY}
    assert not is_copied(facility, archive_id(archived, 1))


@pytest.mark.parametrize("dies", ["after it extended a copy", "before it noted a copy", "after it noted a copy"])
def test_a_retrieval_that_was_under_way_and_died_leaves_no_copy_to_be_given_out(
    facility: Facility, office: Office, archived: str, monkeypatch: pytest.MonkeyPatch, dies: str
) -> None:
    name = "extend_retrieval" if "extended" in dies else "record_retrieved"
    if name == "extend_retrieval":
        facility.retrieve(archived)
    call = getattr(Ledger, name)

    def withdrawn_meanwhile(ledger: Ledger, *arguments: object, **named: object) -> None:
        monkeypatch.setattr(Ledger, name, call)
        office.retire(archived)
        if dies.startswith("after"):
            call(ledger, *arguments, **named)
        raise KeyboardInterrupt

    monkeypatch.setattr(Ledger, name, withdrawn_meanwhile)

    with pytest.raises(KeyboardInterrupt):
        facility.retrieve(archived)

    ledger = facility.tools.ledger
    known = {each for each in (archive_id(archived, 0), archive_id(archived, 1)) if ledger.retrieval(each)}
    assert known
    assert {each.archive_id for each in ledger.expired_retrievals(ledger.now())} == known


def test_a_retrieval_does_not_begin_a_copy_of_what_was_withdrawn_meanwhile(
    facility: Facility, office: Office, archived: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = Ledger.claim_retrieval

    def withdrawn_before(ledger: Ledger, *arguments: object, **named: object) -> RetrievalClaim:
        monkeypatch.setattr(Ledger, "claim_retrieval", claim)
        office.retire(archived)
        return claim(ledger, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Ledger, "claim_retrieval", withdrawn_before)

    with pytest.raises(RetiredError):
        facility.retrieve(archived)

    assert not is_copied(facility, archive_id(archived, 0))


def test_a_run_that_was_refused_says_nothing_of_a_data_set_that_was_restored_since(
    facility: Facility, office: Office, archived: str
) -> None:
    office.retire(archived)
    with pytest.raises(RetiredError) as refused:
        facility.archive(archived)
    office().restore(archived, dry_run=False)
    before = facility.lifecycle(archived)
    assert before["retrievable"] is True

    report_archiving_failure(facility.tools.catalogue, facility.tools.ledger, archived, refused.value, TIMEOUT)

    assert facility.lifecycle(archived) == before


def test_no_other_failure_is_told_of_a_withdrawn_data_set(facility: Facility, office: Office, archived: str) -> None:
    office.retire(archived)
    before = facility.lifecycle(archived)

    report_archiving_failure(
        facility.tools.catalogue, facility.tools.ledger, archived, PermanentError("Given up after 3 runs."), TIMEOUT
    )

    assert facility.lifecycle(archived) == before
    office().restore(archived, dry_run=False)
    report_archiving_failure(
        facility.tools.catalogue, facility.tools.ledger, archived, PermanentError("No space."), TIMEOUT
    )
    lifecycle = facility.lifecycle(archived)
    assert (lifecycle["archiveReturnMessage"], lifecycle["retrievable"]) == ("No space.", True)


def test_no_failure_is_told_of_an_archived_data_set_while_somebody_withdraws_or_restores_it(
    facility: Facility, archived: str
) -> None:
    ledger, before = facility.tools.ledger, facility.lifecycle(archived)
    claim = ledger.claim_dataset(archived, "retirement by ada", TIMEOUT)

    report_archiving_failure(facility.tools.catalogue, ledger, archived, PermanentError("No space."), TIMEOUT)

    assert facility.lifecycle(archived) == before
    ledger.check_claim(claim)


def test_an_archive_job_of_a_withdrawn_data_set_changes_nothing(
    facility: Facility, office: Office, archived: str
) -> None:
    office.retire(archived)
    facility.upload(archived, FILES)
    share = facility.share_contents()

    with pytest.raises(RetiredError) as refused:
        facility.archive(archived)
    report_archiving_failure(facility.tools.catalogue, facility.tools.ledger, archived, refused.value, TIMEOUT)

    assert facility.share_contents() == share
    assert facility.landed(archived) == set(FILES)
    assert stage(facility, archived) is Stage.RETIRED
    lifecycle = facility.lifecycle(archived)
    assert (lifecycle["archivable"], lifecycle["retrievable"]) == (False, False)
    assert lifecycle["archiveStatusMessage"] == "markedForDeletion"


@pytest.mark.parametrize("word", ["", "000000"])
def test_nothing_happens_without_the_right_word(facility: Facility, office: Office, archived: str, word: str) -> None:
    at_work = office()
    with pytest.raises(RetirementStateError, match="not the word"):
        at_work.confirm(archived, word, dry_run=False)
    _, right = at_work.request(archived, "wrong sample", dry_run=False)
    assert right != word

    with pytest.raises(RetirementStateError, match="not the word"):
        at_work.confirm(archived, word, dry_run=False)

    assert stage(facility, archived) is Stage.EMPTIED
    assert not (facility.bag(archived) / "archiver-retirement").exists()


def test_a_word_is_good_for_a_day(facility: Facility, office: Office, archived: str) -> None:
    at_work = office()
    _, word = at_work.request(archived, "", dry_run=False)
    engine = create_engine(facility.ledger_settings.ledger_url.get_secret_value())
    with engine.begin() as connection:
        connection.execute(text("UPDATE retirements SET word_until = word_until - interval '1 day'"))
    engine.dispose()

    with pytest.raises(RetirementStateError, match="too old"):
        at_work.confirm(archived, word, dry_run=False)


def test_a_word_confirms_nothing_when_something_else_was_asked_for_before_the_data_set_was_claimed(
    facility: Facility, office: Office, archived: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_work = office()
    _, word = at_work.request(archived, "wrong sample", dry_run=False)
    before_the_claim(monkeypatch, lambda: office().request(archived, "another reason", dry_run=False))

    with pytest.raises(RetirementStateError, match="not the word"):
        at_work.confirm(archived, word, dry_run=False)

    assert stage(facility, archived) is Stage.EMPTIED
    assert not (facility.bag(archived) / "archiver-retirement").exists()


def test_finishing_a_withdrawal_does_not_withdraw_again_what_was_restored_before_the_data_set_was_claimed(
    facility: Facility, office: Office, archived: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    office.retire(archived)
    before_the_claim(monkeypatch, lambda: office().restore(archived, dry_run=False))

    with pytest.raises(RetirementStateError, match="changed by somebody else"):
        office().confirm(archived, "", dry_run=False)

    assert events(facility, archived) == ["0001-retired.json", "0002-restored.json"]
    assert stage(facility, archived) is Stage.EMPTIED


def test_a_dry_run_of_any_step_changes_nothing(facility: Facility, office: Office, archived: str) -> None:
    at_work = office(days=0)
    assert at_work.request(archived, "", dry_run=True)[1] == ""
    assert facility.tools.ledger.retirement(archived) is None
    _, word = at_work.request(archived, "", dry_run=False)
    assert at_work.confirm(archived, word, dry_run=True).left == ()
    assert stage(facility, archived) is Stage.EMPTIED
    at_work.confirm(archived, word, dry_run=False)
    share = facility.share_contents()

    assert at_work.restore(archived, dry_run=True) is not None
    assert at_work.request_removal(archived, dry_run=True)[1] == ""
    _, word = at_work.request_removal(archived, dry_run=False)
    at_work.remove(archived, word, dry_run=True)

    assert facility.share_contents() == share
    assert stage(facility, archived) is Stage.RETIRED


def test_what_somebody_works_on_cannot_be_withdrawn(facility: Facility, office: Office, archived: str) -> None:
    at_work = office()
    _, word = at_work.request(archived, "", dry_run=False)
    facility.tools.ledger.claim_dataset(archived, "a run", TIMEOUT)

    with pytest.raises(DatasetBusyError):
        at_work.confirm(archived, word, dry_run=False)

    assert not (facility.bag(archived) / "archiver-retirement").exists()


def test_only_what_this_service_archived_can_be_withdrawn(facility: Facility, office: Office) -> None:
    pid = facility.ingest(FILES)
    older = facility.lts_root / "openem-network/datasets/20.500/older/datablocks"
    older.mkdir(parents=True)
    (older / "older_0.tar").write_bytes(b"tar")
    make_bag(facility.tools.share, "20.500/not-in-the-ledger", OTHER_FILES)

    for unknown, reason in (
        (pid, "not on the share"),
        ("20.500/older", "on the share as older"),
        ("20.500/not-in-the-ledger", "does not know yet"),
    ):
        with pytest.raises(RetirementStateError, match=reason):
            office().request(unknown, "", dry_run=False)


@pytest.mark.parametrize(
    ("file", "is_told_by"),
    [
        ("data/datablocks/{}_0.tar", "the ledger"),
        ("manifest-sha256.txt", "the ledger"),
        ("archiver/{}_1.tar.jsonl", "the ledger"),
        ("bag-info.txt", "the bag"),
    ],
)
def test_a_damaged_bag_can_be_withdrawn_and_it_is_said_that_it_is_damaged_and_what_tells_its_contents(
    facility: Facility, office: Office, archived: str, file: str, is_told_by: str
) -> None:
    before = [(each.archive_id, each.packed_size, each.sha256) for each in facility.tools.ledger.datablocks(archived)]
    assert len(before) == 2
    (facility.bag(archived) / file.format(archived.replace("/", "-"))).unlink()

    preview, word = office().request(archived, "wrong sample", dry_run=False)

    assert (preview.datablocks, preview.files, preview.payload_bytes) == (2, 2, sum(map(len, FILES.values())))
    assert "missing" in preview.damage
    assert ("told by the ledger" in preview.damage) is (is_told_by == "the ledger")
    assert office().confirm(archived, word, dry_run=False).left == ()
    event = find_event(ignore, facility.tools.share, archived)
    assert event is not None
    assert [(each.archive_id, each.packed_size, each.sha256) for each in event.datablocks] == before
    assert (event.files, event.payload_bytes) == (preview.files, preview.payload_bytes)
    with pytest.raises(RetiredError):
        facility.retrieve(archived)


def test_a_damaged_bag_of_which_the_ledger_knows_nothing_more_is_kept(
    facility: Facility, office: Office, archived: str
) -> None:
    (facility.bag(archived) / "manifest-sha256.txt").unlink()
    engine = create_engine(facility.ledger_settings.ledger_url.get_secret_value())
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM datablocks"))
    engine.dispose()

    with pytest.raises(DamagedError, match="ledger does not know either"):
        office().request(archived, "", dry_run=False)

    assert facility.tools.ledger.retirement(archived) is None


def test_a_bag_beside_datablocks_of_the_older_service_is_not_withdrawn_damaged_or_not(
    facility: Facility, office: Office, archived: str
) -> None:
    (facility.bag(archived) / "datablocks").mkdir()
    with pytest.raises(RetirementStateError, match="older service"):
        office().request(archived, "", dry_run=False)
    (facility.bag(archived) / "bag-info.txt").unlink()

    with pytest.raises(RetirementStateError, match="older service"):
        office().request(archived, "", dry_run=False)


def test_the_share_that_is_not_mounted_is_no_damage_of_the_bag(
    facility: Facility, office: Office, archived: str
) -> None:
    (facility.lts_root / IDENTITY_FILE).unlink()

    with pytest.raises(WrongShareError):
        office().request(archived, "", dry_run=False)


def test_what_still_lies_in_the_landing_zone_is_archived_to_its_end_first(
    facility: Facility, office: Office, archived: str
) -> None:
    ledger = facility.tools.ledger
    soon = datetime.now(UTC) + timedelta(hours=1)
    ledger.reserve_upload(archived, "ada", "facility", 10, 10, 1000, soon)
    with pytest.raises(RetirementStateError, match="landing zone still holds"):
        office().request(archived, "", dry_run=False)
    ledger.abort_upload(archived)
    _, word = office().request(archived, "", dry_run=False)
    ledger.reserve_upload(archived, "ada", "facility", 10, 10, 1000, soon)
    ledger.finalize_upload(archived, 10)

    with pytest.raises(RetirementStateError, match="landing zone still holds"):
        office().confirm(archived, word, dry_run=False)

    assert stage(facility, archived) is Stage.EMPTIED


@pytest.mark.parametrize("came_to", [Stage.PUBLISHED, Stage.REGISTERED, Stage.FAILED])
def test_what_was_published_and_not_yet_registered_and_emptied_is_archived_to_its_end_first(
    facility: Facility, office: Office, archived: str, came_to: Stage
) -> None:
    tools = facility.tools
    _, word = office().request(archived, "", dry_run=False)
    with claimed(tools.ledger, archived, "a run that died", TIMEOUT) as claim:
        tools.ledger.record_stage(claim, came_to)
    for block in tools.catalogue.datablocks(archived):
        tools.catalogue.remove_datablock(archived, block)

    for at_work in (
        lambda: office().request(archived, "", dry_run=False),
        lambda: office().confirm(archived, word, dry_run=False),
    ):
        with pytest.raises(RetirementStateError, match="its archive job has not ended"):
            at_work()

    assert stage(facility, archived) is came_to
    assert facility.archive(archived)
    assert stage(facility, archived) is Stage.EMPTIED
    office.retire(archived)


def test_what_a_new_ledger_learnt_from_the_share_can_be_withdrawn_where_it_is_registered(
    facility: Facility, office: Office, archived: str
) -> None:
    tools = facility.tools
    with claimed(tools.ledger, archived, "as what is adopted", TIMEOUT) as claim:
        tools.ledger.record_stage(claim, Stage.PUBLISHED)

    office.retire(archived)

    assert stage(facility, archived) is Stage.RETIRED


# ---------------------------------------------------------------------------------------- restored


def test_a_restored_data_set_is_what_it_was(facility: Facility, office: Office, archived: str) -> None:
    before, lifecycle = bag_files(facility, archived), facility.lifecycle(archived)
    office.retire(archived)

    outcome = office().restore(archived, dry_run=False)

    assert outcome is not None
    assert outcome.left == ()
    assert bag_files(facility, archived) == before
    assert events(facility, archived) == ["0001-retired.json", "0002-restored.json"]
    assert stage(facility, archived) is Stage.EMPTIED
    assert facility.tools.ledger.retirement(archived) is None
    now = facility.lifecycle(archived)
    names = ("archivable", "retrievable", "archiveStatusMessage", "storageLocation")
    assert [now[name] for name in names] == [lifecycle[name] for name in names]
    assert not now.get("archiveReturnMessage")
    assert facility.retrieved(facility.retrieve(archived)) == FILES
    assert office.child.call(verify_bag, None, facility.tools.share, archived, members=True).is_good
    office.retire(archived)
    assert events(facility, archived)[-1] == "0003-retired.json"


def test_a_restored_data_set_is_not_asked_for_again_before_the_catalogue_knows(
    facility: Facility, office: Office, archived: str
) -> None:
    office.retire(archived)
    nowhere = facility.catalogue_settings.model_copy(update={"scicat_endpoint": DEAD_ADDRESS, "scicat_retry_s": 0.1})
    with Catalogue.open(nowhere) as away:
        replace(office(), catalogue=away).restore(archived, dry_run=False)

    with pytest.raises(RetirementStateError, match="still to be told"):
        office().request(archived, "", dry_run=False)
    assert not facility.tools.ledger.request_retirement(archived, "ada", "", "abc", timedelta(days=1))

    tell_retirement(facility.tools.catalogue, facility.tools.ledger, "ETHZ", archived)
    assert facility.lifecycle(archived)["retrievable"] is True
    office().request(archived, "", dry_run=False)


def test_it_can_be_restored_after_its_time_too_while_nothing_was_removed(
    facility: Facility, office: Office, archived: str
) -> None:
    office.retire(archived, days=0)

    assert office(days=0).restore(archived, dry_run=False) is not None

    assert stage(facility, archived) is Stage.EMPTIED


def test_a_request_that_was_not_confirmed_can_be_taken_back(facility: Facility, office: Office, archived: str) -> None:
    _, word = office().request(archived, "", dry_run=False)

    assert office().restore(archived, dry_run=False) is None

    with pytest.raises(RetirementStateError, match="not the word"):
        office().confirm(archived, word, dry_run=False)
    with pytest.raises(RetirementStateError, match="nothing to restore"):
        office().restore(archived, dry_run=False)


# ---------------------------------------------------------------------------------------- removed


def test_nothing_is_removed_before_its_time(facility: Facility, office: Office, archived: str) -> None:
    office.retire(archived, days=30)

    for step in (
        lambda: office(days=0).request_removal(archived, dry_run=False),
        lambda: office(days=0).remove(archived, "", dry_run=False),
    ):
        with pytest.raises(RetirementStateError, match="kept until then"):
            step()

    assert facility.is_published(archived)


def test_a_removed_data_set_leaves_its_tombstone_and_the_catalogue_says_so(
    facility: Facility, office: Office, archived: str
) -> None:
    office.retire(archived, days=0)
    at_work = office(days=0)
    with pytest.raises(RetirementStateError, match="not the word"):
        at_work.remove(archived, "", dry_run=False)
    assert facility.is_published(archived)
    _, word = at_work.request_removal(archived, dry_run=False)

    outcome = at_work.remove(archived, word, dry_run=False)

    assert outcome.left == ()
    assert bag_files(facility, archived) == {}
    assert [each.name for each in facility.bag(archived).iterdir()] == ["archiver-retirement"]
    assert events(facility, archived) == ["0001-retired.json", "0002-removing.json", "0003-removed.json"]
    assert stage(facility, archived) is Stage.REMOVED
    assert facility.tools.ledger.datablocks(archived) == []
    assert facility.registered(archived) == []
    assert facility.lifecycle(archived)["archiveStatusMessage"] == "deleted"
    for step in (facility.retrieve, facility.archive):
        with pytest.raises(RetiredError, match="cannot be restored"):
            step(archived)
    with pytest.raises(RetirementStateError, match="cannot be restored"):
        at_work.restore(archived, dry_run=False)
    assert at_work.remove(archived, "", dry_run=False).was_done


def test_what_was_restored_and_withdrawn_anew_is_not_removed_by_an_earlier_word(
    facility: Facility, office: Office, archived: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    office.retire(archived, days=0)
    at_work = office(days=0)
    _, word = at_work.request_removal(archived, dry_run=False)

    def withdraw_anew() -> None:
        office().restore(archived, dry_run=False)
        office.retire(archived, days=30)

    before_the_claim(monkeypatch, withdraw_anew)

    with pytest.raises(RetirementStateError, match="changed by somebody else"):
        at_work.remove(archived, word, dry_run=False)

    assert facility.is_published(archived)
    assert events(facility, archived)[-1] == "0003-retired.json"


def test_a_word_for_a_removal_is_good_until_another_is_given(
    facility: Facility, office: Office, archived: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    office.retire(archived, days=0)
    at_work = office(days=0)
    _, word = at_work.request_removal(archived, dry_run=False)
    before_the_claim(monkeypatch, lambda: office().request_removal(archived, dry_run=False))

    with pytest.raises(RetirementStateError, match="not the word"):
        at_work.remove(archived, word, dry_run=False)

    assert facility.is_published(archived)


def test_the_word_for_a_removal_is_good_also_where_the_ledger_had_lost_the_data_set(
    facility: Facility, office: Office, archived: str
) -> None:
    office.retire(archived, days=0)
    facility.tools.ledger.forget_dataset(archived)

    office.remove(archived)

    assert not facility.is_published(archived)
    assert stage(facility, archived) is Stage.REMOVED


def test_asking_for_a_removal_does_not_make_the_ledger_forget_that_the_data_set_was_restored(
    facility: Facility, office: Office, archived: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    office.retire(archived, days=0)
    before_the_claim(monkeypatch, lambda: office().restore(archived, dry_run=False))

    with pytest.raises(RetirementStateError, match="changed by somebody else"):
        office(days=0).request_removal(archived, dry_run=False)

    assert stage(facility, archived) is Stage.EMPTIED


def test_two_events_of_one_number_are_told_and_nothing_is_done_until_one_is_left(
    facility: Facility, office: Office, archived: str
) -> None:
    """As two operators leave them who did not see what the other did: a client's list of names may be old."""
    office.retire(archived, days=0)
    folder = facility.bag(archived) / "archiver-retirement"
    other = folder / "0001-restored.json"
    other.write_text((folder / "0001-retired.json").read_text().replace('"retired"', '"restored"'))

    for step in (
        lambda: office().restore(archived, dry_run=False),
        lambda: office(days=0).request_removal(archived, dry_run=False),
        lambda: office(days=0).remove(archived, "", dry_run=False),
        lambda: facility.archive(archived),
    ):
        with pytest.raises(DamagedError, match=r"carry the number 1: 0001-restored\.json and 0001-retired\.json"):
            step()
    with pytest.raises(RetiredError):
        facility.retrieve(archived)
    assert facility.is_published(archived)

    other.unlink()
    assert office().restore(archived, dry_run=False) is not None


def test_an_operator_who_does_not_see_what_another_just_did_is_told_at_once(
    facility: Facility, office: Office, archived: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    office.retire(archived)
    share = facility.tools.share
    retired = find_event(ignore, share, archived)
    assert retired is not None
    note_event(ignore, share, retired.then(EventKind.RESTORED, retired.at, "ada"), "one")
    names, own = PosixShare.names, f"{bag_folder(archived)}/archiver-retirement/0002-removing.json"

    def old_names(self: PosixShare, folder: str) -> list[tuple[str, bool]]:
        is_old = self.size(own) is None  # what a client puts there itself makes it look anew
        return [each for each in names(self, folder) if not (is_old and each[0] == "0002-restored.json")]

    monkeypatch.setattr(PosixShare, "names", old_names)

    with pytest.raises(DamagedError, match=r"0002-removing\.json and 0002-restored\.json"):
        note_event(ignore, share, retired.then(EventKind.REMOVING, retired.at, "bo"), "other")


def test_a_bag_on_which_nobody_put_a_tombstone_cannot_be_removed(
    facility: Facility, office: Office, archived: str
) -> None:
    with pytest.raises(RetirementStateError, match="not withdrawn"):
        office(days=0).remove(archived, "", dry_run=False)
    assert facility.is_published(archived)


# ---------------------------------------------------------------------------------------- second copies


def test_copies_on_other_shares_follow_at_each_step(
    facility: Facility, office: Office, archived: str, tmp_path: Path
) -> None:
    copy = new_share(tmp_path / "copy")
    stall, free = 60.0, 0.0
    healing = Healing([facility.tools.share, copy], stall, free)
    assert healing.heal(archived, facility.tools.ledger, "heal", TIMEOUT).outcome is HealOutcome.HEALED

    office.retire(archived, copy, days=0)

    folder = copy.root / facility.bag(archived).relative_to(facility.lts_root)
    assert (folder / "archiver-retirement/0001-retired.json").exists()
    assert healing.examine(archived).outcome is HealOutcome.RETIRED
    office(copy).restore(archived, dry_run=False)
    assert healing.examine(archived).outcome is HealOutcome.GOOD
    office.retire(archived, copy, days=0)
    _, word = office(copy).request_removal(archived, dry_run=False)
    office(copy).remove(archived, word, dry_run=False)
    assert [each.name for each in folder.iterdir()] == ["archiver-retirement"]


def test_a_share_that_is_away_is_told_and_brought_along_by_the_same_command(
    facility: Facility, office: Office, archived: str, tmp_path: Path
) -> None:
    copy = new_share(tmp_path / "copy")
    Healing([facility.tools.share, copy], 60, 0).heal(archived, facility.tools.ledger, "heal", TIMEOUT)
    office.retire(archived, copy, days=0)
    away = tmp_path / "away"
    copy.root.rename(away)
    at_work = office(copy, days=0)
    _, word = at_work.request_removal(archived, dry_run=False)

    outcome = at_work.remove(archived, word, dry_run=False)

    assert any(str(copy.root) in each for each in outcome.left)
    assert stage(facility, archived) is Stage.REMOVING
    assert Healing([facility.tools.share, copy], 60, 0).examine(archived).outcome is HealOutcome.RETIRED
    away.rename(copy.root)

    assert at_work.remove(archived, "", dry_run=False).left == ()

    assert stage(facility, archived) is Stage.REMOVED
    assert not list(copy.root.rglob("*.tar"))


# ---------------------------------------------------------------------------------------- those who look at the share


def test_the_share_lists_verifies_and_does_not_give_out_what_is_withdrawn(
    facility: Facility, office: Office, archived: str, tmp_path: Path
) -> None:
    office.retire(archived, days=0)
    share = facility.tools.share

    (holding,) = Holdings(office.child, share).walk()
    assert (holding.state, holding.files) == (HoldingState.RETIRED, 2)
    assert "wrong sample" in holding.note
    assert office.child.call(verify_bag, None, share, archived, members=False).is_good
    with pytest.raises(RetiredError):
        extract(ignore, ExtractOrder(share, archived, tmp_path / "out", (), False))

    office.remove(archived)
    (holding,) = Holdings(office.child, share).walk()
    assert holding.state is HoldingState.REMOVED


def test_an_unreadable_tombstone_is_told_and_nothing_is_given_out(
    facility: Facility, office: Office, archived: str
) -> None:
    office.retire(archived)
    tombstone = facility.bag(archived) / "archiver-retirement/0001-retired.json"
    tombstone.chmod(0o644)
    tombstone.write_text("{")

    (holding,) = Holdings(office.child, facility.tools.share).walk()
    assert holding.state is HoldingState.UNREADABLE
    assert "0001-retired.json" in holding.note


def test_a_new_ledger_learns_from_the_share_alone_what_was_withdrawn(
    facility: Facility, office: Office, archived: str, postgres: PostgresServer
) -> None:
    removed = facility.ingest(FILES)
    facility.archive(removed)
    office.retire(archived)
    office.retire(removed, days=0)
    office.remove(removed)
    url = postgres.ensure_database(f"rebuilt_{os.getpid()}").replace("postgresql://", "postgresql+psycopg://", 1)

    with Ledger.open(LedgerSettings(ledger_url=SecretStr(url))) as ledger:
        assert rebuild(ledger, office) == {archived: AdoptionOutcome.RETIRED, removed: AdoptionOutcome.RETIRED}

        for pid, state, datablocks in ((archived, RetirementState.RETIRED, 2), (removed, RetirementState.REMOVED, 0)):
            record, old = ledger.retirement(pid), facility.tools.ledger.retirement(pid)
            assert record is not None
            assert old is not None
            assert record.state is state
            assert replace(record, told=True) == old
            assert len(ledger.datablocks(pid)) == datablocks
            dataset, before = ledger.dataset(pid), facility.tools.ledger.dataset(pid)
            assert dataset is not None
            assert before is not None
            assert (dataset.stage, dataset.files, dataset.payload_bytes) == (state.stage, 2, before.payload_bytes)
        assert set(rebuild(ledger, office).values()) == {AdoptionOutcome.KNOWN}
        office().restore(archived, dry_run=False)
        assert rebuild(ledger, office)[archived] is AdoptionOutcome.RESTORED
        again = ledger.dataset(archived)
        assert again is not None
        assert again.stage is Stage.PUBLISHED
    postgres.drop_database(f"rebuilt_{os.getpid()}")


def the_one_finding(facility: Facility) -> ShareFinding:
    """What ledger and share are found to disagree on."""
    lts = LtsSettings(lts_root_folder=facility.lts_root)
    with ShareComparison(facility.tools.ledger, lts, ReconciliationSettings(), TIMEOUT, "test") as comparison:
        (finding,) = comparison.go_on(to_the_end=True)
    return finding


def test_a_tombstone_that_is_gone_is_an_alarm_and_gives_nothing_out(
    facility: Facility, office: Office, archived: str
) -> None:
    office.retire(archived)
    for each in (facility.bag(archived) / "archiver-retirement").iterdir():
        each.unlink()

    finding = the_one_finding(facility)

    assert finding.is_alarm
    assert "no tombstone" in finding.text
    with pytest.raises(RetiredError):
        facility.retrieve(archived)


@pytest.mark.parametrize("removed", [False, True], ids=["withdrawn again", "removed"])
def test_a_share_of_before_a_withdrawal_whose_newest_event_is_a_restoration_is_an_alarm_and_changes_nothing(
    facility: Facility, office: Office, archived: str, tmp_path: Path, removed: bool
) -> None:
    office.retire(archived)
    office().restore(archived, dry_run=False)
    shutil.copytree(facility.bag(archived), tmp_path / "snapshot")
    office.retire(archived, days=0)
    if removed:
        office.remove(archived)
    ledger = facility.tools.ledger
    before = ledger.dataset(archived), ledger.retirement(archived), ledger.datablocks(archived)
    shutil.rmtree(facility.bag(archived))
    shutil.copytree(tmp_path / "snapshot", facility.bag(archived))

    finding = the_one_finding(facility)

    assert finding.is_alarm
    assert "a tombstone that says restored" in finding.text
    assert (ledger.dataset(archived), ledger.retirement(archived), ledger.datablocks(archived)) == before


def test_an_unreadable_data_set_is_one_alarm_and_new_only_once(
    facility: Facility, office: Office, archived: str
) -> None:
    office.retire(archived)
    tombstone = facility.bag(archived) / "archiver-retirement/0001-retired.json"
    tombstone.chmod(0o644)
    tombstone.write_text("{")
    lts = LtsSettings(lts_root_folder=facility.lts_root)

    with (
        capture_logs() as logs,
        ShareComparison(facility.tools.ledger, lts, ReconciliationSettings(), TIMEOUT, "test") as comparison,
    ):
        first = list(comparison.go_on(to_the_end=True))
        assert list(comparison.go_on(to_the_end=True)) == first

    (finding,) = first
    assert "(unreadable)" in finding.text
    assert [each["kind"] for each in logs if each["event"] == "ledger_and_share_disagree"] == ["unreadable"]


def test_audits_read_what_can_be_restored_and_miss_nothing_that_was_removed(
    facility: Facility, office: Office, archived: str
) -> None:
    office.retire(archived, days=0)
    told = facility.lifecycle(archived)["archiveReturnMessage"]
    tar = facility.lts_root / archive_id(archived, 0)
    mode = tar.stat().st_mode
    tar.chmod(0o644)
    tar.write_bytes(b"\xff" + tar.read_bytes()[1:])
    tar.chmod(mode)

    outcome = FixityAudit(facility.tools, FixitySettings(), Monitor("audit")).run()

    assert [each.archive_id for each in outcome.findings] == [archive_id(archived, 0)]
    assert facility.lifecycle(archived)["archiveReturnMessage"] == told
    office.remove(archived)
    after = FixityAudit(facility.tools, FixitySettings(), Monitor("audit")).run()
    assert (after.findings, after.checked) == ([], 0)
    assert facility.tools.ledger.damaged_datablocks() == []
    assert facility.tools.ledger.archive_totals().datasets == 0


def test_the_catalogue_is_told_again_what_is_withdrawn(facility: Facility, office: Office, archived: str) -> None:
    office.retire(archived, days=0)
    facility.tools.catalogue.update_lifecycle(archived, {"retrievable": True, "archiveStatusMessage": "started"})
    repairing = CatalogueRepair(facility.tools.catalogue, office.child, facility.tools.share, "ETHZ")

    assert repairing.repair(archived, facility.tools.ledger, "repair", TIMEOUT).outcome is CatalogueOutcome.REPAIRED
    assert facility.lifecycle(archived)["archiveStatusMessage"] == "markedForDeletion"
    assert repairing.check(archived).outcome is CatalogueOutcome.GOOD


def test_a_catalogue_that_was_away_is_told_later(facility: Facility, office: Office, archived: str) -> None:
    _, word = office().request(archived, "wrong sample", dry_run=False)
    nowhere = facility.catalogue_settings.model_copy(update={"scicat_endpoint": DEAD_ADDRESS, "scicat_retry_s": 0.1})
    with Catalogue.open(nowhere) as away:
        outcome = replace(office(), catalogue=away).confirm(archived, word, dry_run=False)

    assert [each.partition(":")[0] for each in outcome.left] == ["the catalogue"]
    assert stage(facility, archived) is Stage.RETIRED
    assert facility.lifecycle(archived)["retrievable"] is True

    told = tell_retirement(facility.tools.catalogue, facility.tools.ledger, "ETHZ", archived)

    assert told is not None
    assert facility.lifecycle(archived)["retrievable"] is False
    assert tell_retirement(facility.tools.catalogue, facility.tools.ledger, "ETHZ", archived) is None


# ---------------------------------------------------------------------------------------- the command


def _run(facility: Facility, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    environment = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ} | {
        "LTS_ROOT_FOLDER": str(facility.lts_root),
        "LEDGER_URL": facility.ledger_settings.ledger_url.get_secret_value(),
        "SCICAT_ENDPOINT": facility.scicat_url,
        "SCICAT_USER": ARCHIVER,
        "SCICAT_PASSWORD": ARCHIVER,
        "RETIRE_RESTORABLE_DAYS": "0",
        **environment,
    }
    command = [sys.executable, "-m", "archiver.cli", "retire", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)


def test_an_operator_withdraws_restores_and_removes_by_command(facility: Facility, archived: str) -> None:
    assert _run(facility, archived).returncode == 2  # a reason is wanted
    dry = _run(facility, archived, "--reason", "wrong sample", "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert "Dry run" in dry.stdout
    asked = _run(facility, archived, "--reason", "wrong sample")
    assert asked.returncode == 0, asked.stderr
    confirm = asked.stdout.strip().rpartition(": archiver retire ")[2].split()
    assert confirm[:2] == ["confirm", archived]
    assert facility.lifecycle(archived)["retrievable"] is True

    done = _run(facility, *confirm, "--by", "Ada", "--json")

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["state"] == "retired"
    listed = json.loads(_run(facility, "list", "--json").stdout)["datasets"]
    assert [(each["pid"], each["state"], each["may_be_removed"]) for each in listed] == [(archived, "retired", True)]
    assert listed[0]["by"].endswith("confirmed by Ada")
    assert _run(facility, "restore", archived).returncode == 0
    assert facility.lifecycle(archived)["retrievable"] is True
    word = json.loads(_run(facility, archived, "--reason", "wrong sample", "--json").stdout)["word"]
    assert _run(facility, "confirm", archived, word).returncode == 0
    refused = _run(facility, "remove", archived, "wrong")
    assert (refused.returncode, "not the word" in refused.stderr) == (1, True)
    word = json.loads(_run(facility, "remove", archived, "--json").stdout)["word"]
    assert facility.is_published(archived)
    assert _run(facility, "remove", archived, word).returncode == 0
    assert bag_files(facility, archived) == {}


def test_asking_makes_no_share_the_archives(facility: Facility, archived: str, tmp_path: Path) -> None:
    wrong, right = new_share(tmp_path / "wrong"), new_share(tmp_path / "right")
    ledger = facility.tools.ledger

    for options in (("--dry-run",), ()):
        done = _run(facility, archived, "--reason", "x", *options, LTS_COPIES=str(wrong.root))
        assert done.returncode == 0, done.stderr

    assert ledger.remembered("lts_copy_1_identity") is None
    assert _run(facility, archived, "--reason", "x", LTS_COPIES=str(right.root)).returncode == 0
    twice = _run(facility, archived, "--reason", "x", LTS_COPIES=str(facility.lts_root))
    assert (twice.returncode, "is in use already" in twice.stderr) == (1, True)


def test_where_a_login_names_nobody_each_step_wants_to_know_who_is_at_work(facility: Facility, archived: str) -> None:
    shared = {"RETIRE_BY_REQUIRED": "true"}

    def without_by(*arguments: str) -> None:
        refused = _run(facility, *arguments, **shared)
        assert (refused.returncode, "Give your name: --by NAME" in refused.stderr) == (1, True)
        blank = _run(facility, *arguments, "--by", " ", **shared)
        assert (blank.returncode, "--by NAME" in blank.stderr) == (1, True)

    without_by(archived, "--reason", "wrong sample")
    asked = _run(facility, archived, "--reason", "wrong sample", "--by", "Ada", "--json", **shared)
    word = json.loads(asked.stdout)["word"]
    without_by("confirm", archived, word)
    assert stage(facility, archived) is Stage.EMPTIED
    assert _run(facility, "confirm", archived, word, "--by", "Bo", **shared).returncode == 0
    without_by("restore", archived)
    without_by("remove", archived)
    without_by("remove", archived, "--dry-run")

    assert events(facility, archived) == ["0001-retired.json"]
    (listed,) = json.loads(_run(facility, "list", "--json", **shared).stdout)["datasets"]
    assert listed["by"] == "Ada, confirmed by Bo"


def test_a_user_without_a_name_must_say_who_is_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    login = who(None, must_be_said=False)
    assert login.endswith(f"@{socket.gethostname()}")
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000_001)

    with pytest.raises(CommandError, match="--by NAME"):
        who(None, must_be_said=False)

    assert who(" Ada ", must_be_said=True) == "Ada"


def test_a_copy_that_is_away_makes_the_command_end_with_3(facility: Facility, archived: str, tmp_path: Path) -> None:
    copy = new_share(tmp_path / "copy")
    facility.tools.ledger.remember("lts_copy_1_identity", str(copy.identity))  # as the first copy does
    copies = {"LTS_COPIES": str(copy.root)}
    word = json.loads(_run(facility, archived, "--reason", "x", "--json", **copies).stdout)["word"]
    copy.root.rename(tmp_path / "away")

    done = _run(facility, "confirm", archived, word, "--json", **copies)

    assert done.returncode == 3, done.stderr
    assert str(copy.root) in json.loads(done.stdout)["left"][0]
    (tmp_path / "away").rename(copy.root)
    assert _run(facility, "confirm", archived, **copies).returncode == 0
    assert list(copy.root.rglob("0001-retired.json"))
    forgotten = _run(facility, "restore", archived)
    assert (forgotten.returncode, "1 more shares with copies" in forgotten.stderr) == (1, True)
