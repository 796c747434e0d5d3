"""Catalogue against share: what SciCat must show of an archived data set follows from its bag, and is told again.

The bag is only read. Datablocks that are missing in the catalogue are registered from it, and wrong ones replaced;
what the catalogue has besides is reported and left.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Any

import structlog

from archiver.workflow.archiving import catalogue_datablock, lifecycle_of_archived
from archiver.workflow.catalogue.client import Catalogue
from archiver.workflow.catalogue.documents import datablock_difference
from archiver.workflow.catalogue.models import Datablock
from archiver.workflow.claims import claimed
from archiver.workflow.errors import (
    DamagedError,
    DatasetBusyError,
    UnknownDatasetError,
    UnsafeNameError,
)
from archiver.workflow.holdings.description import members_of
from archiver.workflow.holdings.listing import Holdings, HoldingState
from archiver.workflow.holdings.reading import index_of
from archiver.workflow.holdings.rebuilding import recorded_totals
from archiver.workflow.isolation import ChildProcess
from archiver.workflow.ledger.ledger import Ledger
from archiver.workflow.names import PAYLOAD_FOLDER, bag_folder, check_pid, is_older_layout
from archiver.workflow.retirement import is_of_bag, lifecycle_of_withdrawn
from archiver.workflow.storage.lts import ShareAddress
from archiver.workflow.tombstones import EventKind, find_event

log = structlog.get_logger(__name__)

_MESSAGE = "archiveReturnMessage"
"""Says more than that all is well: what an audit found, say."""
_SINCE_LATER = {"storageLocation"}
"""Unknown to older versions of SciCat."""


class CatalogueOutcome(StrEnum):
    """How catalogue and bag agree."""

    GOOD = "good"
    TO_REPAIR = "to repair"
    REPAIRED = "repaired"
    NOT_ON_SHARE = "not on the share"
    """There is no published bag of it."""
    DAMAGED = "damaged"
    """The bag does not tell what the catalogue must show; nothing is told from it."""
    UNKNOWN = "unknown"
    """The catalogue does not have the data set; its record as it was is in the bag."""
    BUSY = "busy"
    """A run is working on it; left to that run."""


@dataclass(frozen=True, slots=True)
class CatalogueState:
    """A data set's catalogue record beside its bag."""

    pid: str
    outcome: CatalogueOutcome
    missing: tuple[str, ...] = ()
    """Datablocks (archiveId) that the catalogue lacks."""
    wrong: tuple[str, ...] = ()
    """Datablocks that it has otherwise, each with the first difference."""
    surplus: tuple[str, ...] = ()
    """Datablocks that it has and the bag has not; they are left."""
    lifecycle: tuple[str, ...] = ()
    """Fields of the lifecycle that are not those of an archived, or withdrawn, data set."""
    detail: str = ""

    @property
    def lines(self) -> list[str]:
        """What is not as it must be, for people."""
        return [
            *([self.detail] if self.detail else []),
            *(f"missing: {each}" for each in self.missing),
            *(f"wrong: {each}" for each in self.wrong),
            *(f"not in the bag, left as it is: {each}" for each in self.surplus),
            *(f"lifecycle: {each}" for each in self.lifecycle),
        ]


@dataclass(frozen=True, slots=True)
class _Comparison:
    state: CatalogueState
    to_register: tuple[Datablock, ...] = ()
    to_remove: tuple[Datablock, ...] = ()
    """As the catalogue has them."""
    told: Mapping[str, Any] = field(default_factory=dict)
    """What the lifecycle must say."""


