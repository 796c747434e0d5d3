"""A ledger that was lost knows again what lies on the share; nobody's work is disturbed, and the share is only read."""

import shutil
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from pydantic import SecretStr

from archiver.config.settings import LedgerSettings
from archiver.local.postgres import PostgresServer
from archiver.workflow.errors import WrongShareError
from archiver.workflow.holdings.reading import PROOF_READ
from archiver.workflow.holdings.rebuilding import (
    Adoption,
    AdoptionOutcome,
    LedgerRebuilding,
)
from archiver.workflow.isolation import ChildProcess
from archiver.workflow.ledger.errors import LedgerNotMigratedError
from archiver.workflow.ledger.facts import LTS_IDENTITY
from archiver.workflow.ledger.ledger import Ledger
from archiver.workflow.ledger.records import DatablockRecord, FixityOutcome, Stage
from archiver.workflow.names import DATASETS_FOLDER, bag_folder
from archiver.workflow.storage.lts import IDENTITY_FILE, ShareAddress
from support.bags import FILES, make_bag, tamper
from support.facility import Facility

A_MINUTE = timedelta(minutes=1)


@pytest.fixture
def rebuildable(ledger_url: str) -> Iterator[Ledger]:
    with Ledger.open(LedgerSettings(ledger_url=SecretStr(ledger_url))) as opened:
        yield opened


Rebuild = Callable[..., list[Adoption]]


@pytest.fixture
def rebuild(rebuildable: Ledger, child: ChildProcess, share: ShareAddress) -> Rebuild:
    """Rebuilds the ledger from the share: what came of each data set."""

    def run(*, verify: bool = False, dry_run: bool = False) -> list[Adoption]:
        work = LedgerRebuilding(rebuildable, child, share, A_MINUTE, verify=verify, dry_run=dry_run)
        work.prepare()
        return list(work.rebuild())

    return run


def _outcomes(found: list[Adoption]) -> dict[str, AdoptionOutcome]:
    return {each.pid: each.outcome for each in found}


def test_every_published_bag_is_adopted_with_its_datablocks(
    share: ShareAddress, rebuildable: Ledger, rebuild: Rebuild
) -> None:
    first, second = make_bag(share, "20.500/a", FILES, {"z": b"last"})
    make_bag(share, "20.500/b", publish=False)
    (share.root / DATASETS_FOLDER / "20.500" / "old" / "datablocks").mkdir(parents=True)

    assert _outcomes(rebuild()) == {
        "20.500/a": AdoptionOutcome.ADOPTED,
        "20.500/b": AdoptionOutcome.NOT_PUBLISHED,
        "20.500/old": AdoptionOutcome.OLDER,
    }

    (record,) = rebuildable.datasets()
    assert (record.pid, record.stage, record.holder) == ("20.500/a", Stage.PUBLISHED, None)
    assert (record.files, record.payload_bytes) == (4, 10009)
    assert record.archived_at is not None
    assert rebuildable.datablocks("20.500/a") == [
        DatablockRecord(
            each.archive_id, "20.500/a", each.index, each.size, each.packed_size, each.files, each.sha256, "", None
        )
        for each in (first, second)
    ]


def test_rebuilding_again_changes_nothing(share: ShareAddress, rebuildable: Ledger, rebuild: Rebuild) -> None:
    make_bag(share, "a")
    rebuild()
    before = rebuildable.datasets(), rebuildable.datablocks("a")

    assert _outcomes(rebuild()) == {"a": AdoptionOutcome.KNOWN}
    assert (rebuildable.datasets(), rebuildable.datablocks("a")) == before


def test_bags_that_were_read_are_noted_as_proven(share: ShareAddress, rebuildable: Ledger, rebuild: Rebuild) -> None:
    (totals,) = make_bag(share, "a")
    rebuild()

    assert _outcomes(rebuild(verify=True)) == {"a": AdoptionOutcome.ADOPTED}

    (datablock,) = rebuildable.datablocks("a")
    assert datablock.proof == PROOF_READ
    assert datablock.verified_at is not None
    checked = rebuildable.last_fixity(totals.archive_id)
    assert checked is not None
    assert (checked.outcome, checked.proof) == (FixityOutcome.OK, PROOF_READ)
    assert _outcomes(rebuild()) == {"a": AdoptionOutcome.KNOWN}
    assert rebuildable.datablocks("a") == [datablock]


