"""Space on the long-term storage: asked for before each datablock, waited for with a reason, with a deadline."""

import os
import threading
from dataclasses import replace

import pytest

from archiver.workflow.archiving import Archiving
from archiver.workflow.errors import NoSpaceError
from support.facility import Facility, SpaceNotes
from support.faults_mounts import MAY_MOUNT, small_disk

NO_DISK_HAS = 99.9999
"""Percent that no file system has free."""


def full(facility: Facility, wait_s: float) -> Facility:
    """The facility with a share on which more must stay free than it has."""
    settings = {"lts_free_space_percentage": NO_DISK_HAS, "lts_free_space_timeout_s": wait_s}
    return replace(facility, tools=replace(facility.tools, lts=facility.tools.lts.model_copy(update=settings)))


def test_a_full_share_is_told_with_numbers_after_the_deadline_and_nothing_is_lost(facility: Facility) -> None:
    facility = full(facility, wait_s=0.01)
    pid = facility.ingest({"f": bytes(1000)})
    notes = SpaceNotes(pid)

    with pytest.raises(NoSpaceError, match=r"bytes free; \d+ are to be written and \d+ must stay free.*Make space"):
        Archiving(facility.tools, notes).archive(pid, "run")

    assert any("waiting for space: The long-term storage has" in note for note in notes.told)
    assert facility.landed(pid) == {"f"}
    assert not facility.is_published(pid)


def test_a_run_goes_on_when_there_is_space(facility: Facility) -> None:
    facility = full(facility, wait_s=120)
    pid = facility.ingest({"f": bytes(1000)})
    notes = SpaceNotes(pid)
    ended: list[str] = []
    run = threading.Thread(target=lambda: ended.append(Archiving(facility.tools, notes).archive(pid, "run").message))
    run.start()
    assert notes.waits.wait(60)

    vars(facility.tools.lts)["lts_free_space_percentage"] = 0.0  # in place of an operator who makes space
    run.join(120)

    assert ended
    assert facility.is_published(pid)


if MAY_MOUNT:

    def test_a_share_that_fills_up_while_a_datablock_is_written_is_waited_for_and_the_run_goes_on(
        facility: Facility,
    ) -> None:
        """Others may have written more than there was when this run looked."""
        facility = replace(
            facility,
            tools=replace(facility.tools, lts=facility.tools.lts.model_copy(update={"lts_free_space_timeout_s": 120})),
        )
        pid = facility.ingest({"f": os.urandom(300_000)})
        notes = SpaceNotes(pid)
        payload = facility.bag(pid) / "data"
        payload.mkdir(parents=True)
        ended: list[str] = []
        run = threading.Thread(
            target=lambda: ended.append(Archiving(facility.tools, notes).archive(pid, "run").message)
        )
        # The share's root has room, so that looking tells nothing; the folder of the datablocks has none.
        with small_disk(payload, "100k") as disk:
            run.start()
            assert notes.waits.wait(60)
            assert any("waiting for space: Writing" in note for note in notes.told), notes.told
            disk.change("size=10m")
            run.join(120)
            assert ended
            assert facility.is_published(pid)
            assert facility.landed(pid) == set()
