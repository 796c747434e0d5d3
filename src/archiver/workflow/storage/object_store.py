"""The S3 storage that holds the landing zone and the retrieval bucket. Plain S3: any server."""

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from http.client import HTTPException
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

import boto3  # type: ignore[import-untyped]
import structlog
from botocore.config import Config  # type: ignore[import-untyped]
from botocore.exceptions import ClientError  # type: ignore[import-untyped]

from archiver.config.settings import ObjectStoreSettings
from archiver.workflow.errors import PermanentError
from archiver.workflow.storage.s3_checksums import (
    ASK_FOR_CHECKSUM,
    CHECKSUM_HEADER,
    ChecksumReader,
    sha256_base64,
)
from archiver.workflow.storage.s3_deletion import delete_unchanged
from archiver.workflow.storage.s3_errors import (
    ObjectChangedError,
    ObjectStoreRefusedError,
    UploadRefusedError,
    details,
    passes,
    refusal,
    translated,
    unreachable,
)
from archiver.workflow.storage.s3_http import Answer, Body
from archiver.workflow.storage.s3_listing import pages
from archiver.workflow.storage.s3_multipart import MultipartUploads, MultipartWriter, read_etag
from archiver.workflow.storage.s3_records import (
    Checksum,
    CompletedPart,
    CompletedUpload,
    ObjectHead,
    OpenMultipart,
    SignedRequest,
    StoredObject,
    Usage,
)
from archiver.workflow.storage.s3_signing import Signer
from archiver.workflow.storage.s3_transport import RefusedError, Transport, fill, read_all

__all__ = [
    "Checksum",
    "CompletedPart",
    "CompletedUpload",
    "MultipartWriter",
    "ObjectChangedError",
    "ObjectHead",
    "ObjectStore",
    "ObjectStoreRefusedError",
    "OpenMultipart",
    "SignedRequest",
    "StoredObject",
    "UploadRefusedError",
    "Usage",
]

log = structlog.get_logger(__name__)

Result = TypeVar("Result")

PROBE_PREFIX = ".archiver-probe/"
"""Keys that `accepts_unsigned_headers` writes and deletes again."""
_CHECK_TIMEOUT_S = 5.0
_CHANGED = "Objects were replaced or deleted while they were being read; finish the upload and archive again:"


def _client(settings: ObjectStoreSettings, max_connections: int) -> Any:
    return boto3.session.Session().client(
        "s3",
        endpoint_url=settings.s3_endpoint,
        region_name=settings.s3_region,
        aws_access_key_id=settings.s3_user.get_secret_value(),
        aws_secret_access_key=settings.s3_password.get_secret_value(),
        verify=str(settings.s3_ca_file) if settings.s3_ca_file else None,
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            # Newer defaults add CRC32 to every request, which several servers refuse.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            connect_timeout=10,
            read_timeout=60,
            retries={"mode": "standard", "total_max_attempts": 6},
            max_pool_connections=max_connections,
            tcp_keepalive=True,
            proxies={},
        ),
    )


