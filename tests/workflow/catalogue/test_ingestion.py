"""Data sets the archive makes for its own tests: created, listed and removed once, whatever happens to the answers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from archiver.local.scicat.defaults import OWNER_GROUP
from archiver.workflow.catalogue.client import Catalogue
from archiver.workflow.catalogue.models import Datablock, DatablockFile, NewDataset, OrigFile
from archiver.workflow.errors import CatalogueError, CatalogueRefusedError, UnknownDatasetError

if TYPE_CHECKING:
    from workflow.catalogue.conftest import Facility

NEW = NewDataset(
    pid="20.500.12345/made/here",
    name="made here",
    owner="archiveManager",
    owner_group="archivemanager",
    contact_email="operators@archiver.invalid",
    source_folder="/nowhere",
    created_at="2026-03-01T12:00:00+00:00",
)
FAULTS: list[dict[str, Any]] = [
    {"drop_connection": True, "after_effect": True},
    {"status": 500, "after_effect": True},
    {"status": 503},
    {"drop_connection": True},
]


def files(count: int) -> list[OrigFile]:
    """Files with checksums, and a folder without."""
    folder = OrigFile("raw", 0, "2026-03-01T12:00:00.000Z", "drwxr-x---", None, None, "", "", "")
    listed = (
        OrigFile(f"raw/{n:06}", 10, "2026-03-01T12:00:00.000Z", "-rw-r--r--", f"{n:064x}", "sha256", "a", "b", "")
        for n in range(count)
    )
    return [folder, *listed]


def datablock(pid: str) -> Datablock:
    return Datablock(f"{pid}_0.tar", 10, 20, "sha256", "1", (DatablockFile("raw/000000", 10, NEW.created_at),))


def test_a_created_data_set_has_no_files_and_cannot_be_archived_yet(catalogue: Catalogue) -> None:
    catalogue.create_dataset(NEW)

    found = catalogue.dataset(NEW.pid)
    assert (found.pid, found.name, found.owner_group) == (NEW.pid, NEW.name, NEW.owner_group)
    assert (found.source_folder, found.contact_email) == (NEW.source_folder, NEW.contact_email)
    assert (found.lifecycle.archivable, found.lifecycle.archive_status) == (False, "filesNotYetAvailable")
    assert catalogue.orig_files(NEW.pid) == []


@pytest.mark.parametrize("fault", FAULTS)
def test_a_data_set_is_created_once(facility: Facility, catalogue: Catalogue, fault: dict[str, Any]) -> None:
    armed = facility.fault(method="POST", path_regex="^/api/v3/datasets$", **fault)

    catalogue.create_dataset(NEW)

    assert facility.fired(armed) == 1
    assert facility.count("datasets") == 1


def test_a_data_set_that_is_there_is_refused_and_left_alone(facility: Facility, catalogue: Catalogue) -> None:
    facility.ingest(NEW.pid)
    before = catalogue.dataset(NEW.pid)

    with pytest.raises(CatalogueRefusedError, match="choose another pid"):
        catalogue.create_dataset(NEW)

    assert catalogue.dataset(NEW.pid) == before


def test_a_data_set_that_scicat_does_not_take_is_refused(facility: Facility, catalogue: Catalogue) -> None:
    with pytest.raises(CatalogueRefusedError, match="e-mail"):
        catalogue.create_dataset(replace(NEW, contact_email="nobody"))
    assert facility.count("datasets") == 0


def test_listed_files_are_read_back_as_they_were_listed(catalogue: Catalogue) -> None:
    catalogue.create_dataset(NEW)
    catalogue.add_orig_files(NEW.pid, files(3))
    assert catalogue.orig_files(NEW.pid) == files(3)


def test_more_files_than_one_list_takes_are_all_listed(facility: Facility, catalogue: Catalogue) -> None:
    catalogue.create_dataset(NEW)

    catalogue.add_orig_files(NEW.pid, files(20_500))

    assert facility.count("origdatablocks") == 2
    assert catalogue.orig_files(NEW.pid) == files(20_500)


@pytest.mark.parametrize("fault", FAULTS)
def test_files_are_listed_once(facility: Facility, catalogue: Catalogue, fault: dict[str, Any]) -> None:
    catalogue.create_dataset(NEW)
    armed = facility.fault(method="POST", path_regex="^/api/v3/origdatablocks$", **fault)

    catalogue.add_orig_files(NEW.pid, files(2))

    assert facility.fired(armed) == 1
    assert facility.count("origdatablocks") == 1


def test_files_of_an_unknown_data_set_are_not_listed(facility: Facility, catalogue: Catalogue) -> None:
    with pytest.raises(UnknownDatasetError):
        catalogue.add_orig_files(NEW.pid, files(1))
    assert facility.count("origdatablocks") == 0


def ingest(catalogue: Catalogue, new: NewDataset) -> None:
    """A data set with files, archived."""
    catalogue.create_dataset(new)
    catalogue.add_orig_files(new.pid, files(1))
    catalogue.add_orig_files(new.pid, files(1))
    catalogue.register_datablock(new.pid, datablock(new.pid))


def test_a_data_set_is_removed_with_its_blocks_and_no_other(facility: Facility, catalogue: Catalogue) -> None:
    other = replace(NEW, pid=f"{NEW.pid}-other", owner_group=OWNER_GROUP)
    ingest(catalogue, NEW)
    ingest(catalogue, other)

    assert catalogue.remove_dataset(NEW.pid)

    assert [facility.count(kind) for kind in ("datasets", "origdatablocks", "datablocks")] == [1, 2, 1]
    assert len(catalogue.orig_files(other.pid)) == 4
    assert not catalogue.remove_dataset(NEW.pid)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("path", ["/datablocks$", "/origdatablocks/", "/datasets/[^/]*$"])
def test_a_lost_answer_does_not_stop_a_removal(
    facility: Facility, catalogue: Catalogue, path: str, fault: dict[str, Any]
) -> None:
    ingest(catalogue, NEW)
    armed = facility.fault(method="DELETE", path_regex=path, **fault)

    assert catalogue.remove_dataset(NEW.pid)

    assert facility.fired(armed) == 1
    assert [facility.count(kind) for kind in ("datasets", "origdatablocks", "datablocks")] == [0, 0, 0]


def test_a_removal_that_was_refused_says_so_and_can_be_made_again(facility: Facility, catalogue: Catalogue) -> None:
    ingest(catalogue, NEW)
    facility.fault(method="DELETE", path_regex="/datasets/[^/]*$", status=403, times=2)

    with pytest.raises(CatalogueRefusedError, match="SCICAT_USER's groups"):
        catalogue.remove_dataset(NEW.pid)

    assert catalogue.remove_dataset(NEW.pid)
    assert facility.count("datasets") == 0


def test_a_removal_that_has_no_effect_is_an_error(facility: Facility) -> None:
    def keeps_everything(exchange: Any, forward: Any) -> tuple[int, bytes]:
        reply: tuple[int, bytes] = (200, b"") if exchange.method == "DELETE" else forward()
        return reply

    facility.ingest(NEW.pid)
    with (
        facility.behind(keeps_everything) as (catalogue, _),
        pytest.raises(CatalogueError, match="still has it"),
    ):
        catalogue.remove_dataset(NEW.pid)
