"""Our signatures are botocore's, byte for byte."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import boto3  # type: ignore[import-untyped]
import pytest
from botocore.auth import S3SigV4Auth  # type: ignore[import-untyped]
from botocore.awsrequest import AWSRequest  # type: ignore[import-untyped]
from botocore.config import Config  # type: ignore[import-untyped]
from botocore.credentials import Credentials  # type: ignore[import-untyped]
from hypothesis import given, settings
from hypothesis import strategies as st

from archiver.workflow.storage.s3_signing import Signer

ENDPOINTS = [
    "https://s3.example.org",
    "https://s3.example.org:443",
    "https://s3.example.org:18000",
    "http://[::1]:9000",
    "https://example.org/storage",
]
REGION, USER, PASSWORD = "eu-west-1", "access-key", "secret/key+with=signs"
LIFETIME = timedelta(minutes=10)
KEYS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=60)


def signer(endpoint: str) -> Signer:
    return Signer(endpoint, REGION, USER, PASSWORD)


@pytest.fixture(scope="module", params=ENDPOINTS)
def endpoint(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def botocore_client(endpoint: str) -> Iterator[Any]:
    client = boto3.session.Session().client(
        "s3",
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id=USER,
        aws_secret_access_key=PASSWORD,
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )
    yield client
    client.close()


def moment_of(url: str) -> datetime:
    (stamp,) = parse_qs(urlsplit(url).query)["X-Amz-Date"]
    return datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)


@settings(deadline=None)
@given(key=KEYS)
def test_presigned_puts_are_botocores(botocore_client: Any, endpoint: str, key: str) -> None:
    theirs = botocore_client.generate_presigned_url("put_object", {"Bucket": "b", "Key": key}, 600)
    ours = signer(endpoint)
    assert ours.presign("PUT", ours.path("b", key), {}, LIFETIME, now=moment_of(theirs)) == theirs


@settings(deadline=None)
@given(key=KEYS, filename=KEYS)
def test_presigned_gets_are_botocores(botocore_client: Any, endpoint: str, key: str, filename: str) -> None:
    theirs = botocore_client.generate_presigned_url(
        "get_object", {"Bucket": "b", "Key": key, "ResponseContentDisposition": filename}, 600
    )
    ours = signer(endpoint)
    query = {"response-content-disposition": filename}
    assert ours.presign("GET", ours.path("b", key), query, LIFETIME, now=moment_of(theirs)) == theirs


def test_presigned_parts_are_botocores(botocore_client: Any, endpoint: str) -> None:
    ours = signer(endpoint)
    for number in (1, 2, 10, 10_000):
        theirs = botocore_client.generate_presigned_url(
            "upload_part", {"Bucket": "b", "Key": "k/ü", "UploadId": "an/id==", "PartNumber": number}, 600
        )
        urls = ours.presign_parts(ours.path("b", "k/ü"), "an/id==", number, LIFETIME, now=moment_of(theirs))
        assert len(urls) == number
        assert urls[-1] == theirs


@settings(deadline=None)
@given(key=KEYS, upload_id=KEYS)
def test_signed_headers_are_botocores(endpoint: str, key: str, upload_id: str) -> None:
    ours = signer(endpoint)
    path = ours.path("b", key)
    query = {"uploadId": upload_id, "partNumber": "7"}
    headers = {"x-amz-checksum-sha256": "abc=", "content-length": "12", "range": "bytes=1-2"}
    signed = ours.headers("PUT", path, query, headers)
    request = AWSRequest("PUT", ours.origin + ours.target(path, query), headers=dict(headers))
    request.headers["X-Amz-Content-SHA256"] = "UNSIGNED-PAYLOAD"
    request.headers["X-Amz-Date"] = signed["x-amz-date"]
    request.context["timestamp"] = signed["x-amz-date"]
    auth = S3SigV4Auth(Credentials(USER, PASSWORD), "s3", REGION)
    canonical = auth.canonical_request(request)
    expected = auth.signature(auth.string_to_sign(request, canonical), request)
    assert signed["authorization"].endswith(f"Signature={expected}")
    assert f"SignedHeaders={auth.signed_headers(auth.headers_to_sign(request))}," in signed["authorization"]


def test_a_signer_goes_on_over_midnight() -> None:
    used = signer(ENDPOINTS[0])
    days = [datetime(2026, 3, day, 23, 59, tzinfo=UTC) for day in (1, 2, 1)]
    urls = [used.presign("PUT", "/b/k", {}, LIFETIME, now=day) for day in days]
    assert urls == [signer(ENDPOINTS[0]).presign("PUT", "/b/k", {}, LIFETIME, now=day) for day in days]
    assert urls[0] != urls[1]


def test_no_lifetime_is_longer_than_the_signature_allows() -> None:
    url = signer(ENDPOINTS[0]).presign("PUT", "/b/k", {}, timedelta(days=30))
    assert parse_qs(urlsplit(url).query)["X-Amz-Expires"] == ["604800"]