class ObjectStore:
    """Thread-safe client of one S3 endpoint; `close` it, or use it as a context manager.

    Unless said otherwise, methods raise ObjectStoreError (no good answer after retries: transient),
    ObjectStoreRefusedError (credentials, rights, unknown bucket: permanent) and NoSpaceError. Proxies named
    in the environment are not used.
    """

    def __init__(self, settings: ObjectStoreSettings, max_connections: int) -> None:
        self._settings = settings
        keys = (settings.s3_region, settings.s3_user.get_secret_value(), settings.s3_password.get_secret_value())
        self._signer = Signer(settings.s3_endpoint, *keys)
        self._public_signer = Signer(settings.public_endpoint, *keys)
        self.transport = Transport(self._signer, ca_file=settings.s3_ca_file, max_connections=max_connections)
        """Signed requests to the inner endpoint."""
        self._check_transport = Transport(
            self._signer, ca_file=settings.s3_ca_file, max_connections=4, timeout_s=_CHECK_TIMEOUT_S
        )
        self._s3 = _client(settings, max_connections)
        self._checksums = ChecksumReader(self._s3, self.transport)
        self._uploads = MultipartUploads(self._s3, self.head)

    @classmethod
    def open(cls, settings: ObjectStoreSettings, *, max_connections: int = 32) -> Self:
        """A client with up to `max_connections` requests at once; nothing is sent yet.

        Raises:
            PermanentError: endpoint or credentials are not set, or the CA file cannot be read.
        """
        missing = [name for name in ("s3_endpoint", "s3_user", "s3_password") if not _text(settings, name)]
        if missing:
            raise PermanentError(f"The object store needs {', '.join(missing).upper()}: set them.")
        try:
            return cls(settings, max_connections)
        except OSError as error:
            raise PermanentError(f"S3_CA_FILE {settings.s3_ca_file} cannot be used: {error}.") from error

    def close(self) -> None:
        """Closes idle connections."""
        self.transport.close()
        self._check_transport.close()
        self._s3.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Buckets

    def check(self) -> None:
        """Asks once, without retries and within seconds, whether the landing bucket answers.

        Raises:
            ObjectStoreError, NoSpaceError, ObjectStoreRefusedError: it does not, or refuses.
        """
        bucket = self._settings.s3_landingzone_bucket
        doing = f"asking for the bucket {bucket}"
        try:
            self._check_transport.attempt("HEAD", self._signer.path(bucket), {}, {}, wanted=(200,), read=read_all)
        except RefusedError as error:
            raise error.told(doing) from error
        except (OSError, HTTPException) as error:
            raise unreachable(doing, error) from error

    def ensure_bucket(self, bucket: str) -> None:
        """Makes the bucket where it is missing."""
        region = self._settings.s3_region
        where = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        with translated(f"making the bucket {bucket}"):
            try:
                self._s3.head_bucket(Bucket=bucket)
            except ClientError as error:
                if details(error)[0] != 404:
                    raise
            else:
                return
            try:
                self._s3.create_bucket(Bucket=bucket, **where)
            except ClientError as error:
                if details(error)[1] != "BucketAlreadyOwnedByYou":
                    raise

    # Objects as they are

    def list(self, bucket: str, prefix: str) -> Iterator[StoredObject]:
        """All objects whose key begins with `prefix`, in the server's order (not always sorted)."""
        for page in pages(self.transport, bucket, prefix):
            yield from page

    def usage(self, bucket: str, prefix: str) -> Usage:
        """Number and bytes of the objects under `prefix`."""
        objects = size = 0
        for found in self.list(bucket, prefix):
            objects += 1
            size += found.size
        return Usage(objects, size)

    def head(self, bucket: str, key: str) -> ObjectHead | None:
        """The object, or None when S3 says that it does not exist.

        Raises:
            ObjectStoreError, NoSpaceError, ObjectStoreRefusedError: S3 does not answer, has no room, or refuses.
        """

        def read(response: Answer) -> tuple[int, str, str | None]:
            etag = read_etag(response)
            return int(response.header("content-length") or 0), etag, response.header(CHECKSUM_HEADER)

        doing = f"asking for {key}"
        path = self._signer.path(bucket, key)
        try:
            size, etag, checksum = self.transport.perform(
                doing, "HEAD", path, {}, ASK_FOR_CHECKSUM, wanted=(200,), read=read
            )
        except RefusedError as error:
            if error.status == 404:
                return None
            raise error.told(doing) from error
        return ObjectHead(key, size, etag, self._checksums.from_headers(bucket, key, etag, size, checksum))

    # Payload

    def read_small(self, bucket: str, key: str, etag: str) -> tuple[bytes, Checksum | None]:
        """The whole object that has this ETag, in one request, and the SHA-256 that S3 keeps of it.

        Raises:
            ObjectChangedError: it is gone or has another ETag.
        """

        def read(response: Answer) -> tuple[bytes, str, str | None]:
            found = (response.header("etag") or "").strip('"')
            return read_all(response), found, response.header(CHECKSUM_HEADER)

        headers = {"if-match": f'"{etag}"', **ASK_FOR_CHECKSUM}
        data, found, checksum = self._get(bucket, key, headers, 200, read)
        if found != etag:
            raise ObjectChangedError(_CHANGED, [key])
        return data, self._checksums.from_headers(bucket, key, etag, len(data), checksum)

    def read_whole_into(self, bucket: str, key: str, etag: str, buffer: memoryview) -> Checksum | None:
        """Fills `buffer` (bytes, writable) with the whole object, received in place, in one request.

        The object must be exactly as long. Returns the SHA-256 that S3 keeps of it. After an error the buffer's
        content is undefined.

        Raises:
            ObjectChangedError: it is gone or has another ETag.
        """

        def read(response: Answer) -> tuple[str, str | None]:
            fill(response, buffer)
            return (response.header("etag") or "").strip('"'), response.header(CHECKSUM_HEADER)

        headers = {"if-match": f'"{etag}"', **ASK_FOR_CHECKSUM}
        found, checksum = self._get(bucket, key, headers, 200, read)
        if found != etag:
            raise ObjectChangedError(_CHANGED, [key])
        return self._checksums.from_headers(bucket, key, etag, len(buffer), checksum)

    def read_range_into(self, bucket: str, key: str, etag: str, start: int, buffer: memoryview) -> None:
        """Fills `buffer` (bytes, writable) with the object's bytes from `start` on, received in place.

        After an error its content is undefined.

        Raises:
            ObjectChangedError: the object is gone or has another ETag.
        """
        if not len(buffer):
            return

        def read(response: Answer) -> str:
            fill(response, buffer)
            return (response.header("etag") or "").strip('"')

        headers = {"if-match": f'"{etag}"', "range": f"bytes={start}-{start + len(buffer) - 1}"}
        if self._get(bucket, key, headers, 206, read) != etag:
            raise ObjectChangedError(_CHANGED, [key])

    def put(self, bucket: str, key: str, data: Body) -> StoredObject:
        """Writes an object in one request; S3 checks and keeps its SHA-256.

        Raises:
            ObjectStoreError, NoSpaceError, ObjectStoreRefusedError: S3 does not answer, has no room, or refuses.
        """
        size = memoryview(data).nbytes
        doing = f"writing {key}"
        try:
            etag = self.transport.perform(
                doing,
                "PUT",
                self._signer.path(bucket, key),
                {},
                {CHECKSUM_HEADER: sha256_base64(data), "content-length": str(size)},
                wanted=(200,),
                read=read_etag,
                body=data,
            )
        except RefusedError as error:
            raise error.told(doing) from error
        return StoredObject(key, size, etag)

    def delete(self, bucket: str, objects: Iterable[StoredObject]) -> Sequence[StoredObject]:
        """Deletes those whose ETag still is the one given; the others that are there are left and returned."""
        return delete_unchanged(self._s3, bucket, objects, lambda prefix: pages(self.transport, bucket, prefix))

    # Uploads

    def multipart_writer(self, bucket: str, key: str) -> MultipartWriter:
        """A new object to be written in parts; use it as a context manager."""
        return MultipartWriter(self._uploads, self.transport, bucket, key)

    def create_multipart(self, bucket: str, key: str) -> str:
        """Begins an upload whose parts carry SHA-256; its id."""
        return self._uploads.create(bucket, key)

    def complete_multipart(
        self,
        bucket: str,
        key: str,
        upload_id: str,
        parts: Sequence[CompletedPart],
        checksum: str | None = None,
    ) -> CompletedUpload:
        """Makes the parts of an upload one object; an upload completed before gives the same again.

        `checksum` is the composite SHA-256 in base64, with or without `-N`.

        Raises:
            UploadRefusedError: the upload is unknown, or parts or checksums are not the ones uploaded.
        """
        return self._uploads.complete(bucket, key, upload_id, parts, checksum)

    def abort_multipart(self, bucket: str, key: str, upload_id: str) -> None:
        """Drops an upload and its parts; an unknown one is already gone."""
        self._uploads.abort(bucket, key, upload_id)

    def list_multiparts(self, bucket: str, prefix: str) -> Sequence[OpenMultipart]:
        """Open uploads under `prefix`. MinIO names them only where `prefix` is the whole key."""
        return self._uploads.list_open(bucket, prefix)

    # Signed requests for others

    def presign_get(self, bucket: str, key: str, lifetime: timedelta, filename: str) -> str:
        """A link to download the object under `filename`; for clients outside, 7 days at most."""
        disposition = f'attachment; filename="{filename.encode("ascii", "replace").decode().replace(chr(34), "_")}"'
        if not filename.isascii():
            disposition += f"; filename*=UTF-8''{quote(filename, safe='')}"
        path = self._public_signer.path(bucket, key)
        return self._public_signer.presign("GET", path, {"response-content-disposition": disposition}, lifetime)

    def presign_put(self, bucket: str, key: str, lifetime: timedelta) -> str:
        """A URL to write the object to; for clients outside, 7 days at most."""
        return self._public_signer.presign("PUT", self._public_signer.path(bucket, key), {}, lifetime)

    def presign_parts(self, bucket: str, key: str, upload_id: str, count: int, lifetime: timedelta) -> Sequence[str]:
        """URLs to write parts 1 to `count` of an upload to; for clients outside, 7 days at most."""
        path = self._public_signer.path(bucket, key)
        return self._public_signer.presign_parts(path, upload_id, count, lifetime)

    def signed_put(
        self,
        bucket: str,
        key: str,
        *,
        size: int,
        upload_id: str | None = None,
        part: int | None = None,
        checksum_sha256: str | None = None,
    ) -> SignedRequest:
        """A PUT of `size` bytes, of an object or of part `part` of `upload_id`, to be sent within 15 minutes.

        It goes to the inner endpoint. The body may be streamed; with `checksum_sha256` (base64) S3 refuses
        another body with 400 BadDigest.
        """
        query = {"uploadId": upload_id, "partNumber": str(part)} if upload_id and part else {}
        headers = {"content-length": str(size)}
        if checksum_sha256:
            headers[CHECKSUM_HEADER] = checksum_sha256
        path = self._signer.path(bucket, key)
        url = self._signer.origin + self._signer.target(path, query)
        return SignedRequest(url, self._signer.headers("PUT", path, query, headers))

    def accepts_unsigned_headers(self, bucket: str) -> bool:
        """Whether a presigned PUT with a checksum header that the signature does not cover is taken and kept.

        Clients in the field send one. Tried with a small object, which is deleted again.

        Raises:
            ObjectStoreError, NoSpaceError, ObjectStoreRefusedError: S3 does not answer, has no room, or refuses.
        """
        key = f"{PROBE_PREFIX}{uuid.uuid4()}"
        data = key.encode()
        signed = self._signer.presign("PUT", self._signer.path(bucket, key), {}, timedelta(minutes=5))
        target = signed.removeprefix(self._signer.origin)
        checksum = sha256_base64(data)
        doing = "probing uploads"
        try:
            with self.transport.exchange("PUT", target, {CHECKSUM_HEADER: checksum}, data) as response:
                response.read()
        except (OSError, HTTPException) as error:
            raise unreachable(doing, error) from error
        if passes(response.status, "") or response.status == 404:
            raise refusal(doing, response.status, "", "")
        head = self.head(bucket, key)
        if head is not None:
            self.delete(bucket, [StoredObject(key, head.size, head.etag)])
        return head is not None and head.checksum == Checksum(checksum)

    # Parts of the above

    def _get(
        self,
        bucket: str,
        key: str,
        headers: Mapping[str, str],
        status: int,
        read: Callable[[Answer], Result],
    ) -> Result:
        doing = f"reading {key}"
        path = self._signer.path(bucket, key)
        try:
            return self.transport.perform(doing, "GET", path, {}, headers, wanted=(status,), read=read)
        except RefusedError as error:
            if error.status == 412 or (error.status == 404 and error.code != "NoSuchBucket"):
                raise ObjectChangedError(_CHANGED, [key]) from error
            raise error.told(doing) from error


def _text(settings: ObjectStoreSettings, name: str) -> str:
    value = getattr(settings, name)
    return str(value if isinstance(value, str) else value.get_secret_value())
