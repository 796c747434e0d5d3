"""A tar that is written to a bucket while it is made: in parts, checked by S3, its SHA-256 taken on the way."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from types import TracebackType
from typing import Self

import structlog

from archiver.config.settings import MEBIBYTE
from archiver.workflow.datablocks.digests import Bytes, new_digest
from archiver.workflow.isolation import Progress
from archiver.workflow.storage.object_store import ObjectStore
from archiver.workflow.storage.s3_records import CompletedPart

log = structlog.get_logger(__name__)

_STRETCH = 8 * MEBIBYTE
"""Asked for and hashed at once."""
_LEAST_PART = 32 * MEBIBYTE
_MOST_PARTS = 10_000


def part_size(size: int) -> int:
    """Bytes of a part of an upload of `size` bytes: as few as S3's 10,000 parts allow, at least 32 MiB."""
    needed = -(-size // _MOST_PARTS)
    return max(_LEAST_PART, -(-needed // MEBIBYTE) * MEBIBYTE)


def end_other_uploads(store: ObjectStore, bucket: str, key: str, own: str = "") -> None:
    """Uploads of a key that were begun and not ended: of runs that died, for ours has the claim.

    To be asked when ours has begun: where the reply to that was lost and it was begun again, there are two of them.
    """
    for begun in store.list_multiparts(bucket, key):
        if begun.key == key and begun.upload_id != own:
            store.abort_multipart(bucket, key, begun.upload_id)
            log.info("unfinished_upload_ended", bucket=bucket, key=key)


class TarUpload:
    """An object of `size` bytes that appears only by `complete`, and of which nothing stays without it.

    Only for the holder of the claim on it. In memory are at most `window_bytes`, and one part where that is more.
    """

    def __init__(
        self, progress: Progress, store: ObjectStore, bucket: str, key: str, size: int, *, workers: int, window: int
    ) -> None:
        self.offset = 0
        """Bytes so far."""
        self._sha256 = new_digest("sha256")
        self._progress = progress
        self._store = store
        self._bucket = bucket
        self._key = key
        self._size = size
        self._part_size = part_size(size)
        self._parallel = max(1, min(workers, window // self._part_size - 1))
        self._workers = workers
        self._stack = ExitStack()
        self._sending: deque[tuple[Future[CompletedPart], int]] = deque()
        self._part = bytearray()
        self._filled = 0
        self._number = 0

    def __enter__(self) -> Self:
        self._target = self._stack.enter_context(self._store.multipart_writer(self._bucket, self._key))
        end_other_uploads(self._store, self._bucket, self._key, self._target.upload_id)
        self._pool = self._stack.enter_context(ThreadPoolExecutor(self._workers, "upload"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for sending, _ in self._sending:
            sending.cancel()
        self._stack.__exit__(kind, error, trace)

    def space(self, count: int) -> Iterator[memoryview]:
        """Room for the next `count` bytes, in stretches; each must be filled before the next one is asked for.

        Raises:
            ValueError: the tar becomes longer than was announced.
        """
        while count:
            if not self._part:
                self._part = bytearray(min(self._part_size, self._size - self.offset))
                self._filled = 0
                if not self._part:
                    raise ValueError(f"The tar becomes longer than the {self._size} bytes that were announced.")
            view = memoryview(self._part)[self._filled : self._filled + min(count, _STRETCH)]
            yield view
            self._sha256.update(view)
            self._filled += len(view)
            self.offset += len(view)
            count -= len(view)
            self._progress(0)
            if self._filled == len(self._part):
                self._send()

    def write(self, data: Bytes) -> None:
        """Append `data`."""
        done = 0
        source = memoryview(data)
        for view in self.space(len(source)):
            view[:] = source[done : done + len(view)]
            done += len(view)

    def _send(self) -> None:
        self._number += 1
        part, self._part = self._part, bytearray()
        self._sending.append((self._pool.submit(self._target.write_part, self._number, part), len(part)))
        while len(self._sending) > self._parallel:
            self._await_oldest()

    def _await_oldest(self) -> None:
        sending, length = self._sending.popleft()
        sending.result()
        self._progress(length)

    def finish(self) -> str:
        """SHA-256 of the whole, once all of it was sent.

        Raises:
            ValueError: it is not as long as was announced.
        """
        if self.offset != self._size:
            raise ValueError(f"The tar has {self.offset} bytes instead of the {self._size} that were announced.")
        while self._sending:
            self._await_oldest()
        return self._sha256.hexdigest()

    def complete(self) -> None:
        """Make the object appear."""
        self._target.complete()
