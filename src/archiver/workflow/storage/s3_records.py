"""What the object store is asked and answers: plain values."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple


class StoredObject(NamedTuple):
    """An object as a listing shows it. `size` in bytes, `etag` without quotes."""

    key: str
    size: int
    etag: str


@dataclass(frozen=True, slots=True)
class Checksum:
    """The SHA-256 that the storage keeps for an object.

    Without `part_sizes` it is the SHA-256 of the whole object; with them it is the composite: the SHA-256 of
    the concatenated SHA-256 of the parts, which are so many bytes long, in order.
    """

    sha256_base64: str
    """Base64, without the `-N` that S3 appends to a composite."""
    part_sizes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ObjectHead:
    """An object as a HEAD shows it; `checksum` is None where the storage keeps no SHA-256."""

    key: str
    size: int
    etag: str
    checksum: Checksum | None = None


@dataclass(frozen=True, slots=True)
class CompletedPart:
    """A part as the uploader reports it: `etag` without quotes, checksum in base64 or None."""

    number: int
    etag: str
    checksum_sha256: str | None = None


@dataclass(frozen=True, slots=True)
class CompletedUpload:
    """What completing a multipart upload gave; `location` is the URL the storage names."""

    head: ObjectHead
    location: str


class OpenMultipart(NamedTuple):
    """A multipart upload that was neither completed nor aborted."""

    key: str
    upload_id: str
    begun_at: datetime | None = None
    """None where the storage does not tell."""


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """A PUT that the storage will take: send the body to `url` with exactly these headers besides Host."""

    url: str
    headers: Mapping[str, str]


class Usage(NamedTuple):
    """What lies under a prefix: number of objects and their bytes."""

    objects: int
    bytes: int
