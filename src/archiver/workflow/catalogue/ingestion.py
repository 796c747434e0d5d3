"""Data sets that the archive itself puts into the catalogue, to test it, and takes out again."""

from collections.abc import Iterator, Sequence
from urllib.parse import quote

import structlog

from archiver.workflow.catalogue.blocks import BlockReader
from archiver.workflow.catalogue.connection import Connection
from archiver.workflow.catalogue.documents import write_new_dataset, write_orig_files
from archiver.workflow.catalogue.models import NewDataset, OrigFile
from archiver.workflow.catalogue.responses import RefusedCallError, unknown_dataset
from archiver.workflow.errors import CatalogueError, CatalogueRefusedError, UnknownDatasetError

log = structlog.get_logger(__name__)

_FILES_IN_A_BLOCK = 20_000


class Ingestion:
    """Creates and removes data sets. See `Catalogue` for what the methods do and raise."""

    def __init__(self, connection: Connection, blocks: BlockReader, prefix: str) -> None:
        """Over `connection`; `prefix` is that of the v3 API."""
        self._connection = connection
        self._blocks = blocks
        self._prefix = prefix

    def create(self, dataset: NewDataset) -> None:
        """Creates it; one that is there already is refused.

        Raises:
            CatalogueRefusedError: there is one of this pid, or SciCat refuses it.
        """
        purpose = f"create the data set {dataset.pid}"
        if self._exists(dataset.pid):
            raise CatalogueRefusedError(
                f"SciCat has a data set {dataset.pid} already. It was left as it is; choose another pid."
            )
        body = write_new_dataset(dataset)

        def create() -> bool:
            self._connection.call("POST", f"{self._prefix}/datasets", purpose, body=body, once=True)
            return True

        self._connection.write(create, lambda: self._exists(dataset.pid) or None, purpose)
        log.info("catalogue_dataset_created", pid=dataset.pid)

    def add_files(self, pid: str, files: Sequence[OrigFile]) -> None:
        """Lists files, in as many origdatablocks as it takes."""
        purpose = f"list files of {pid}"
        for portion in _portions(files):
            body = write_orig_files(pid, portion)
            before = self._block_ids(pid)

            def add(body: object = body) -> bool:
                self._connection.call("POST", f"{self._prefix}/origdatablocks", purpose, body=body, once=True)
                return True

            def added(before: set[str] = before) -> bool | None:
                return bool(self._block_ids(pid) - before) or None

            self._connection.write(add, added, purpose)

    def remove(self, pid: str) -> bool:
        """Removes its blocks and then itself: SciCat would leave them behind.

        Raises:
            CatalogueError: it is still there.
        """
        if not self._exists(pid):
            return False
        self._delete(f"{self._path(pid)}/datablocks", f"remove the datablocks of {pid}")
        for block in self._block_ids(pid):
            path = f"{self._path(pid)}/origdatablocks/{quote(block, safe='')}"
            self._delete(path, f"remove an origdatablock of {pid}")
        self._delete(self._path(pid), f"remove the data set {pid}")
        if self._exists(pid):
            raise CatalogueError(f"SciCat took the removal of {pid} and still has it. Try again.")
        log.info("catalogue_dataset_removed", pid=pid)
        return True

    def _exists(self, pid: str) -> bool:
        try:
            with unknown_dataset(pid):
                self._connection.call("GET", self._path(pid), f"show the data set {pid}")
        except UnknownDatasetError:
            return False
        return True

    def _block_ids(self, pid: str) -> set[str]:
        return {str(block.get("_id") or block.get("id")) for block in self._blocks.headers(pid, "origdatablocks")}

    def _delete(self, path: str, purpose: str) -> None:
        """Deletes; what is gone already, by an earlier try whose answer was lost, is deleted."""
        try:
            self._connection.call("DELETE", path, purpose)
        except RefusedCallError as error:
            if error.status != 404 or error.is_about_the_route:
                raise

    def _path(self, pid: str) -> str:
        return f"{self._prefix}/datasets/{quote(pid, safe='')}"


def _portions(files: Sequence[OrigFile]) -> Iterator[Sequence[OrigFile]]:
    for begin in range(0, len(files), _FILES_IN_A_BLOCK):
        yield files[begin : begin + _FILES_IN_A_BLOCK]
