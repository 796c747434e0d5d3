"""What the use cases work with, opened from the settings and closed again."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from archiver.config.settings import ArchivingSettings, FlowConfiguration, LtsSettings, ObjectStoreSettings
from archiver.workflow.catalogue.client import Catalogue
from archiver.workflow.isolation import ChildProcess, Progress
from archiver.workflow.ledger.facts import LTS_IDENTITY
from archiver.workflow.ledger.ledger import Ledger
from archiver.workflow.storage.lts import PosixShare, ShareAddress
from archiver.workflow.storage.object_store import ObjectStore


@dataclass(frozen=True)
class Tools:
    """Clients of everything around, and how to use them."""

    store: ObjectStore
    catalogue: Catalogue
    ledger: Ledger
    share: ShareAddress
    store_settings: ObjectStoreSettings
    lts: LtsSettings
    settings: ArchivingSettings
    storage_location: str
    """Name of this archive in the catalogue."""


def read_identity(progress: Progress, root: Path) -> UUID:
    """The identity of the share mounted at `root` (to be run in a child process)."""
    progress(0)
    return PosixShare(root).identity()


def _identity(ledger: Ledger, child: ChildProcess, root: Path, *, has_copies: bool) -> UUID:
    """Of the archive's share: by the ledger, or for the first time by what is mounted."""
    known = ledger.remembered(LTS_IDENTITY)
    if known is not None and has_copies:
        return UUID(known)  # where it is not mounted, whoever only reads has another copy
    return UUID(ledger.remember(LTS_IDENTITY, str(child.call(read_identity, None, root))))


@contextmanager
def open_tools(configuration: FlowConfiguration) -> Iterator[Tools]:
    """Tools for the time of the `with` block.

    The first share ever seen becomes the archive's; from then on no other is accepted.

    Raises:
        WrongShareError: no share is mounted, or another one than before.
    """
    with ExitStack() as stack:
        ledger = stack.enter_context(Ledger.open(configuration.ledger))
        root = configuration.lts.lts_root_folder
        with ChildProcess(configuration.lts.lts_stall_timeout_s) as child:  # for this call alone: it takes 80 MB
            identity = _identity(ledger, child, root, has_copies=bool(configuration.lts.lts_copies))
        address = ShareAddress(root, identity)
        yield Tools(
            store=stack.enter_context(ObjectStore.open(configuration.store)),
            catalogue=stack.enter_context(Catalogue.open(configuration.catalogue)),
            ledger=ledger,
            share=address,
            store_settings=configuration.store,
            lts=configuration.lts,
            settings=configuration.archiving,
            storage_location=configuration.catalogue.storage_location,
        )
