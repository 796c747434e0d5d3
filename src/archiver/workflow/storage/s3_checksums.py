"""Checksums as S3 keeps and names them."""

import base64
import binascii
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import structlog
from botocore.exceptions import ClientError  # type: ignore[import-untyped]

from archiver.workflow.storage.s3_errors import (
    ObjectChangedError,
    UploadRefusedError,
    details,
    passes,
    refusal,
)
from archiver.workflow.storage.s3_http import Answer, Body
from archiver.workflow.storage.s3_records import Checksum, CompletedPart
from archiver.workflow.storage.s3_transport import RefusedError, Transport, read_all

log = structlog.get_logger(__name__)

CHECKSUM_HEADER = "x-amz-checksum-sha256"
PARTS_PER_PAGE = 1000
"""SeaweedFS gives no more."""
ASK_FOR_CHECKSUM: Mapping[str, str] = {"x-amz-checksum-mode": "ENABLED"}


def sha256_base64(data: Body) -> str:
    """SHA-256 of `data` in base64, as S3 wants it."""
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


def composite_of(parts: Iterable[str]) -> str:
    """The composite of the parts' SHA-256 (base64, in order), in base64 and without `-N`.

    Raises:
        UploadRefusedError: one of them is not base64.
    """
    try:
        digests = [base64.b64decode(part, validate=True) for part in parts]
    except binascii.Error as error:
        raise UploadRefusedError(f"A part's SHA-256 is not base64: {error}. Send the part again.") from error
    return sha256_base64(b"".join(digests))


def checked_composite(parts: Sequence[CompletedPart], announced: str | None) -> str | None:
    """The composite without `-N` that an upload of `parts` must have, None where it cannot be known.

    Raises:
        UploadRefusedError: `announced` (with or without `-N`) is not the composite of the parts.
    """
    given = announced.partition("-")[0] if announced else None
    checksums = [part.checksum_sha256 for part in parts if part.checksum_sha256]
    if len(checksums) != len(parts):
        return given
    composite = composite_of(checksums)
    if given is not None and given != composite:
        raise UploadRefusedError(
            f"The SHA-256 announced for the whole upload, {announced}, is not the one of its {len(parts)} "
            f"parts, {composite}. Send the checksum of the parts' checksums, or the file again."
        )
    return composite


class ChecksumReader:
    """Finds out what SHA-256 an object has. `s3` is a boto3 client."""

    def __init__(self, s3: Any, transport: Transport) -> None:
        self._s3 = s3
        self._transport = transport

    def from_headers(self, bucket: str, key: str, etag: str, size: int, header: str | None) -> Checksum | None:
        """The checksum that the headers of a GET or HEAD name; the sizes of a composite's parts are asked for."""
        if not header:
            return None
        value, dash, count = header.partition("-")
        if not dash:
            return Checksum(value)
        sizes = (size,) if count == "1" else self._part_sizes(bucket, key, etag, int(count))
        if sum(sizes) != size:
            log.warning("part_sizes_unknown", bucket=bucket, key=key, parts=count, checksum="not usable")
            return None
        return Checksum(value, sizes)

    def _part_sizes(self, bucket: str, key: str, etag: str, count: int) -> tuple[int, ...]:
        sizes = tuple(self._listed_part_sizes(bucket, key, etag))
        return sizes if len(sizes) == count else tuple(self._asked_part_sizes(bucket, key, etag, count))

    def _listed_part_sizes(self, bucket: str, key: str, etag: str) -> Iterable[int]:
        marker = 0
        while True:
            try:
                answer = self._s3.get_object_attributes(
                    Bucket=bucket,
                    Key=key,
                    ObjectAttributes=["ETag", "ObjectParts"],
                    MaxParts=PARTS_PER_PAGE,
                    PartNumberMarker=marker,
                )
            except ClientError as error:
                status, code, message = details(error)
                if passes(status, code) and status != 501:
                    raise refusal(f"reading the parts of {key}", status, code, message) from error
                return  # not every server or policy allows it
            if answer.get("ETag", etag).strip('"') != etag:
                raise ObjectChangedError("An object was replaced while it was being read:", [key])
            listed = answer.get("ObjectParts", {})
            yield from (part["Size"] for part in listed.get("Parts", ()))
            if not listed.get("IsTruncated"):
                return
            marker = listed["NextPartNumberMarker"]

    def _asked_part_sizes(self, bucket: str, key: str, etag: str, count: int) -> Iterable[int]:
        def size(response: Answer) -> int:
            read_all(response)
            return int(response.header("content-length") or 0)

        doing = f"reading the parts of {key}"
        path = self._transport.signer.path(bucket, key)
        for number in range(1, count + 1):
            try:
                yield self._transport.perform(
                    doing,
                    "HEAD",
                    path,
                    {"partNumber": str(number)},
                    {"if-match": f'"{etag}"'},
                    wanted=(200, 206),
                    read=size,
                )
            except RefusedError as error:
                if error.status in (404, 412):
                    raise ObjectChangedError("An object was replaced while it was being read:", [key]) from error
                raise error.told(doing) from error
