"""Deleting exactly the objects that were meant, and no newer ones of the same name."""

import hashlib
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import structlog

from archiver.workflow.errors import ObjectStoreError
from archiver.workflow.storage.s3_errors import translated
from archiver.workflow.storage.s3_records import StoredObject

log = structlog.get_logger(__name__)

_PASSES = 5
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters an XML 1.0 document, as which many keys are deleted at once, cannot carry."""

Pages = Callable[[str], Iterator[Sequence[StoredObject]]]


class _Wanted:
    """What is to be deleted. There may be 400,000 of them, so a name or ETag is kept as a digest of 16 bytes."""

    def __init__(self, objects: Iterable[StoredObject]) -> None:
        self.folder = ""
        """What all keys begin with, up to a slash."""
        self._etags: dict[bytes, bytes] = {}
        common: str | None = None
        for entry in objects:
            self._etags[_digest(entry.key)] = _digest(entry.etag)
            common = entry.key if common is None else posixpath.commonprefix([common, entry.key])
        if common is not None:
            self.folder = common[: common.rfind("/") + 1]

    def __len__(self) -> int:
        return len(self._etags)

    def names(self, entry: StoredObject) -> bool:
        """Whether it is one of them, in whatever version."""
        return _digest(entry.key) in self._etags

    def __contains__(self, entry: StoredObject) -> bool:
        return self._etags.get(_digest(entry.key)) == _digest(entry.etag)


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).digest()


def delete_unchanged(s3: Any, bucket: str, objects: Iterable[StoredObject], pages_of: Pages) -> list[StoredObject]:
    """Deletes the objects whose ETag still is the one given; what is there under another ETag is returned.

    S3 deletes by name only, so each page of a listing (at most 1000 objects) is compared and deleted at once;
    passes go on until one finds nothing more to delete.

    Raises:
        ObjectStoreError: objects are still there after several passes.
    """
    wanted = _Wanted(objects)
    if not wanted:
        return []
    prefix = wanted.folder
    total = 0
    for _ in range(_PASSES):
        deleted = 0
        others: list[StoredObject] = []
        for page in pages_of(prefix):
            doomed = [entry.key for entry in page if entry in wanted]
            others += [entry for entry in page if entry not in wanted and wanted.names(entry)]
            if doomed:
                _delete(s3, bucket, doomed)
                deleted += len(doomed)
        total += deleted
        if not deleted:
            log.info("objects_deleted", bucket=bucket, prefix=prefix, deleted=total, left_alone=len(others))
            return others
    raise ObjectStoreError(f"S3 still lists objects under {prefix} that it had deleted. Run the work again later.")


def _delete(s3: Any, bucket: str, keys: Sequence[str]) -> None:
    one_by_one = [key for key in keys if _NOT_IN_XML.search(key)]
    for key in one_by_one:
        with translated(f"deleting {key}"):
            s3.delete_object(Bucket=bucket, Key=key)
    together = [key for key in keys if not _NOT_IN_XML.search(key)] if one_by_one else keys
    if together:
        _delete_together(s3, bucket, together)


def _delete_together(s3: Any, bucket: str, keys: Sequence[str]) -> None:
    with translated(f"deleting {len(keys)} objects"):
        answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key} for key in keys], "Quiet": True})
    if failed := answer.get("Errors"):
        reasons = ", ".join(sorted({str(entry.get("Code", "")) for entry in failed}))
        raise ObjectStoreError(
            f"S3 did not delete {len(failed)} of {len(keys)} objects ({reasons}):",
            [entry["Key"] for entry in failed],
        )
