"""Sending the files of a data set: eight at a time, large ones in parts, each with its SHA-256."""

import contextlib
import hashlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import BinaryIO, Self

import httpx

from archiver.config.settings import MEBIBYTE
from archiver.local.ingestor.archiver_client import ArchiverClient, SentPart
from archiver.local.ingestor.chunks import (
    DEFAULT_CHUNK_BYTES,
    Part,
    as_base64,
    composite_checksum,
    is_sent_in_parts,
    parts_of,
)
from archiver.local.ingestor.errors import (
    FileChangedError,
    ServerRefusedError,
    ServerUnreachableError,
    UploadStoppedError,
)
from archiver.local.ingestor.http import send, with_patience
from archiver.local.ingestor.listing import ListedEntry, Listing
from archiver.workflow.names import dataset_prefix

FILES_AT_ONCE = 8
PARTS_AT_ONCE = 4
"""Of all large files together."""
_BLOCK = MEBIBYTE
_PUT_TIMEOUT = httpx.Timeout(300.0, connect=10.0)

Progress = Callable[[int, int], None]
"""Told how many more bytes and files are sent; fewer bytes, when some must be sent again. From any thread."""


class FolderUpload:
    """Sends files to the landing zone, never holding more of them than a block for each connection.

    A file is read twice, first for its checksum: should it change in between, S3 refuses it.
    """

    def __init__(
        self,
        client: ArchiverClient,
        pid: str,
        chunk_bytes: int = DEFAULT_CHUNK_BYTES,
        progress: Progress = lambda count, files: None,
    ) -> None:
        self._client = client
        self._pid = pid
        self._prefix = dataset_prefix(pid)
        self._chunk = chunk_bytes
        self._progress = progress
        self._stop = threading.Event()
        connections = FILES_AT_ONCE + PARTS_AT_ONCE
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        self._http = httpx.Client(timeout=_PUT_TIMEOUT, limits=limits)
        self._files = ThreadPoolExecutor(FILES_AT_ONCE, thread_name_prefix="file")
        self._parts = ThreadPoolExecutor(PARTS_AT_ONCE, thread_name_prefix="part")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._files.shutdown(cancel_futures=True)
        self._parts.shutdown(cancel_futures=True)
        self._http.close()

    def send(self, listing: Listing) -> None:
        """Send every file of the listing; the first that fails ends it.

        Raises:
            FileChangedError: a file is not what it was when it was listed.
            ServerRefusedError, ServerUnreachableError: the API or the storage would not have it.
        """
        waiting = iter(listing.uploads)
        lock = threading.Lock()

        def work() -> None:
            while not self._stop.is_set():
                with lock:
                    entry = next(waiting, None)
                if entry is None:
                    return
                self._send_file(entry)

        self._finish([self._files.submit(work) for _ in range(FILES_AT_ONCE)])

    def _finish(self, futures: list[Future[None]]) -> None:
        """Wait for workers; the first error stops them all and is raised."""
        done, _ = wait(futures, return_when=FIRST_EXCEPTION)
        failed = [error for future in done if (error := future.exception()) is not None]
        if failed:
            self._stop.set()
            wait(futures)
            raise next((error for error in failed if not isinstance(error, UploadStoppedError)), failed[0])

    def _send_file(self, entry: ListedEntry) -> None:
        key = self._prefix + entry.path
        parts = parts_of(entry.upload_bytes, self._chunk)
        target = self._client.upload_urls(self._pid, key, len(parts))
        if not is_sent_in_parts(entry.upload_bytes, self._chunk):
            self._put(entry, parts[0], target.urls[0])
        else:
            self._send_parts(entry, key, target.upload_id, parts, target.urls)
        self._progress(0, 1)

    def _send_parts(
        self, entry: ListedEntry, key: str, upload_id: str, parts: list[Part], urls: tuple[str, ...]
    ) -> None:
        complete = False
        try:
            pairs = zip(parts, urls, strict=True)
            futures = [self._parts.submit(self._put, entry, part, url) for part, url in pairs]
            try:
                sent = [future.result() for future in futures]
            finally:
                for future in futures:
                    future.cancel()
                wait(futures)
            # An object of one part has no upload id; it is completed all the same.
            self._client.complete(self._pid, key, upload_id, sent, composite_checksum(part.digest for part in sent))
            complete = True
        finally:
            if not complete and upload_id:
                # What went wrong is already on its way; aborting the data set drops the parts, too.
                with contextlib.suppress(ServerRefusedError, ServerUnreachableError):
                    self._client.abort_multipart(key, upload_id)

    def _put(self, entry: ListedEntry, part: Part, url: str) -> SentPart:
        digest = hashlib.sha256()
        for block in self._blocks(entry, part):
            digest.update(block)
        checksum = as_base64(digest.digest())
        headers = {
            "Content-Type": "",
            "Content-Length": str(part.size),
            "x-amz-checksum-sha256": checksum,
            "x-amz-storage-class": "GLACIER",
        }

        def put() -> httpx.Response:
            sent = 0

            def body() -> Iterator[bytes]:
                nonlocal sent
                for block in self._blocks(entry, part):
                    yield block
                    sent += len(block)
                    self._progress(len(block), 0)

            answered = False
            try:
                answer = send(
                    self._http,
                    "PUT",
                    url,
                    what=f"sending {entry.path!r}",
                    expect=(200,),
                    headers=headers,
                    content=body(),
                )
                answered = True
            finally:
                if not answered:
                    self._progress(-sent, 0)
            return answer

        etag = with_patience(put).headers["etag"].strip('"')
        return SentPart(part.number, etag, digest.digest(), checksum)

    def _blocks(self, entry: ListedEntry, part: Part) -> Iterator[bytes]:
        """The bytes of a part, block by block."""
        with _opened(entry) as file:
            if part.start + part.size > file.seek(0, 2):
                raise FileChangedError("A file became shorter while it was being sent:", [entry.path])
            file.seek(part.start)
            left = part.size
            while left:
                if self._stop.is_set():
                    raise UploadStoppedError("The upload was stopped. Nothing of it is kept.")
                block = file.read(min(_BLOCK, left))
                if not block:
                    raise FileChangedError("A file became shorter while it was being sent:", [entry.path])
                left -= len(block)
                yield block


def _opened(entry: ListedEntry) -> BinaryIO:
    try:
        return entry.source.open("rb")
    except OSError as error:
        raise FileChangedError(f"A file cannot be read any more ({error.strerror}):", [entry.path]) from error
