"""Payload read from real S3 servers, over connections that break."""

import os
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import stamina
from botocore.exceptions import ClientError  # type: ignore[import-untyped]

from archiver.workflow.errors import ObjectStoreError
from archiver.workflow.storage import s3_checksums
from archiver.workflow.storage.object_store import Checksum, ObjectChangedError, ObjectStore
from archiver.workflow.storage.s3_checksums import ChecksumReader, composite_of, sha256_base64
from support.s3_servers import Relay

MIB = 1024**2


@pytest.fixture
def impatient() -> Iterator[None]:
    """Three attempts, without waiting between them."""
    with stamina.set_testing(True, attempts=3, cap=True):
        yield


def read_range(store: ObjectStore, bucket: str, key: str, etag: str, start: int, size: int) -> bytes:
    buffer = bytearray(size)
    store.read_range_into(bucket, key, etag, start, memoryview(buffer))
    return bytes(buffer)


def test_a_small_object_comes_with_its_checksum(store: ObjectStore, bucket: str) -> None:
    for data in (b"", b"x", os.urandom(300_000)):
        written = store.put(bucket, "small", data)
        assert store.read_small(bucket, "small", written.etag) == (data, Checksum(sha256_base64(data)))


def test_a_whole_object_is_received_where_it_is_wanted(store: ObjectStore, bucket: str) -> None:
    for data in (b"", b"x", os.urandom(300_000)):
        written = store.put(bucket, "whole", data)
        place = memoryview(bytearray(b"\xff") * (len(data) + 2))

        checksum = store.read_whole_into(bucket, "whole", written.etag, place[1:-1])

        assert place == b"\xff" + data + b"\xff"
        assert checksum == Checksum(sha256_base64(data))


@pytest.mark.parametrize("difference", [-1, 1])
def test_an_object_that_does_not_fit_exactly_is_an_error(
    store: ObjectStore, bucket: str, impatient: None, difference: int
) -> None:
    written = store.put(bucket, "short", b"0123456789")

    with pytest.raises(ObjectStoreError):
        store.read_whole_into(bucket, "short", written.etag, memoryview(bytearray(10 + difference)))


def test_ranges_are_exactly_what_was_asked_for(store: ObjectStore, bucket: str) -> None:
    data = os.urandom(9 * MIB + 5)
    written = store.put(bucket, "big", data)
    for start, size in ((0, len(data)), (0, 1), (len(data) - 1, 1), (4 * MIB - 3, 2 * MIB), (7, 0)):
        assert read_range(store, bucket, "big", written.etag, start, size) == data[start : start + size]


def test_a_range_beyond_the_end_is_an_error(store: ObjectStore, bucket: str, impatient: None) -> None:
    written = store.put(bucket, "short", b"0123456789")
    with pytest.raises(ObjectStoreError):
        read_range(store, bucket, "short", written.etag, 5, 6)


def test_a_replaced_object_is_not_read(store: ObjectStore, bucket: str) -> None:
    old = store.put(bucket, "x", b"old bytes")
    store.put(bucket, "x", b"new bytes")
    with pytest.raises(ObjectChangedError, match="'x'"):
        store.read_small(bucket, "x", old.etag)
    with pytest.raises(ObjectChangedError, match="'x'"):
        store.read_whole_into(bucket, "x", old.etag, memoryview(bytearray(9)))
    with pytest.raises(ObjectChangedError, match="'x'"):
        read_range(store, bucket, "x", old.etag, 0, 4)


def test_a_deleted_object_has_changed(store: ObjectStore, bucket: str) -> None:
    with pytest.raises(ObjectChangedError, match="'gone'"):
        store.read_small(bucket, "gone", "0" * 32)
    with pytest.raises(ObjectChangedError, match="'gone'"):
        read_range(store, bucket, "gone", "0" * 32, 0, 4)


