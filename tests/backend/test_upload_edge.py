"""The upload edge: what it lets through to the landing storage, and what not."""

import asyncio
import hashlib
import ipaddress
import os
import socket
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from archiver.backend.edge.urls import Ticket
from archiver.backend.links import open_office
from archiver.config.settings import UploadMode
from archiver.workflow.names import dataset_prefix
from support.backend_api import Api, Client, RunApi, put, sha256_base64
from support.s3_servers import Relay

MIB = 1024 * 1024


@pytest.fixture
def pid(api: Api) -> str:
    return api.catalogue.new_dataset()


@pytest.fixture
def ingestor(api: Api, pid: str) -> Client:
    """A client with an open upload of 1 GiB."""
    client = api.client()
    assert client.request_upload(pid).status_code == 201
    return client


def send_raw(url: str, head: dict[str, str], body: bytes) -> bytes:
    """Write a PUT as it is given; what comes back until the server ends the connection."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), timeout=60) as connection:
        connection.sendall(raw_head(url, {**head, "Connection": "close"}) + body)
        answer = b""
        while data := connection.recv(65536):
            answer += data
        return answer


def send_and_leave(url: str, head: dict[str, str], body: bytes) -> None:
    """Write a PUT and end the connection without waiting for an answer."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), timeout=60) as connection:
        connection.sendall(raw_head(url, head) + body)