class CatalogueRepair:
    """The use case. Safe to repeat, to be broken off, and beside the running service."""

    def __init__(self, catalogue: Catalogue, child: ChildProcess, address: ShareAddress, storage_location: str) -> None:
        self._catalogue = catalogue
        self._child = child
        self._address = address
        self._storage_location = storage_location

    def check(self, pid: str) -> CatalogueState:
        """How the catalogue shows a data set; nothing is changed.

        Raises:
            ArchiverError: the share or the catalogue does not answer.
        """
        return self._compare(pid).state

    def repair(self, pid: str, ledger: Ledger, holder: str, claim_timeout: timedelta) -> CatalogueState:
        """Make the catalogue show what is in the bag; what was wrong, with what became of it.

        Raises:
            ArchiverError: the share, the ledger or the catalogue does not answer, or the catalogue refuses.
        """
        if self._compare(pid).state.outcome is not CatalogueOutcome.TO_REPAIR:
            return self._compare(pid).state
        try:
            with claimed(ledger, pid, holder, claim_timeout):
                found = self._compare(pid)  # again: a run may have ended in between
                if found.state.outcome is CatalogueOutcome.TO_REPAIR:
                    self._put_right(pid, found)
                return CatalogueState(
                    pid, CatalogueOutcome.REPAIRED, found.state.missing, found.state.wrong, (), found.state.lifecycle
                )
        except DatasetBusyError as error:
            return CatalogueState(pid, CatalogueOutcome.BUSY, detail=str(error))

    def _put_right(self, pid: str, found: _Comparison) -> None:
        for block in found.to_remove:
            self._catalogue.remove_datablock(pid, block)
        for block in found.to_register:
            self._catalogue.register_datablock(pid, block)
        if found.state.lifecycle:
            self._catalogue.update_lifecycle(pid, found.told)
        log.info("catalogue_repaired", pid=pid, missing=found.state.missing, wrong=found.state.wrong)

    def _compare(self, pid: str) -> _Comparison:
        def only(outcome: CatalogueOutcome, detail: str) -> _Comparison:
            return _Comparison(CatalogueState(pid, outcome, detail=detail))

        holding = Holdings(self._child, self._address).find(pid)
        if holding is None or not (holding.state is HoldingState.PUBLISHED or holding.state.is_withdrawn):
            held = "nothing" if holding is None else f"a data set that is {holding.state}"
            return only(CatalogueOutcome.NOT_ON_SHARE, f"the share holds {held} under this pid")
        try:
            expected = self._expected(check_pid(pid)) if holding.state.has_bag else []
            told = self._told(pid)
        except (DamagedError, UnsafeNameError) as error:
            return only(CatalogueOutcome.DAMAGED, str(error))
        try:
            registered = {block.archive_id: block for block in self._catalogue.datablocks(pid)}
            lifecycle = self._lifecycle_differences(pid, told)
        except UnknownDatasetError as error:
            return only(
                CatalogueOutcome.UNKNOWN, f"{error} Its record as it was is in the bag: archiver/catalogue.json"
            )
        missing = [block for block in expected if block.archive_id not in registered]
        differing = [
            (block, difference)
            for block in expected
            if block.archive_id in registered
            and (difference := datablock_difference(block, registered[block.archive_id])) is not None
        ]
        ours = {block.archive_id for block in expected}
        gone = [
            block
            for block in registered.values()
            if holding.state is HoldingState.REMOVED and is_of_bag(pid, block.archive_id)
        ]
        ours |= {block.archive_id for block in gone}
        state = CatalogueState(
            pid,
            CatalogueOutcome.TO_REPAIR if missing or differing or gone or lifecycle else CatalogueOutcome.GOOD,
            tuple(block.archive_id for block in missing),
            tuple(
                [f"{block.archive_id}: {difference}" for block, difference in differing]
                + [f"{block.archive_id}: its bag was removed" for block in gone]
            ),
            tuple(sorted(each for each in registered.keys() - ours if not is_older_layout(pid, each))),
            lifecycle,
        )
        return _Comparison(
            state,
            tuple(missing) + tuple(block for block, _ in differing),
            tuple([registered[block.archive_id] for block, _ in differing] + gone),
            told,
        )

    def _expected(self, pid: str) -> list[Datablock]:
        """What the catalogue must list, by the bag."""
        blocks = []
        for totals in self._child.call(recorded_totals, None, self._address, pid):
            path = f"{PAYLOAD_FOLDER}/{totals.archive_id.rpartition('/')[2]}"
            index = f"{bag_folder(pid)}/{index_of(path)}"
            blocks.append(catalogue_datablock(totals, self._child.call(members_of, None, self._address, index)))
        return blocks

    def _told(self, pid: str) -> dict[str, Any]:
        """What the lifecycle must say, by the share; what else there is to say of an archived one is left."""
        event = self._child.call(find_event, None, self._address, pid)
        if event is not None and event.kind.is_withdrawn:
            is_removed = event.kind is EventKind.REMOVED
            return lifecycle_of_withdrawn(event.message, self._storage_location, is_removed=is_removed)
        told = lifecycle_of_archived(self._storage_location)
        return {name: value for name, value in told.items() if name != _MESSAGE}

    def _lifecycle_differences(self, pid: str, told: Mapping[str, Any]) -> tuple[str, ...]:
        found = self._catalogue.dataset(pid).lifecycle.document
        return tuple(
            f"{name} is {found.get(name)!r} instead of {value!r}"
            for name, value in told.items()
            if found.get(name) != value and (name in found or name not in _SINCE_LATER)
        )
