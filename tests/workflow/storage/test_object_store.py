"""The object store against real S3 servers: buckets, listings, heads, deletion."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from archiver.workflow.errors import ObjectStoreError, PermanentError
from archiver.workflow.storage.object_store import (
    Checksum,
    ObjectStore,
    ObjectStoreRefusedError,
    StoredObject,
    Usage,
)
from archiver.workflow.storage.s3_checksums import sha256_base64
from support.s3_servers import S3Server

ODD_NAMES = [
    "a b/c  d.tif",
    "100%/50%25.txt",
    "plus+and&amp;=?#.dat",
    "Zürich/日本語/e\u0301.mrc",
    "~tilde/(brackets)[1]{2}/'quotes\".x",
    "dots/..hidden/...",
    "semi;colon:at@comma,$!*.y",
    "pipe|caret^`<less>.z",
]


def put_many(store: ObjectStore, bucket: str, keys: Sequence[str]) -> list[StoredObject]:
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda key: store.put(bucket, key, key.encode()), keys))


def test_a_bucket_is_made_once_even_when_many_ask(store: ObjectStore, bucket: str, s3: Any) -> None:
    s3.delete_bucket(Bucket=bucket)
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(store.ensure_bucket, [bucket] * 6))
    assert [found["Name"] for found in s3.list_buckets()["Buckets"]].count(bucket) == 1


def test_listing_goes_on_after_the_first_thousand(store: ObjectStore, bucket: str) -> None:
    written = put_many(store, bucket, [f"p/x/1/raw/{number:05}" for number in range(1050)])
    put_many(store, bucket, ["p/x/12/raw/other", "p/x/1.txt"])
    assert sorted(store.list(bucket, "p/x/1/")) == sorted(written)
    assert store.usage(bucket, "p/x/1/") == Usage(1050, sum(entry.size for entry in written))


def test_nothing_under_a_prefix_is_an_empty_listing(store: ObjectStore, bucket: str) -> None:
    assert list(store.list(bucket, "nothing/")) == []
    assert store.usage(bucket, "nothing/") == Usage(0, 0)


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names_are_the_same_in_every_call(store: ObjectStore, bucket: str, name: str) -> None:
    written = store.put(bucket, name, b"content")
    assert list(store.list(bucket, "")) == [written]
    head = store.head(bucket, name)
    assert head is not None
    assert (head.key, head.etag, head.size) == (written.key, written.etag, 7)
    assert store.read_small(bucket, name, written.etag)[0] == b"content"
    assert store.delete(bucket, [written]) == []
    assert list(store.list(bucket, "")) == []


def test_a_head_tells_the_checksum_that_was_uploaded(store: ObjectStore, bucket: str) -> None:
    store.put(bucket, "with", b"some bytes")
    head = store.head(bucket, "with")
    assert head is not None
    assert head.checksum == Checksum(sha256_base64(b"some bytes"))


def test_an_object_uploaded_without_checksum_has_none(store: ObjectStore, bucket: str, s3: Any) -> None:
    s3.put_object(Bucket=bucket, Key="without", Body=b"some bytes")
    head = store.head(bucket, "without")
    assert head is not None
    assert head.checksum is None
    assert store.read_small(bucket, "without", head.etag) == (b"some bytes", None)


def test_the_same_etag_is_told_by_listing_and_head(store: ObjectStore, bucket: str) -> None:
    with store.multipart_writer(bucket, "parts") as writer:
        writer.write_part(1, bytes(5 * 1024**2))
        writer.write_part(2, b"end")
        completed = writer.complete()
    head = store.head(bucket, "parts")
    (listed,) = store.list(bucket, "parts")
    assert head == completed
    assert (listed.key, listed.size, listed.etag) == (completed.key, completed.size, completed.etag)


def test_a_missing_object_is_none_and_nothing_else_is(s3_server: S3Server, store: ObjectStore, bucket: str) -> None:
    assert store.head(bucket, "missing") is None
    wrong = s3_server.settings.model_copy(update={"s3_password": SecretStr("not-the-password")})
    with ObjectStore.open(wrong) as stranger, pytest.raises(ObjectStoreRefusedError, match="S3_PASSWORD"):
        stranger.head(bucket, "missing")


def test_a_server_that_is_away_is_a_transient_error(s3_server: S3Server) -> None:
    away = s3_server.settings.model_copy(update={"s3_endpoint": "http://127.0.0.1:9"})
    with ObjectStore.open(away) as store, pytest.raises(ObjectStoreError, match="S3_ENDPOINT"):
        store.check()


def test_check_wants_the_landing_bucket(s3_server: S3Server, bucket: str) -> None:
    with ObjectStore.open(s3_server.settings.model_copy(update={"s3_landingzone_bucket": bucket})) as good:
        good.check()
    with (
        ObjectStore.open(s3_server.settings.model_copy(update={"s3_landingzone_bucket": "no-such"})) as bad,
        pytest.raises(ObjectStoreRefusedError, match="no-such"),
    ):
        bad.check()


def test_listing_an_unknown_bucket_is_refused(store: ObjectStore) -> None:
    with pytest.raises(ObjectStoreRefusedError, match="NoSuchBucket"):
        list(store.list("no-such-bucket", ""))


def test_missing_settings_are_named(s3_server: S3Server, tmp_path: Path) -> None:
    empty = {"s3_user": SecretStr(""), "s3_password": SecretStr("")}
    with pytest.raises(PermanentError, match="S3_USER, S3_PASSWORD"):
        ObjectStore.open(s3_server.settings.model_copy(update=empty))
    private = {"s3_endpoint": "https://127.0.0.1:9", "s3_ca_file": tmp_path / "missing.pem"}
    with pytest.raises(PermanentError, match="S3_CA_FILE"):
        ObjectStore.open(s3_server.settings.model_copy(update=private))


def test_deletion_spares_what_was_replaced(store: ObjectStore, bucket: str) -> None:
    planned = put_many(store, bucket, ["d/a", "d/b", "d/sub/c"])
    newer = store.put(bucket, "d/b", b"newer content")
    stranger = store.put(bucket, "d/late", b"came later")
    assert store.delete(bucket, planned) == [newer]
    assert sorted(store.list(bucket, "")) == sorted([newer, stranger])


def test_deletion_of_many_leaves_the_neighbours(store: ObjectStore, bucket: str) -> None:
    planned = put_many(store, bucket, [f"p/x/1/{number % 7}/{number}" for number in range(1100)])
    neighbours = put_many(store, bucket, ["p/x/12/a", "p/x/1.txt", "p/x/1-2/b"])
    assert store.delete(bucket, iter(planned)) == []
    assert sorted(store.list(bucket, "")) == sorted(neighbours)


def test_deleting_what_is_gone_changes_nothing(store: ObjectStore, bucket: str) -> None:
    planned = put_many(store, bucket, ["d/a", "d/b"])
    assert store.delete(bucket, planned) == []
    assert store.delete(bucket, planned) == []
    assert store.delete(bucket, []) == []