def raw_head(url: str, head: dict[str, str]) -> bytes:
    parts = urlsplit(url)
    lines = [f"PUT {parts.path} HTTP/1.1", f"Host: {parts.netloc}", *(f"{name}: {head[name]}" for name in head)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def held_bytes(api: Api, pid: str) -> int:
    upload = api.ledger.find_upload(pid)
    assert upload is not None
    return upload.held_bytes


def test_urls_of_the_edge_lead_to_the_api(api: Api, pid: str, ingestor: Client) -> None:
    _, (url,) = ingestor.urls(pid, "a.txt")
    assert url.startswith(f"{api.base}/s3/edge/")


def test_a_body_is_stored_with_its_checksum_and_the_etag_comes_back(api: Api, pid: str, ingestor: Client) -> None:
    data = os.urandom(3 * MIB)
    _, (url,) = ingestor.urls(pid, "a.bin")
    answer = put(url, data)
    assert answer.status_code == 200
    assert answer.headers["ETag"].strip('"') == hashlib.md5(data).hexdigest()
    head = api.store.head(api.bucket, dataset_prefix(pid) + "a.bin")
    assert head is not None
    assert head.checksum is not None
    assert (head.size, head.checksum.sha256_base64) == (3 * MIB, sha256_base64(data))
    assert held_bytes(api, pid) == 3 * MIB


def test_an_empty_file_is_stored(api: Api, pid: str, ingestor: Client) -> None:
    _, (url,) = ingestor.urls(pid, "empty")
    assert put(url, b"").status_code == 200
    assert api.landed(pid) == {"empty": 0}


def test_a_body_without_checksum_is_stored(api: Api, pid: str, ingestor: Client) -> None:
    _, (url,) = ingestor.urls(pid, "a")
    assert b"200 OK" in send_raw(url, {"Content-Length": "4"}, b"data")
    assert api.landed(pid) == {"a": 4}


def test_a_file_can_be_sent_again(api: Api, pid: str, ingestor: Client) -> None:
    _, (url,) = ingestor.urls(pid, "a")
    assert [put(url, data).status_code for data in (b"first", b"second, longer")] == [200, 200]
    assert api.landed(pid) == {"a": 14}
    assert held_bytes(api, pid) == 14


def test_odd_names_arrive_as_they_are(api: Api, pid: str, ingestor: Client) -> None:
    names = ["a b+c%20&=?.txt", "ümläut/日本.bin", "a;b,c'd\"e", "~tilde", "x" * 200]
    for name in names:
        _, (url,) = ingestor.urls(pid, name)
        assert put(url, b"x").status_code == 200, name
    assert set(api.landed(pid)) == set(names)


def test_other_bytes_than_the_checksum_says_are_refused_in_the_storages_words(
    api: Api, pid: str, ingestor: Client
) -> None:
    _, (url,) = ingestor.urls(pid, "a")
    answer = put(url, b"data", x_amz_checksum_sha256=sha256_base64(b"other"))
    assert answer.status_code == 400
    assert "<Code>BadDigest</Code>" in answer.text
    assert answer.headers["content-type"].startswith("application/xml")
    assert api.landed(pid) == {}


@pytest.mark.parametrize("checksum", ["no base64!", "c2hvcnQ=", ""])
def test_a_checksum_that_is_none_is_refused(pid: str, ingestor: Client, checksum: str) -> None:
    _, (url,) = ingestor.urls(pid, "a")
    answer = put(url, b"data", x_amz_checksum_sha256=checksum)
    assert (answer.status_code, "<Code>InvalidDigest</Code>" in answer.text) == (400, True)


def test_a_body_of_unknown_length_is_411(api: Api, pid: str, ingestor: Client) -> None:
    _, (url,) = ingestor.urls(pid, "a")
    answer = send_raw(url, {"Transfer-Encoding": "chunked"}, b"4\r\ndata\r\n0\r\n\r\n")
    assert b" 411 " in answer
    assert b"<Code>MissingContentLength</Code>" in answer
    assert api.landed(pid) == {}


def test_more_than_was_reserved_is_refused_before_a_byte_is_sent_on(api: Api, pid: str, ingestor: Client) -> None:
    _, (url,) = ingestor.urls(pid, "a")
    # The body is never sent: the answer comes for the announcement alone.
    head = {"Content-Length": str(1024 * MIB + 1), "Expect": "100-continue"}
    answer = send_raw(url, head, b"")
    assert b" 413 " in answer
    assert b"<Code>EntityTooLarge</Code>" in answer
    assert b" 100 " not in answer
    assert held_bytes(api, pid) == 0


def test_more_than_s3_takes_at_once_is_refused(pid: str, ingestor: Client) -> None:
    _, (url,) = ingestor.urls(pid, "a")
    for length in (5 * 1024 * MIB + 1, 10**14):
        answer = send_raw(url, {"Content-Length": str(length)}, b"")
        assert b" 400 " in answer
        assert b"<Code>EntityTooLarge</Code>" in answer


def test_all_objects_together_stay_within_the_reservation(api: Api, pid: str, ingestor: Client) -> None:
    api.ledger.hold_object(pid, dataset_prefix(pid) + "others", 0, 1023 * MIB)
    urls = [ingestor.urls(pid, f"{number}")[1][0] for number in range(8)]
    data = os.urandom(MIB // 4)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda url: put(url, data).status_code, urls))
    assert sorted(answers) == [200] * 4 + [413] * 4
    assert len(api.landed(pid)) == 4


def test_a_body_that_ends_early_is_not_stored(api: Api, pid: str, ingestor: Client) -> None:
    _, (url,) = ingestor.urls(pid, "a")
    for _ in range(4):
        send_and_leave(url, {"Content-Length": str(2 * MIB)}, b"x" * MIB)
    assert put(url, b"whole").status_code == 200
    assert api.landed(pid) == {"a": 5}


def test_bytes_after_the_announced_end_are_not_part_of_the_file(api: Api, pid: str, ingestor: Client) -> None:
    _, (url,) = ingestor.urls(pid, "a")
    assert send_raw(url, {"Content-Length": "4"}, b"data and more").startswith(b"HTTP/1.1 ")
    assert api.landed(pid).get("a", 4) == 4


def test_urls_are_good_for_one_object_and_one_service(api: Api, pid: str, ingestor: Client) -> None:
    _, (url,) = ingestor.urls(pid, "a")
    base, _, ticket = url.rpartition("/")
    payload, signature = ticket.split(".")
    other = open_office(api.config).url(Ticket(pid, "elsewhere"), timedelta(hours=1)).rpartition("/")[2].split(".")[0]
    for forged in (f"{other}.{signature}", f"{payload}.{signature[:-1]}", f"{payload}.", payload, "x", "é.é"):
        answer = put(f"{base}/{forged}", b"data")
        assert (answer.status_code, "<Code>AccessDenied</Code>" in answer.text) == (403, True), forged
    assert api.landed(pid) == {}


def test_a_url_expires(api: Api, pid: str, ingestor: Client) -> None:
    assert ingestor
    expired = open_office(api.config).url(Ticket(pid, dataset_prefix(pid) + "a"), timedelta(seconds=-2))
    answer = put(expired, b"data")
    assert (answer.status_code, "has expired" in answer.text) == (403, True)


def test_a_url_ends_with_its_upload(api: Api, pid: str, ingestor: Client) -> None:
    _, (url,) = ingestor.urls(pid, "a")
    ingestor.post("/s3/abortDatasetUpload", {"dataset_id": pid})
    answer = put(url, b"data")
    assert (answer.status_code, "<Code>OperationAborted</Code>" in answer.text) == (409, True)
    assert api.landed(pid) == {}


def test_the_edge_takes_only_put(pid: str, ingestor: Client) -> None:
    _, (url,) = ingestor.urls(pid, "a")
    path = urlsplit(url).path.removeprefix("/archiver/api/v1")
    assert ingestor.get(path).status_code == 405
    assert ingestor.post(path).status_code == 405


def test_a_storage_that_closes_idle_connections_costs_no_upload(start_api: RunApi, api: Api) -> None:
    inner = urlsplit(api.config.store.s3_endpoint)
    relay = Relay((str(inner.hostname), inner.port or 80))
    try:
        with start_api(store={"s3_endpoint": relay.address}) as through:
            pid = through.catalogue.new_dataset()
            client = through.client()
            client.request_upload(pid)
            for number in range(3):
                _, (url,) = client.urls(pid, f"{number}")
                assert put(url, b"data").status_code == 200
                relay.close_connections()
            assert set(through.landed(pid)) == {"0", "1", "2"}
    finally:
        relay.close()


def test_a_storage_that_breaks_off_is_503_so_that_the_client_tries_again(start_api: RunApi, api: Api) -> None:
    inner = urlsplit(api.config.store.s3_endpoint)
    relay = Relay((str(inner.hostname), inner.port or 80))
    try:
        with start_api(store={"s3_endpoint": relay.address}) as through:
            pid = through.catalogue.new_dataset()
            client = through.client()
            client.request_upload(pid)
            _, (url,) = client.urls(pid, "a")
            # Enough for `100 Continue`, not for the answer.
            relay.cuts.append(len(b"HTTP/1.1 100 Continue\r\n\r\n") + 10)
            answer = put(url, os.urandom(2 * MIB))
            assert (answer.status_code, "<Code>ServiceUnavailable</Code>" in answer.text) == (503, True)
            assert put(url, b"again").status_code == 200
            assert through.landed(pid) == {"a": 5}
    finally:
        relay.close()


def test_other_requests_are_answered_while_bodies_stream(api: Api, pid: str, ingestor: Client) -> None:
    _, (url,) = ingestor.urls(pid, "slow.bin")
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), timeout=60) as slow:
        slow.sendall(f"PUT {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Length: 8\r\n\r\nhalf".encode())
        assert api.anonymous().get("/health/livez").status_code == 200
        _, (other,) = ingestor.urls(pid, "other")
        assert put(other, b"data").status_code == 200
        slow.sendall(b"half")
        assert slow.recv(65536).startswith(b"HTTP/1.1 200 ")
    assert api.landed(pid) == {"slow.bin": 8, "other": 4}


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that only its own file vouches for, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "S3 of the facility")])
    now = datetime.now(UTC)
    alternatives = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(alternatives, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = tmp_path / "certificate.pem", tmp_path / "key.pem"
    files[0].write_bytes(made.public_bytes(Encoding.PEM))
    files[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return files


@contextmanager
def tls_in_front_of(target: tuple[str, int], certificate: Path, key: Path) -> Iterator[str]:
    """An https address that leads to a server without TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    loop = asyncio.new_event_loop()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection(*target)
        await asyncio.gather(pump(reader, inner_writer), pump(inner_reader, writer))

    server = loop.run_until_complete(asyncio.start_server(pass_on, "127.0.0.1", 0, ssl=context))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def end() -> None:
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    asyncio.run_coroutine_threadsafe(end(), loop).result(20)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(20)
    loop.close()


def test_a_storage_with_a_private_certificate_is_reached(
    start_api: RunApi, api: Api, certificate: tuple[Path, Path]
) -> None:
    inner = urlsplit(api.config.store.s3_endpoint)
    with (
        tls_in_front_of((str(inner.hostname), inner.port or 80), *certificate) as endpoint,
        start_api(store={"s3_endpoint": endpoint, "s3_ca_file": certificate[0]}) as through,
    ):
        pid = through.catalogue.new_dataset()
        client = through.client()
        client.request_upload(pid)
        _, (url,) = client.urls(pid, "a")
        assert put(url, os.urandom(2 * MIB)).status_code == 200
        assert through.landed(pid) == {"a": 2 * MIB}


def test_a_storage_with_an_unknown_certificate_gets_nothing(
    start_api: RunApi, api: Api, certificate: tuple[Path, Path]
) -> None:
    inner = urlsplit(api.config.store.s3_endpoint)
    with (
        tls_in_front_of((str(inner.hostname), inner.port or 80), *certificate) as endpoint,
        start_api(store={"s3_endpoint": endpoint}, landing={"upload_mode": UploadMode.EDGE}) as through,
    ):
        pid = through.catalogue.new_dataset()
        client = through.client()
        client.request_upload(pid)
        _, (url,) = client.urls(pid, "a")
        assert put(url, b"data").status_code == 503
        assert through.landed(pid) == {}