def test_a_dry_run_tells_the_same_and_changes_nothing(
    share: ShareAddress, rebuildable: Ledger, rebuild: Rebuild
) -> None:
    make_bag(share, "a")

    assert _outcomes(rebuild(dry_run=True, verify=True)) == {"a": AdoptionOutcome.ADOPTED}

    assert rebuildable.datasets() == []
    assert rebuildable.remembered(LTS_IDENTITY) is None


def test_a_damaged_bag_is_not_adopted(share: ShareAddress, rebuildable: Ledger, rebuild: Rebuild) -> None:
    (altered,) = make_bag(share, "a")
    (missing,) = make_bag(share, "b")
    make_bag(share, "c")
    tamper(share.root / altered.archive_id, b"A", 600)
    (share.root / missing.archive_id).unlink()
    (share.root / bag_folder("c") / "archiver" / "c_0.tar.jsonl").unlink()

    found = rebuild(verify=True)

    assert set(_outcomes(found).values()) == {AdoptionOutcome.DAMAGED}
    for each, word in zip(found, ["is altered", "is missing", "is missing"], strict=True):
        assert word in each.detail
    assert rebuildable.datasets() == []
    checked = rebuildable.last_fixity(altered.archive_id)
    assert checked is not None
    assert checked.outcome is FixityOutcome.DAMAGED


def test_a_data_set_somebody_works_on_is_left_alone(share: ShareAddress, rebuildable: Ledger, rebuild: Rebuild) -> None:
    make_bag(share, "a")
    claim = rebuildable.claim_dataset("a", "a run", A_MINUTE)

    (found,) = rebuild()

    assert found.outcome is AdoptionOutcome.BUSY
    assert "a run" in found.detail
    rebuildable.check_claim(claim)
    rebuildable.release_claim(claim)
    assert _outcomes(rebuild()) == {"a": AdoptionOutcome.ADOPTED}


def test_a_data_set_that_is_archived_by_the_ledger_and_has_no_bag_is_reported(
    share: ShareAddress, rebuildable: Ledger, rebuild: Rebuild
) -> None:
    make_bag(share, "a")
    rebuild()
    before = rebuildable.dataset("a"), rebuildable.datablocks("a")
    (share.root / bag_folder("a") / "bagit.txt").unlink()

    assert [each.outcome for each in rebuild()] == [AdoptionOutcome.NOT_PUBLISHED, AdoptionOutcome.MISSING]

    shutil.rmtree(share.root / bag_folder("a"))
    assert _outcomes(rebuild(verify=True)) == {"a": AdoptionOutcome.MISSING}
    assert (rebuildable.dataset("a"), rebuildable.datablocks("a")) == before


def test_a_ledger_that_records_other_datablocks_is_reported_and_kept(
    share: ShareAddress, rebuildable: Ledger, rebuild: Rebuild
) -> None:
    make_bag(share, "a")
    rebuild()
    claim = rebuildable.claim_dataset("a", "test", A_MINUTE)
    (datablock,) = rebuildable.datablocks("a")
    rebuildable.record_datablock(claim, replace(datablock, sha256="0" * 64))
    rebuildable.release_claim(claim)

    (found,) = rebuild(verify=True)

    assert found.outcome is AdoptionOutcome.DISAGREES
    assert datablock.archive_id in found.detail
    assert rebuildable.datablocks("a") == [replace(datablock, sha256="0" * 64)]


