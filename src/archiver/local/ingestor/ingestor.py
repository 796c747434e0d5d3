"""One folder becomes one data set: created, listed, uploaded, handed over to be archived."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from archiver.local.ingestor.archiver_client import ArchiverClient
from archiver.local.ingestor.catalogue import NewDataset, UserCatalogue
from archiver.local.ingestor.chunks import DEFAULT_CHUNK_BYTES
from archiver.local.ingestor.errors import (
    NothingToUploadError,
    ServerRefusedError,
    ServerUnreachableError,
    TooManyFilesError,
)
from archiver.local.ingestor.listing import Listing
from archiver.local.ingestor.service_token import ServiceToken
from archiver.local.ingestor.upload import FolderUpload, Progress

log = structlog.get_logger(__name__)

MOST_FILES = 400_000
"""Entries a data set may have."""


@dataclass(frozen=True, slots=True)
class IngestorSettings:
    """Where the servers are, and how patient the ingestor is."""

    api_url: str
    """Root of the archiver's API."""
    token_url: str
    """Token endpoint of the identity provider."""
    client_id: str
    """Public client of the identity provider that may refresh tokens."""
    chunk_bytes: int = DEFAULT_CHUNK_BYTES
    """Files of this size and larger are sent in parts of it."""
    space_patience_s: float = 24 * 3600.0
    """How long to wait for space in the landing zone."""
    space_pause_s: float = 600.0
    """Between two requests for space."""


class Ingestor:
    """Ingests in the name of a user of the catalogue."""

    def __init__(self, settings: IngestorSettings, catalogue: UserCatalogue, username: str) -> None:
        self._settings = settings
        self._catalogue = catalogue
        self._username = username

    def create(self, dataset: NewDataset, listing: Listing) -> str:
        """Create the data set in the catalogue and register its files; its pid.

        Raises:
            NothingToUploadError: the listing has no file.
            TooManyFilesError: it has too many entries.
            ServerRefusedError, ServerUnreachableError: SciCat would not have it.
        """
        if not listing.uploads:
            raise NothingToUploadError(
                f"{dataset.source_folder} holds no file that can be archived. Choose a folder with files."
            )
        if len(listing.entries) > MOST_FILES:
            raise TooManyFilesError(
                f"{dataset.source_folder} holds {len(listing.entries)} files and folders, but a data set may have "
                f"{MOST_FILES}. Choose a smaller folder."
            )
        pid = self._catalogue.create_dataset(dataset)
        self._catalogue.register_files(pid, listing.entries)
        log.info("dataset_created", pid=pid, entries=len(listing.entries))
        return pid

    def upload(
        self,
        pid: str,
        dataset: NewDataset,
        listing: Listing,
        progress: Progress = lambda count, files: None,
        waiting: Callable[[str], None] = lambda reason: None,
    ) -> None:
        """Send the files and have the data set archived. An upload that fails, or is interrupted, is given up.

        `waiting` is told why, each time there is no space yet.

        Raises:
            NoSpaceInTimeError: the landing zone stayed full.
            FileChangedError: a file is not what it was when it was listed.
            ServerRefusedError, ServerUnreachableError: a server would not have it.
        """
        settings = self._settings
        token = ServiceToken(settings.api_url, settings.token_url, settings.client_id, self._catalogue.token)
        client = ArchiverClient(settings.api_url, token)
        with contextlib.closing(token), contextlib.closing(client):
            client.request_upload(pid, listing.upload_bytes, settings.space_patience_s, settings.space_pause_s, waiting)
            sent = False
            try:
                with FolderUpload(client, pid, settings.chunk_bytes, progress) as upload:
                    upload.send(listing)
                sent = True
            finally:
                if not sent:
                    self._give_up(client, pid)
            client.finalize(
                pid,
                owner_group=dataset.owner_group,
                owner_user=self._username,
                contact_email=dataset.contact_email,
                archive=True,
            )
        log.info("dataset_uploaded", pid=pid, files=len(listing.uploads), bytes=listing.upload_bytes)

    @staticmethod
    def _give_up(client: ArchiverClient, pid: str) -> None:
        try:
            client.abort(pid)
        except (ServerRefusedError, ServerUnreachableError) as error:
            # What went wrong before is what the user must know; the reservation ends by itself.
            log.warning("upload_not_aborted", pid=pid, error=str(error))