def test_the_checksum_of_an_uneven_multipart_object_can_be_reproduced(
    store: ObjectStore, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_checksums, "PARTS_PER_PAGE", 2)
    parts = [os.urandom(size) for size in (5 * MIB, 7 * MIB + 1, 6 * MIB, 5 * MIB + 9, 3)]
    with store.multipart_writer(bucket, "uneven") as writer:
        for number, part in enumerate(parts, start=1):
            writer.write_part(number, part)
        head = writer.complete()
    assert head.checksum is not None
    assert head.checksum.part_sizes == tuple(len(part) for part in parts)
    assert head.checksum.sha256_base64 == composite_of(sha256_base64(part) for part in parts)
    assert store.read_small(bucket, "uneven", head.etag) == (b"".join(parts), head.checksum)


class _WithoutAttributes:
    """A client of a server that does not know GetObjectAttributes."""

    def get_object_attributes(self, **_: object) -> dict[str, Any]:
        answer = {"Error": {"Code": "NotImplemented"}, "ResponseMetadata": {"HTTPStatusCode": 501}}
        raise ClientError(answer, "GetObjectAttributes")


def test_part_sizes_are_found_without_object_attributes(store: ObjectStore, bucket: str) -> None:
    with store.multipart_writer(bucket, "uneven") as writer:
        for number, size in enumerate((5 * MIB, 6 * MIB, 3), start=1):
            writer.write_part(number, bytes(size))
        head = writer.complete()
    assert head.checksum is not None
    reader = ChecksumReader(_WithoutAttributes(), store.transport)
    header = f"{head.checksum.sha256_base64}-3"
    assert reader.from_headers(bucket, "uneven", head.etag, head.size, header) == head.checksum


def test_payload_is_received_in_place(store: ObjectStore, bucket: str) -> None:
    written = store.put(bucket, "big", bytes(32 * MIB))
    buffer = memoryview(bytearray(b"\xff") * (32 * MIB))
    tracemalloc.start()
    try:
        store.read_range_into(bucket, "big", written.etag, 0, buffer)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert buffer == bytes(32 * MIB)
    assert peak < MIB


def test_a_broken_connection_is_read_again(relayed_store: ObjectStore, relay: Relay, bucket: str) -> None:
    data = os.urandom(3 * MIB)
    written = relayed_store.put(bucket, "big", data)
    relay.close_connections()
    relay.cuts.extend([2 * MIB, 10])
    assert read_range(relayed_store, bucket, "big", written.etag, 0, len(data)) == data
    assert not relay.cuts
    relay.close_connections()
    relay.cuts.extend([100, MIB])
    assert relayed_store.read_small(bucket, "big", written.etag)[0] == data
    assert not relay.cuts


def test_connections_that_break_every_time_are_a_transient_error(
    relayed_store: ObjectStore, relay: Relay, bucket: str, impatient: None
) -> None:
    written = relayed_store.put(bucket, "big", os.urandom(3 * MIB))
    relay.close_connections()
    relay.cuts.extend([2 * MIB] * 10)
    with pytest.raises(ObjectStoreError, match="reading big"):
        read_range(relayed_store, bucket, "big", written.etag, 0, 3 * MIB)


def test_connections_are_used_again(relayed_store: ObjectStore, relay: Relay, bucket: str) -> None:
    written = relayed_store.put(bucket, "x", b"0123456789")
    for _ in range(20):
        relayed_store.read_small(bucket, "x", written.etag)
        read_range(relayed_store, bucket, "x", written.etag, 2, 5)
        assert relayed_store.head(bucket, "missing") is None
        with pytest.raises(ObjectChangedError):
            relayed_store.read_small(bucket, "x", "0" * 32)
    assert relay.connections == 1


def test_many_threads_read_through_one_client(store: ObjectStore, bucket: str) -> None:
    objects = {f"k{number}": os.urandom(1000 + number) for number in range(40)}
    written = {key: store.put(bucket, key, data) for key, data in objects.items()}

    def read(key: str) -> bool:
        etag = written[key].etag
        whole, _ = store.read_small(bucket, key, etag)
        return whole == objects[key] and read_range(store, bucket, key, etag, 10, 500) == objects[key][10:510]

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(read, list(objects) * 5))