def test_what_a_broken_off_run_noted_gives_way_to_the_bag(
    share: ShareAddress, rebuildable: Ledger, rebuild: Rebuild
) -> None:
    (totals,) = make_bag(share, "a")
    claim = rebuildable.claim_dataset("a", "a run", A_MINUTE)
    rebuildable.record_datablock(claim, DatablockRecord(totals.archive_id, "a", 0, 1, 2, 3, "0" * 64, "", None))
    rebuildable.record_stage(claim, Stage.FAILED, message="broken off")
    rebuildable.release_claim(claim)

    assert _outcomes(rebuild()) == {"a": AdoptionOutcome.ADOPTED}
    (datablock,) = rebuildable.datablocks("a")
    assert datablock.sha256 == totals.sha256


@pytest.mark.parametrize("stage", [Stage.REGISTERED, Stage.EMPTIED, Stage.FAILED])
def test_a_later_stage_is_kept(share: ShareAddress, rebuildable: Ledger, rebuild: Rebuild, stage: Stage) -> None:
    make_bag(share, "a")
    rebuild()
    claim = rebuildable.claim_dataset("a", "a run", A_MINUTE)
    rebuildable.record_stage(claim, stage, message="as it was")
    rebuildable.release_claim(claim)

    rebuild(verify=True)

    record = rebuildable.dataset("a")
    assert record is not None
    assert (record.stage, record.message) == (stage, "as it was")


def test_the_share_becomes_that_of_a_ledger_without_one(
    share: ShareAddress, rebuildable: Ledger, rebuild: Rebuild
) -> None:
    rebuild()

    assert rebuildable.remembered(LTS_IDENTITY) == str(share.identity)


@pytest.mark.parametrize("dry_run", [True, False])
def test_the_ledger_of_another_share_is_refused(
    share: ShareAddress, rebuildable: Ledger, rebuild: Rebuild, dry_run: bool
) -> None:
    make_bag(share, "a")
    other = str(uuid.uuid4())
    rebuildable.remember(LTS_IDENTITY, other)

    with pytest.raises(WrongShareError, match=other):
        rebuild(dry_run=dry_run)

    assert rebuildable.datasets() == []


def test_an_empty_database_is_given_its_tables(
    postgres: PostgresServer, share: ShareAddress, child: ChildProcess
) -> None:
    make_bag(share, "a")
    name = "without_tables"
    url = postgres.ensure_database(name).replace("postgresql://", "postgresql+psycopg://", 1)
    try:
        with Ledger.open(LedgerSettings(ledger_url=SecretStr(url))) as ledger:
            dry = LedgerRebuilding(ledger, child, share, A_MINUTE, verify=False, dry_run=True)
            with pytest.raises(LedgerNotMigratedError):
                dry.prepare()
            work = LedgerRebuilding(ledger, child, share, A_MINUTE, verify=False, dry_run=False)
            work.prepare()

            assert _outcomes(list(work.rebuild())) == {"a": AdoptionOutcome.ADOPTED}
    finally:
        postgres.drop_database(name)


def test_a_share_that_is_gone_ends_the_work_and_no_data_set_is_called_missing(
    share: ShareAddress, rebuild: Rebuild
) -> None:
    make_bag(share, "a")
    rebuild()
    (share.root / IDENTITY_FILE).unlink()

    with pytest.raises(WrongShareError):
        rebuild()


def test_after_the_ledger_was_lost_archived_data_sets_are_known_again(facility: Facility, child: ChildProcess) -> None:
    """With what the use case of archiving wrote, recorded and would do next."""
    pid = facility.ingest({"a.txt": b"alpha", "sub/b.bin": bytes(50_000)})
    facility.archive(pid)
    before = facility.tools.ledger.datablocks(pid)
    on_share = facility.share_contents()
    facility.tools.ledger.forget_dataset(pid)

    with Ledger.open(facility.ledger_settings) as ledger:
        work = LedgerRebuilding(ledger, child, facility.tools.share, A_MINUTE, verify=False, dry_run=False)
        work.prepare()
        assert _outcomes(list(work.rebuild())) == {pid: AdoptionOutcome.ADOPTED}

    unproven = [replace(each, proof="", verified_at=None) for each in before]
    assert facility.tools.ledger.datablocks(pid) == unproven
    assert facility.archive(pid, "a second job").was_archived
    assert facility.share_contents() == on_share
