"""URLs for uploads: straight to the landing storage, or to the upload edge."""

import secrets
from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol

import structlog

from archiver.backend.edge.urls import Ticket, TicketOffice
from archiver.config.settings import ApiConfiguration, UploadMode
from archiver.workflow.errors import ServiceError
from archiver.workflow.storage.object_store import ObjectStore

log = structlog.get_logger(__name__)


class UploadLinks(Protocol):
    """Makes URLs that let their holder PUT an object or its parts for a while."""

    def whole(self, pid: str, key: str, lifetime: timedelta) -> str:
        """A URL for the whole object."""
        ...

    def parts(self, pid: str, key: str, upload_id: str, count: int, lifetime: timedelta) -> Sequence[str]:
        """URLs for parts 1 to `count`, in order."""
        ...


class DirectLinks:
    """Presigned URLs of the landing storage."""

    def __init__(self, store: ObjectStore, bucket: str) -> None:
        self._store = store
        self._bucket = bucket

    def whole(self, pid: str, key: str, lifetime: timedelta) -> str:  # the key says it all
        """A URL for the whole object."""
        return self._store.presign_put(self._bucket, key, lifetime)

    def parts(
        self,
        pid: str,  # the key says it all
        key: str,
        upload_id: str,
        count: int,
        lifetime: timedelta,
    ) -> Sequence[str]:
        """URLs for parts 1 to `count`, in order."""
        return self._store.presign_parts(self._bucket, key, upload_id, count, lifetime)


class EdgeLinks:
    """URLs of the upload edge."""

    def __init__(self, office: TicketOffice) -> None:
        self._office = office

    def whole(self, pid: str, key: str, lifetime: timedelta) -> str:
        """A URL for the whole object."""
        return self._office.url(Ticket(pid, key), lifetime)

    def parts(self, pid: str, key: str, upload_id: str, count: int, lifetime: timedelta) -> Sequence[str]:
        """URLs for parts 1 to `count`, in order."""
        return [self._office.url(Ticket(pid, key, upload_id, part), lifetime) for part in range(1, count + 1)]


def open_office(config: ApiConfiguration) -> TicketOffice:
    """The office of the upload edge's URLs.

    In development the key may be missing: then URLs are good until the process ends. Elsewhere the
    configuration refuses an empty one.
    """
    key = config.landing.upload_edge_key.get_secret_value().encode()
    if not key:
        log.warning("upload_edge_key_missing", consequence="upload URLs end with this process")
        key = secrets.token_bytes(32)
    return TicketOffice(key, config.public_url)


def choose_links(config: ApiConfiguration, store: ObjectStore, office: TicketOffice) -> UploadLinks:
    """The links UPLOAD_MODE asks for; with `auto` direct ones where the landing storage takes the client's headers.

    A storage that cannot be asked gets edge links: they serve every storage.
    """
    bucket = config.store.s3_landingzone_bucket
    mode = config.landing.upload_mode
    if mode is UploadMode.AUTO:
        try:
            mode = UploadMode.DIRECT if store.accepts_unsigned_headers(bucket) else UploadMode.EDGE
        except ServiceError as error:
            log.warning("upload_mode_not_probed", error=str(error), consequence="uploads go through the edge")
            mode = UploadMode.EDGE
    log.info("upload_mode", mode=mode)
    return DirectLinks(store, bucket) if mode is UploadMode.DIRECT else EdgeLinks(office)
