"""Uploads into real S3 servers: the archive's own, and those of clients through signed requests."""

import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import httpx
import pytest
import stamina

from archiver.workflow.errors import UserError
from archiver.workflow.storage.object_store import (
    Checksum,
    CompletedPart,
    ObjectStore,
    SignedRequest,
    UploadRefusedError,
)
from archiver.workflow.storage.s3_checksums import composite_of, sha256_base64
from support.s3_servers import Relay, S3Server

MIB = 1024**2
HOUR = timedelta(hours=1)
PARTS = [os.urandom(5 * MIB), os.urandom(5 * MIB), b"the end"]
COMPOSITE = composite_of(sha256_base64(part) for part in PARTS)


def stream(data: bytes) -> Iterator[bytes]:
    for start in range(0, len(data), 65536):
        yield data[start : start + 65536]


def send(request: SignedRequest, data: bytes) -> httpx.Response:
    """The body in pieces, as the upload edge sends it."""
    with httpx.Client(trust_env=False, timeout=60) as client:
        return client.put(request.url, content=stream(data), headers=dict(request.headers))


def put(url: str, data: bytes, headers: dict[str, str] | None = None) -> httpx.Response:
    return httpx.put(url, content=data, headers=headers, trust_env=False, timeout=60)


def upload_parts(store: ObjectStore, bucket: str, key: str, upload_id: str) -> list[CompletedPart]:
    completed = []
    for number, data in enumerate(PARTS, start=1):
        checksum = sha256_base64(data)
        request = store.signed_put(
            bucket, key, size=len(data), upload_id=upload_id, part=number, checksum_sha256=checksum
        )
        answer = send(request, data)
        assert answer.status_code == 200, answer.text
        completed.append(CompletedPart(number, answer.headers["etag"].strip('"'), checksum))
    return completed


def open_uploads(store: ObjectStore, bucket: str, key: str) -> list[str]:
    return [upload.upload_id for upload in store.list_multiparts(bucket, key)]


def test_parts_written_in_any_order_by_several_threads_are_one_object(store: ObjectStore, bucket: str) -> None:
    with store.multipart_writer(bucket, "tar") as writer:
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(writer.write_part, (3, 1, 2), (memoryview(PARTS[2]), PARTS[0], bytearray(PARTS[1]))))
        head = writer.complete()
    assert head.size == sum(len(part) for part in PARTS)
    assert head.checksum == Checksum(COMPOSITE, tuple(len(part) for part in PARTS))
    assert store.read_small(bucket, "tar", head.etag)[0] == b"".join(PARTS)
    assert open_uploads(store, bucket, "tar") == []


def test_a_writer_that_fails_leaves_nothing(store: ObjectStore, bucket: str) -> None:
    with pytest.raises(ZeroDivisionError), store.multipart_writer(bucket, "tar") as writer:  # noqa: PT012
        writer.write_part(1, PARTS[0])
        assert len(open_uploads(store, bucket, "tar")) == 1
        _ = 1 / 0
    assert open_uploads(store, bucket, "tar") == []
    assert store.head(bucket, "tar") is None


def test_a_writer_goes_on_after_a_broken_connection(relayed_store: ObjectStore, relay: Relay, bucket: str) -> None:
    with stamina.set_testing(True, attempts=3, cap=True), relayed_store.multipart_writer(bucket, "tar") as writer:
        relay.close_connections()
        relay.cuts.extend([1])
        for number, part in enumerate(PARTS, start=1):
            writer.write_part(number, part)
        head = writer.complete()
    assert not relay.cuts
    assert relayed_store.read_small(bucket, "tar", head.etag)[0] == b"".join(PARTS)


def test_a_streamed_object_arrives_with_its_checksum(store: ObjectStore, bucket: str) -> None:
    data = os.urandom(MIB + 1)
    checksum = sha256_base64(data)
    answer = send(store.signed_put(bucket, "a b/ü", size=len(data), checksum_sha256=checksum), data)
    assert answer.status_code == 200, answer.text
    etag = answer.headers["etag"].strip('"')
    assert store.read_small(bucket, "a b/ü", etag) == (data, Checksum(checksum))


def test_a_streamed_object_needs_no_checksum(store: ObjectStore, bucket: str) -> None:
    assert send(store.signed_put(bucket, "plain", size=10), b"0123456789").status_code == 200
    head = store.head(bucket, "plain")
    assert head is not None
    assert head.size == 10


def test_other_bytes_than_the_checksum_says_are_refused(store: ObjectStore, bucket: str) -> None:
    wrong = sha256_base64(b"something else")
    answer = send(store.signed_put(bucket, "bad", size=4, checksum_sha256=wrong), b"data")
    assert answer.status_code == 400
    assert re.search("<Code>(BadDigest|XAmzContentChecksumMismatch)</Code>", answer.text)
    assert store.head(bucket, "bad") is None


def test_other_bytes_of_a_part_are_refused(store: ObjectStore, bucket: str) -> None:
    upload_id = store.create_multipart(bucket, "bad")
    request = store.signed_put(
        bucket, "bad", size=4, upload_id=upload_id, part=1, checksum_sha256=sha256_base64(b"something else")
    )
    answer = send(request, b"data")
    assert answer.status_code == 400
    assert re.search("<Code>(BadDigest|XAmzContentChecksumMismatch)</Code>", answer.text)


def test_a_signed_request_cannot_be_used_for_another_object(store: ObjectStore, bucket: str) -> None:
    request = store.signed_put(bucket, "mine", size=4)
    assert send(SignedRequest(request.url.replace("mine", "other"), request.headers), b"data").status_code == 403


