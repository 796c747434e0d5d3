"""A retrieved tar against the files it was made of: every byte, time and mode, as one stream."""

import io
import tarfile
from typing import TYPE_CHECKING

from archiver.workflow.datablocks.digests import new_digest
from archiver.workflow.errors import PermanentError
from archiver.workflow.isolation import Progress
from archiver.workflow.smoke_files import CHUNK, SmokeFiles
from archiver.workflow.storage.object_store import ObjectHead, ObjectStore

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_RANGE = 8 * CHUNK


class DifferenceError(PermanentError):
    """What was retrieved is not what was given."""

    code = "smoke-test-difference"


class _ObjectStream(io.RawIOBase):
    """An object from its beginning, hashed on the way."""

    def __init__(self, store: ObjectStore, bucket: str, head: ObjectHead) -> None:
        self._store = store
        self._bucket = bucket
        self._head = head
        self._fetched = 0
        self.sha256 = new_digest("sha256")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        view = memoryview(buffer).cast("B")
        count = min(len(view), self._head.size - self._fetched)
        if count:
            self._store.read_range_into(self._bucket, self._head.key, self._head.etag, self._fetched, view[:count])
            self.sha256.update(view[:count])
            self._fetched += count
        return count


class Comparison:
    """Retrieved tars against what was given; each entry is taken off the list as it is found."""

    def __init__(self, given: SmokeFiles) -> None:
        self._given = given
        self._files = {file.path: file for file in given.files()}
        self._folders = {folder.path: folder for folder in given.folders()}

    def take(self, progress: Progress, store: ObjectStore, bucket: str, key: str, sha256: str) -> None:
        """Compare one tar in a bucket, whose SHA-256 must be that.

        Raises:
            DifferenceError: something differs, or was not given, or was there before.
        """
        head = store.head(bucket, key)
        if head is None:
            raise DifferenceError(f"{key} was retrieved and is not in the bucket {bucket}.")
        stream = _ObjectStream(store, bucket, head)
        buffered = io.BufferedReader(stream, _RANGE)
        try:
            with tarfile.open(mode="r|", fileobj=buffered, bufsize=CHUNK) as tar:
                for member in tar:
                    self._take_member(progress, tar, member)
        except tarfile.TarError as error:
            raise DifferenceError(f"{key} in the bucket {bucket} cannot be read as a tar: {error}.") from error
        while buffered.read(CHUNK):
            pass  # what follows the end of the tar counts for its SHA-256 too
        if stream.sha256.hexdigest() != sha256:
            raise DifferenceError(f"{key} in the bucket {bucket} has another SHA-256 than was recorded.")

    def finish(self) -> None:
        """Nothing, when all that was given came back.

        Raises:
            DifferenceError: something did not.
        """
        if self._files or self._folders:
            raise DifferenceError("Not everything came back. Missing:", sorted([*self._files, *self._folders]))

    def _take_member(self, progress: Progress, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        expected = (self._folders if member.isdir() else self._files).pop(member.name, None)
        if expected is None or not (member.isdir() or member.isreg()):
            raise DifferenceError("Something came back that was not given, or not like this, or twice:", [member.name])
        for what, before, after in (
            ("size", expected.size, member.size),
            ("modification time", expected.mtime, member.mtime),
            ("mode", f"{expected.mode:04o}", f"{member.mode:04o}"),
        ):
            if before != after:
                raise DifferenceError(
                    f"A file came back with another {what}: {after} instead of {before}.", [member.name]
                )
        content = tar.extractfile(member)
        if content is None:
            return
        for place, chunk in enumerate(self._given.content(expected)):
            if content.read(len(chunk)) != chunk:
                raise DifferenceError(
                    f"A file came back with other bytes, from byte {place * CHUNK:,} on:", [member.name]
                )
            progress(len(chunk))
