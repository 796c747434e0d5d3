"""The catalogue told again from the bags, with a real share and the simulator of SciCat."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest

from archiver.local.scicat.defaults import ARCHIVER
from archiver.workflow.catalogue_repair import CatalogueOutcome, CatalogueRepair, CatalogueState
from archiver.workflow.isolation import ChildProcess
from archiver.workflow.names import archive_id
from support.bags import make_bag, tamper
from support.facility import Facility

TIMEOUT = timedelta(minutes=5)
FILES = {"a.txt": b"alpha", "sub/b.bin": b"\x00\x01" * 500}


@pytest.fixture
def repairing(facility: Facility) -> Iterator[CatalogueRepair]:
    with ChildProcess(60) as child:
        yield CatalogueRepair(facility.tools.catalogue, child, facility.tools.share, "ETHZ")


def repair(repairing: CatalogueRepair, facility: Facility, pid: str) -> CatalogueState:
    return repairing.repair(pid, facility.tools.ledger, "repair", TIMEOUT)


@pytest.fixture
def archived(facility: Facility) -> str:
    """A data set of two datablocks, archived and registered; its pid."""
    pid = facility.ingest(FILES)
    facility.with_settings(archiver_datablock_files=1).archive(pid)
    return pid


def _path(pid: str) -> str:
    return f"v3/datasets/{quote(pid, safe='')}/datablocks"


def registered(facility: Facility, pid: str) -> list[dict[str, Any]]:
    """Datablocks and their files, without the ids that SciCat makes anew with each registration."""

    def without_ids(file: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in file.items() if name not in ("_id", "id")}

    return sorted(
        (
            {"archiveId": each["archiveId"], "files": [without_ids(file) for file in each["dataFileList"]]}
            for each in facility.registered(pid)
        ),
        key=lambda each: str(each["archiveId"]),
    )


def forget(facility: Facility, pid: str, number: int) -> None:
    """Delete a datablock in the catalogue."""
    catalogue, wanted = facility.tools.catalogue, archive_id(pid, number)
    (block,) = (each for each in catalogue.datablocks(pid) if each.archive_id == wanted)
    catalogue.remove_datablock(pid, block)


def test_what_was_archived_is_good(repairing: CatalogueRepair, facility: Facility, archived: str) -> None:
    assert repairing.check(archived) == CatalogueState(archived, CatalogueOutcome.GOOD)
    assert repair(repairing, facility, archived).outcome is CatalogueOutcome.GOOD


def test_datablocks_that_are_missing_are_registered_from_the_bag(
    repairing: CatalogueRepair, facility: Facility, archived: str
) -> None:
    before = registered(facility, archived)
    forget(facility, archived, 1)
    facility.tools.catalogue.update_lifecycle(archived, {"retrievable": False, "archiveStatusMessage": "started"})
    share = facility.share_contents()

    checked = repairing.check(archived)
    assert (checked.outcome, checked.missing) == (CatalogueOutcome.TO_REPAIR, (archive_id(archived, 1),))
    assert checked.lifecycle == (
        "retrievable is False instead of True",
        "archiveStatusMessage is 'started' instead of 'datasetOnArchiveDisk'",
    )
    assert len(registered(facility, archived)) == 1

    done = repair(repairing, facility, archived)

    assert (done.outcome, done.missing) == (CatalogueOutcome.REPAIRED, checked.missing)
    assert registered(facility, archived) == before
    assert facility.lifecycle(archived)["retrievable"] is True
    assert facility.share_contents() == share
    assert repairing.check(archived).outcome is CatalogueOutcome.GOOD
    record = facility.tools.ledger.dataset(archived)
    assert record is not None
    assert record.holder is None


def test_a_datablock_that_is_wrong_is_replaced_and_one_the_bag_has_not_is_left(
    repairing: CatalogueRepair, facility: Facility, archived: str
) -> None:
    before = registered(facility, archived)
    forget(facility, archived, 0)
    for number, size in ((0, 99), (7, 1)):
        entry = {"path": "other", "size": size, "time": "2024-05-06T07:08:09.000Z", "chk": "ab", "perm": "-rw-r--r--"}
        body = {
            "archiveId": archive_id(archived, number),
            "size": size,
            "packedSize": size,
            "chkAlg": "sha256",
            "version": "1.0",
            "dataFileList": [entry],
        }
        facility.call("POST", _path(archived), body, user=ARCHIVER)

    done = repair(repairing, facility, archived)

    assert done.outcome is CatalogueOutcome.REPAIRED
    (wrong,) = done.wrong
    assert wrong.startswith(f"{archive_id(archived, 0)}: size 99 instead of 5")
    assert [each for each in registered(facility, archived) if "_7." not in each["archiveId"]] == before
    left = repairing.check(archived)
    assert (left.outcome, left.surplus) == (CatalogueOutcome.GOOD, (archive_id(archived, 7),))


def test_nothing_is_told_from_a_bag_that_is_not_what_it_was(
    repairing: CatalogueRepair, facility: Facility, archived: str
) -> None:
    forget(facility, archived, 0)
    tar = facility.lts_root / archive_id(archived, 0)
    tar.chmod(0o644)
    tar.write_bytes(b"cut")

    assert repair(repairing, facility, archived).outcome is CatalogueOutcome.DAMAGED
    assert len(registered(facility, archived)) == 1


def test_an_altered_index_registers_nothing(repairing: CatalogueRepair, facility: Facility, archived: str) -> None:
    forget(facility, archived, 0)
    index = facility.bag(archived) / "archiver" / f"{archive_id(archived, 0).rpartition('/')[2]}.jsonl"
    tamper(index, b"#")

    assert repair(repairing, facility, archived).outcome is CatalogueOutcome.DAMAGED
    assert len(registered(facility, archived)) == 1


def test_a_data_set_somebody_works_on_is_left_alone(
    repairing: CatalogueRepair, facility: Facility, archived: str
) -> None:
    forget(facility, archived, 0)
    facility.tools.ledger.claim_dataset(archived, "a run", TIMEOUT)

    assert repair(repairing, facility, archived).outcome is CatalogueOutcome.BUSY
    assert len(registered(facility, archived)) == 1


def test_data_sets_that_share_or_catalogue_do_not_know_are_told(repairing: CatalogueRepair, facility: Facility) -> None:
    make_bag(facility.tools.share, "20.500/unknown")
    make_bag(facility.tools.share, "20.500/unfinished", publish=False)

    assert repairing.check("20.500/unknown").outcome is CatalogueOutcome.UNKNOWN
    assert repairing.check("20.500/unfinished").outcome is CatalogueOutcome.NOT_ON_SHARE
    assert repairing.check("20.500/nowhere").outcome is CatalogueOutcome.NOT_ON_SHARE


def _run(facility: Facility, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = {
        "PATH": os.environ["PATH"],
        "LTS_ROOT_FOLDER": str(facility.lts_root),
        "LEDGER_URL": facility.ledger_settings.ledger_url.get_secret_value(),
        "SCICAT_ENDPOINT": facility.scicat_url,
        "SCICAT_USER": ARCHIVER,
        "SCICAT_PASSWORD": ARCHIVER,
    }
    command = [sys.executable, "-m", "archiver.cli", "catalogue", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)


def test_operators_see_what_would_be_done_before_they_do_it(facility: Facility, archived: str) -> None:
    forget(facility, archived, 0)

    checked = _run(facility, "check", "--all")
    dry = _run(facility, "repair", "--all", "--dry-run", "--json")
    assert (checked.returncode, dry.returncode) == (3, 3)
    assert f"  missing: {archive_id(archived, 0)}" in checked.stdout.splitlines()
    assert json.loads(dry.stdout)["dry_run"] is True
    assert len(registered(facility, archived)) == 1

    done = _run(facility, "repair", archived, "--apply", "--json")

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["counts"] == {"repaired": 1}
    assert len(registered(facility, archived)) == 2
    assert _run(facility, "check").returncode == 2