@pytest.mark.parametrize(
    "announced", [COMPOSITE, f"{COMPOSITE}-3", None, ""], ids=["bare", "with-parts", "none", "empty"]
)
def test_an_upload_is_completed_however_its_checksum_is_written(
    store: ObjectStore, bucket: str, announced: str | None
) -> None:
    upload_id = store.create_multipart(bucket, "k/big")
    parts = upload_parts(store, bucket, "k/big", upload_id)
    completed = store.complete_multipart(bucket, "k/big", upload_id, parts[::-1], announced)
    assert completed.head.checksum == Checksum(COMPOSITE, tuple(len(part) for part in PARTS))
    assert "k/big" in completed.location.replace("%2F", "/")
    assert store.read_small(bucket, "k/big", completed.head.etag)[0] == b"".join(PARTS)


def test_completing_again_gives_the_same(store: ObjectStore, bucket: str) -> None:
    upload_id = store.create_multipart(bucket, "big")
    parts = upload_parts(store, bucket, "big", upload_id)
    first = store.complete_multipart(bucket, "big", upload_id, parts, COMPOSITE)
    assert store.complete_multipart(bucket, "big", upload_id, parts, COMPOSITE).head == first.head


def test_what_was_not_uploaded_is_not_completed(store: ObjectStore, bucket: str) -> None:
    upload_id = store.create_multipart(bucket, "big")
    parts = upload_parts(store, bucket, "big", upload_id)
    other = sha256_base64(b"other")
    cases: list[tuple[str, list[CompletedPart], str | None]] = [
        (upload_id, parts, other),
        (upload_id, [*parts[:2], CompletedPart(3, parts[2].etag, other)], None),
        (upload_id, [*parts[:2], CompletedPart(3, "0" * 32, parts[2].checksum_sha256)], None),
        (upload_id, [*parts, CompletedPart(4, parts[0].etag, parts[0].checksum_sha256)], None),
        (upload_id, [CompletedPart(1, parts[0].etag, "not base64!")], None),
    ]
    for used_id, used_parts, announced in cases:
        with pytest.raises(UploadRefusedError):
            store.complete_multipart(bucket, "big", used_id, used_parts, announced)
    assert store.head(bucket, "big") is None
    assert store.complete_multipart(bucket, "big", upload_id, parts).head.size == sum(map(len, PARTS))


def test_an_unknown_upload_is_the_users_error(store: ObjectStore, bucket: str) -> None:
    upload_id = store.create_multipart(bucket, "big")
    parts = upload_parts(store, bucket, "big", upload_id)
    store.abort_multipart(bucket, "big", upload_id)
    with pytest.raises(UserError, match="NoSuchUpload"):
        store.complete_multipart(bucket, "big", upload_id, parts, COMPOSITE)


def test_an_upload_can_be_aborted_twice(store: ObjectStore, bucket: str) -> None:
    upload_id = store.create_multipart(bucket, "big")
    assert open_uploads(store, bucket, "big") == [upload_id]
    store.abort_multipart(bucket, "big", upload_id)
    store.abort_multipart(bucket, "big", upload_id)
    assert open_uploads(store, bucket, "big") == []


def test_presigned_urls_upload_and_download(store: ObjectStore, bucket: str) -> None:
    key = "p/x/1/raw_files/a b+c.tif"
    answer = put(store.presign_put(bucket, key, HOUR), b"content")
    assert answer.status_code == 200, answer.text
    got = httpx.get(store.presign_get(bucket, key, HOUR, 'bl"ock é.tar'), trust_env=False)
    assert (got.status_code, got.content) == (200, b"content")
    assert got.headers["content-disposition"].startswith('attachment; filename="bl_ock ?.tar"')


def test_presigned_parts_become_an_object(store: ObjectStore, bucket: str) -> None:
    upload_id = store.create_multipart(bucket, "big")
    urls = store.presign_parts(bucket, "big", upload_id, len(PARTS), HOUR)
    # A client's checksum header is not signed; servers that refuse it take the SHA-256 of such parts themselves.
    unsigned = store.accepts_unsigned_headers(bucket)
    parts = []
    for number, (url, data) in enumerate(zip(urls, PARTS, strict=True), start=1):
        checksum = sha256_base64(data)
        answer = put(url, data, {"x-amz-checksum-sha256": checksum} if unsigned else None)
        assert answer.status_code == 200, answer.text
        parts.append(CompletedPart(number, answer.headers["etag"].strip('"'), checksum))
    assert len(urls) == len(PARTS)
    head = store.complete_multipart(bucket, "big", upload_id, parts, COMPOSITE).head
    assert store.read_small(bucket, "big", head.etag)[0] == b"".join(PARTS)


def test_an_expired_url_is_refused(store: ObjectStore, bucket: str) -> None:
    assert put(store.presign_put(bucket, "late", timedelta(seconds=-1)), b"x").status_code >= 400
    assert store.head(bucket, "late") is None


def test_the_probe_says_what_a_client_with_a_checksum_header_sees(
    s3_server: S3Server, store: ObjectStore, bucket: str
) -> None:
    headers = {"x-amz-checksum-sha256": sha256_base64(b"content")}
    answer = put(store.presign_put(bucket, "as-the-client", HOUR), b"content", headers)
    assert store.accepts_unsigned_headers(bucket) is (answer.status_code == 200)
    assert store.accepts_unsigned_headers(bucket) is (s3_server.name == "minio")
    assert {entry.key for entry in store.list(bucket, "")} <= {"as-the-client"}


def test_writing_is_refused_where_the_bucket_is_missing(store: ObjectStore, s3: Any) -> None:
    assert put(store.presign_put("no-such-bucket", "k", HOUR), b"x").status_code == 404
    assert "no-such-bucket" not in [found["Name"] for found in s3.list_buckets()["Buckets"]]
