"""The archiver's upload API, call by call, in the words of the facility's program."""

import base64
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from archiver.config.settings import GIBIBYTE
from archiver.local.ingestor.errors import NoSpaceInTimeError
from archiver.local.ingestor.http import TIMEOUT, send, what_it_says, with_patience
from archiver.local.ingestor.service_token import ServiceToken

_CREATED = 201
_NO_SPACE = 507


@dataclass(frozen=True, slots=True)
class UploadUrls:
    """Where an object goes."""

    upload_id: str
    """Empty for an object that is sent whole."""
    urls: tuple[str, ...]
    """One for each part, in order."""


@dataclass(frozen=True, slots=True)
class SentPart:
    """A part that S3 has."""

    number: int
    etag: str
    """Without quotes."""
    digest: bytes
    """SHA-256."""
    checksum: str
    """The same in base64."""


class ArchiverClient:
    """The API with a session of the service account. Thread-safe.

    Every method may raise

    - ServerUnreachableError: the API does not answer, or cannot at the moment;
    - ServerRefusedError: it refused.
    """

    def __init__(self, api_url: str, token: ServiceToken, connections: int = 16) -> None:
        self._token = token
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        self._http = httpx.Client(base_url=api_url, timeout=TIMEOUT, limits=limits)

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def request_upload(
        self,
        pid: str,
        size_bytes: int,
        patience_s: float,
        pause_s: float,
        waiting: Callable[[str], None] = lambda reason: None,
    ) -> None:
        """Space in the landing zone for a data set, waited for while there is none.

        Args:
            pid: of the data set.
            size_bytes: announced in whole GiB, rounded down.
            patience_s: how long to wait at most, seconds.
            pause_s: between two requests, seconds.
            waiting: told why, before each pause.

        Raises:
            NoSpaceInTimeError: there was none in that time.
        """
        deadline = time.monotonic() + patience_s
        body = {"dataset_id": pid, "dataset_size_gib": size_bytes // GIBIBYTE}
        while True:
            answer = with_patience(
                lambda: self._post("/s3/requestDatasetUpload", body, f"asking for space for {pid}", _CREATED, _NO_SPACE)
            )
            if answer.status_code == _CREATED:
                return
            if time.monotonic() + pause_s > deadline:
                raise NoSpaceInTimeError(
                    f"The landing zone had no space for {pid} within {patience_s:.0f} s: {what_it_says(answer)}. "
                    "Wait until other data sets are archived, then try again."
                )
            waiting(what_it_says(answer))
            time.sleep(pause_s)

    def upload_urls(self, pid: str, key: str, parts: int) -> UploadUrls:
        """URLs for one object."""
        body = {"dataset_id": pid, "object_name": key, "parts": parts}
        answer = with_patience(lambda: self._post("/s3/presignedUrls", body, f"asking for URLs for {key!r}")).json()
        urls = tuple(base64.b64decode(url).decode("utf-8") for url in answer["urls"])
        return UploadUrls(str(answer["upload_id"]), urls)

    def complete(self, pid: str, key: str, upload_id: str, parts: Sequence[SentPart], checksum: str) -> None:
        """Make the parts one object."""
        body = {
            "dataset_id": pid,
            "object_name": key,
            "upload_id": upload_id,
            "parts": [
                {"part_number": part.number, "etag": part.etag, "checksum_sha256": part.checksum} for part in parts
            ],
            "checksum_sha256": checksum,
        }
        with_patience(lambda: self._post("/s3/completeUpload", body, f"completing {key!r}"))

    def abort_multipart(self, key: str, upload_id: str) -> None:
        """Give the parts of an object up. The facility's program does not say of which data set."""
        body = {"dataset_id": "", "object_name": key, "upload_id": upload_id}
        self._post("/s3/abortMultipartUpload", body, f"giving up {key!r}")

    def finalize(self, pid: str, *, owner_group: str, owner_user: str, contact_email: str, archive: bool) -> None:
        """Say that everything is there; with `archive`, have it archived."""
        body = {
            "dataset_id": pid,
            "create_archiving_job": archive,
            "owner_group": owner_group,
            "owner_user": owner_user,
            "contact_email": contact_email,
        }
        # Not tried again: the first try may have made the job.
        self._post("/s3/finalizeDatasetUpload", body, f"finishing the upload of {pid}")

    def abort(self, pid: str) -> None:
        """Give the whole upload up."""
        with_patience(lambda: self._post("/s3/abortDatasetUpload", {"dataset_id": pid}, f"giving up {pid}"))

    def _post(self, path: str, body: Mapping[str, Any], what: str, *expect: int) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self._token.access_token()}"}
        return send(self._http, "POST", path, what=what, expect=expect or (_CREATED,), headers=headers, json=body)
