"""Refusals of an S3 server, told as errors of the archive."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]

from archiver.workflow.errors import (
    ArchiverError,
    ChangedDuringArchivingError,
    NoSpaceError,
    ObjectStoreError,
    PermanentError,
    UserError,
)

_NO_SPACE = {"XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "QuotaExceeded", "InsufficientStorage"}
_NOT_AS_SENT = {"BadDigest", "XAmzContentChecksumMismatch", "RequestTimeout", "IncompleteBody"}
_BAD_UPLOAD = {
    "BadDigest",
    "EntityTooLarge",
    "EntityTooSmall",
    "InvalidArgument",
    "InvalidDigest",
    "InvalidPart",
    "InvalidPartOrder",
    "InvalidRequest",
    "MalformedXML",
    "NoSuchUpload",
    "XAmzContentChecksumMismatch",
}
_TIMEOUT_OR_TOO_MANY = {408, 429}


class ObjectChangedError(ChangedDuringArchivingError):
    """An object is not there any more, or not the one the ETag names."""


class UploadRefusedError(UserError):
    """A multipart upload cannot be completed as its uploader asks: unknown, parts or checksums wrong."""

    code = "upload-refused"


class ObjectStoreRefusedError(PermanentError):
    """S3 refuses what the service asks: credentials, rights, an unknown bucket."""

    code = "object-store-refused"


def passes(status: int, code: str) -> bool:
    """Whether the same request may succeed later."""
    return status >= 500 or status in _TIMEOUT_OR_TOO_MANY or code in _NOT_AS_SENT


def told(doing: str, status: int, code: str, message: str) -> str:
    """What S3 answered, as a sentence; `doing` completes "S3: ... failed"."""
    return f"S3: {doing} failed with " + f"{status} {code}: {message}".rstrip(": .") + "."


def refusal(doing: str, status: int, code: str, message: str) -> ArchiverError:
    """The error for an answer of S3 that is not the one wanted."""
    said = told(doing, status, code, message)
    if code in _NO_SPACE or status == 507:
        return NoSpaceError(f"{said} Free space on the storage, or raise the quota.")
    if passes(status, code):
        return ObjectStoreError(f"{said} Check that the storage is healthy; the work can be run again.")
    return ObjectStoreRefusedError(f"{said} Check S3_ENDPOINT, S3_USER, S3_PASSWORD and the bucket.")


def code_in(body: bytes) -> tuple[str, str]:
    """Code and message of an S3 error document; empty where there is none."""
    found = [re.search(rb"<%s>([^<]*)</%s>" % (tag, tag), body) for tag in (b"Code", b"Message")]
    code, message = (match.group(1).decode("utf-8", "replace") if match else "" for match in found)
    return code, message


def details(error: ClientError) -> tuple[int, str, str]:
    """HTTP status, code and message of what boto3 raised."""
    answer = error.response
    return (
        int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)),
        str(answer.get("Error", {}).get("Code", "")),
        str(answer.get("Error", {}).get("Message", "")),
    )


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Errors of boto3 inside the block as errors of the archive.

    Raises:
        ObjectStoreError: no answer, or one that may pass.
        ObjectStoreRefusedError: S3 refuses.
        NoSpaceError: the storage or the bucket is full.
    """
    try:
        yield
    except ClientError as error:
        raise refusal(doing, *details(error)) from error
    except BotoCoreError as error:
        raise unreachable(doing, error) from error


def unreachable(doing: str, error: Exception) -> ObjectStoreError:
    """The error for a request that got no whole answer."""
    return ObjectStoreError(f"S3: {doing} failed: {error}. Check S3_ENDPOINT and that the storage runs.")


def refuses_upload(error: ClientError) -> bool:
    """Whether completing an upload failed for what its uploader sent."""
    status, code, _ = details(error)
    return 400 <= status < 500 and code in _BAD_UPLOAD
