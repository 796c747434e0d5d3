"""Multipart uploads: the archive's own, and the completion of those that clients made through signed URLs."""

import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

import structlog
from botocore.exceptions import ClientError  # type: ignore[import-untyped]

from archiver.workflow.errors import ArchiverError
from archiver.workflow.storage.s3_checksums import CHECKSUM_HEADER, checked_composite, sha256_base64
from archiver.workflow.storage.s3_errors import (
    ObjectStoreRefusedError,
    UploadRefusedError,
    details,
    refuses_upload,
    told,
    translated,
)
from archiver.workflow.storage.s3_http import Answer, Body
from archiver.workflow.storage.s3_records import CompletedPart, CompletedUpload, ObjectHead, OpenMultipart
from archiver.workflow.storage.s3_transport import RefusedError, Transport, read_all

log = structlog.get_logger(__name__)

HeadOf = Callable[[str, str], ObjectHead | None]


class MultipartUploads:
    """Creates, lists, completes and aborts uploads. `s3` is a boto3 client, `head` reads what came of one."""

    def __init__(self, s3: Any, head: HeadOf) -> None:
        self._s3 = s3
        self._head = head

    def create(self, bucket: str, key: str) -> str:
        """A new upload whose parts carry SHA-256; its id."""
        with translated(f"beginning an upload of {key}"):
            answer = self._s3.create_multipart_upload(Bucket=bucket, Key=key, ChecksumAlgorithm="SHA256")
        return str(answer["UploadId"])

    def abort(self, bucket: str, key: str, upload_id: str) -> None:
        """Drops an upload and its parts; an unknown one is already gone."""
        with translated(f"aborting an upload of {key}"):
            try:
                self._s3.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload_id)
            except ClientError as error:
                if details(error)[1] != "NoSuchUpload":
                    raise

    def list_open(self, bucket: str, prefix: str) -> list[OpenMultipart]:
        """Uploads under `prefix` that are neither completed nor aborted."""
        with translated(f"listing uploads under {prefix}"):
            pages = self._s3.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=prefix)
            return [
                OpenMultipart(found["Key"], found["UploadId"], found.get("Initiated"))
                for page in pages
                for found in page.get("Uploads", ())
            ]

    def complete(
        self, bucket: str, key: str, upload_id: str, parts: Sequence[CompletedPart], checksum: str | None
    ) -> CompletedUpload:
        """Makes the parts one object. An upload that a lost reply had completed before counts as completed.

        Raises:
            UploadRefusedError: the upload is unknown, or parts or checksums are not the ones uploaded.
            ObjectStoreRefusedError: S3 refuses otherwise, or does not have what it completed.
        """
        ordered = sorted(parts, key=lambda part: part.number)
        composite = checked_composite(ordered, checksum)
        arguments: dict[str, Any] = {
            "Bucket": bucket,
            "Key": key,
            "UploadId": upload_id,
            "MultipartUpload": {"Parts": [_described(part) for part in ordered]},
        }
        if composite is not None:
            arguments["ChecksumSHA256"] = f"{composite}-{len(ordered)}"
        doing = f"completing the upload of {key}"
        location = ""
        with translated(doing):
            try:
                location = str(self._s3.complete_multipart_upload(**arguments).get("Location", ""))
            except ClientError as error:
                status, code, message = details(error)
                if not refuses_upload(error):
                    raise
                if code != "NoSuchUpload" or not self._is_there(bucket, key, composite):
                    raise UploadRefusedError(
                        f"{told(doing, status, code, message)} The parts or checksums are not those that "
                        "were uploaded: abort this upload and send the file again."
                    ) from error
                log.info("upload_was_already_completed", bucket=bucket, key=key)
        head = self._head(bucket, key)
        if head is None:
            raise ObjectStoreRefusedError(f"S3 completed the upload of {key} and does not have it.")
        return CompletedUpload(head, location)

    def _is_there(self, bucket: str, key: str, composite: str | None) -> bool:
        head = self._head(bucket, key) if composite else None
        return head is not None and head.checksum is not None and head.checksum.sha256_base64 == composite


def _described(part: CompletedPart) -> dict[str, Any]:
    described: dict[str, Any] = {"PartNumber": part.number, "ETag": f'"{part.etag.strip(chr(34))}"'}
    if part.checksum_sha256:
        described["ChecksumSHA256"] = part.checksum_sha256
    return described


class MultipartWriter:
    """An object written in parts, each with its SHA-256; aborted unless `complete` was reached.

    `write_part` may be called from several threads at once. Parts but the last must have 5 MiB or more.
    """

    def __init__(self, uploads: MultipartUploads, transport: Transport, bucket: str, key: str) -> None:
        self._uploads = uploads
        self._transport = transport
        self._bucket = bucket
        self._key = key
        self._lock = threading.Lock()
        self._parts: dict[int, CompletedPart] = {}
        self._upload_id = uploads.create(bucket, key)
        self._done = False

    @property
    def upload_id(self) -> str:
        """The storage's name for this upload."""
        return self._upload_id

    def write_part(self, number: int, data: Body) -> CompletedPart:
        """Sends part `number` (1 to 10,000), which is only read; the storage checks its SHA-256.

        Raises:
            ObjectStoreError, ObjectStoreRefusedError, NoSpaceError
        """
        checksum = sha256_base64(data)
        doing = f"writing part {number} of {self._key}"
        try:
            etag = self._transport.perform(
                doing,
                "PUT",
                self._transport.signer.path(self._bucket, self._key),
                {"partNumber": str(number), "uploadId": self._upload_id},
                {CHECKSUM_HEADER: checksum, "content-length": str(memoryview(data).nbytes)},
                wanted=(200,),
                read=read_etag,
                body=data,
            )
        except RefusedError as error:
            raise error.told(doing) from error
        part = CompletedPart(number, etag, checksum)
        with self._lock:
            self._parts[number] = part
        return part

    def complete(self) -> ObjectHead:
        """Makes the parts written one object.

        Raises:
            ObjectStoreError, ObjectStoreRefusedError, NoSpaceError, UploadRefusedError
        """
        completed = self._uploads.complete(self._bucket, self._key, self._upload_id, list(self._parts.values()), None)
        self._done = True
        return completed.head

    def abort(self) -> None:
        """Drops what was written; nothing happens after `complete`."""
        if not self._done:
            self._done = True
            self._uploads.abort(self._bucket, self._key, self._upload_id)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.abort()
        except ArchiverError as failure:
            if error is None:
                raise
            log.warning("upload_not_aborted", bucket=self._bucket, key=self._key, reason=str(failure))


def read_etag(response: Answer) -> str:
    """The ETag of an answer without payload, without quotes."""
    read_all(response)
    return (response.header("etag") or "").strip('"')
