"""Answers as servers send them, in whatever pieces they arrive."""

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from http.client import HTTPException
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archiver.workflow.storage.s3_http import Answer, BadAnswerError, Connection, TruncatedError


class _Peer:
    """Takes connections and sends to each what the test gave for it, piece by piece, then ends it."""

    def __init__(self) -> None:
        self.received = bytearray()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self._opened: list[Connection] = []

    def connection(self, pieces: Sequence[bytes], *, silent_after: bool = False, timeout_s: float = 10) -> Connection:
        thread = threading.Thread(target=self._serve, args=(list(pieces), silent_after))
        thread.start()
        self._threads.append(thread)
        port = self._listener.getsockname()[1]
        connection = Connection("127.0.0.1", port, None, connect_timeout_s=10, timeout_s=timeout_s)
        self._opened.append(connection)
        return connection

    def _serve(self, pieces: list[bytes], silent_after: bool) -> None:
        accepted, _ = self._listener.accept()
        # A client that gives up leaves what it did not read.
        with accepted, suppress(ConnectionResetError, BrokenPipeError):
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for piece in pieces:
                accepted.sendall(piece)
            if not silent_after:
                accepted.shutdown(socket.SHUT_WR)
            while data := accepted.recv(65536):
                self.received += data

    def close(self) -> None:
        for connection in self._opened:
            connection.close()
        for thread in self._threads:
            thread.join(10)
        self._listener.close()


@pytest.fixture
def peer() -> Iterator[_Peer]:
    opened = _Peer()
    yield opened
    opened.close()


def _cut(content: bytes, cuts: Sequence[int]) -> list[bytes]:
    places = [0, *sorted(cut % (len(content) + 1) for cut in cuts), len(content)]
    return [content[start:end] for start, end in pairwise(places) if start < end]


@settings(max_examples=25, deadline=None)
@given(body=st.binary(max_size=300), cuts=st.lists(st.integers(0, 1000), max_size=6))
def test_an_answer_is_the_same_however_it_is_cut(body: bytes, cuts: Sequence[int]) -> None:
    peer = _Peer()
    try:
        head = f'HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nETag: "x"\r\n\r\n'.encode()
        answer = Answer(peer.connection(_cut(head + body, cuts)), "GET")

        assert (answer.status, answer.header("etag"), answer.length) == (200, '"x"', len(body))
        assert answer.read() == body
        assert answer.is_reusable
    finally:
        peer.close()


def test_a_body_is_received_where_it_is_wanted(peer: _Peer) -> None:
    body = bytes(range(256)) * 4096
    pieces = [f"HTTP/1.1 206 Partial\r\ncontent-length: {len(body)}\r\n\r\n".encode(), body[:70_001], body[70_001:]]
    answer = Answer(peer.connection(pieces), "GET")
    buffer = bytearray(len(body) + 1)

    assert answer.readinto(memoryview(buffer)) == len(body)
    assert buffer[:-1] == body
    assert answer.readinto(memoryview(buffer)) == 0


def test_a_body_that_ends_early_is_told(peer: _Peer) -> None:
    answer = Answer(peer.connection([b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345"]), "GET")

    with pytest.raises(TruncatedError, match="5 of 10"):
        answer.read()
    assert not answer.is_reusable


def test_an_answer_in_chunks_is_put_together(peer: _Peer) -> None:
    large = b"z" * 200_000
    chunks = b"5\r\nhello\r\n30d40;name=value\r\n" + large + b"\r\n0\r\nTrailer: x\r\n\r\n"
    answer = Answer(peer.connection([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", chunks]), "GET")

    assert answer.read() == b"hello" + large
    assert answer.is_reusable


@pytest.mark.parametrize(
    "chunks", [b"5\r\nhel", b"5\r\nhello", b"3\r\nhello\r\n0\r\n\r\n", b"x\r\nhello\r\n", b"5\r\nhello\r\n"]
)
def test_chunks_that_do_not_add_up_are_an_error(peer: _Peer, chunks: bytes) -> None:
    answer = Answer(peer.connection([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks]), "GET")

    with pytest.raises(HTTPException):
        answer.read()


def test_without_a_length_the_end_of_the_connection_is_the_end(peer: _Peer) -> None:
    answer = Answer(peer.connection([b"HTTP/1.1 200 OK\r\n\r\nall", b" of it"]), "GET")

    assert answer.read() == b"all of it"
    assert not answer.is_reusable


def test_the_answer_to_a_head_has_no_body_whatever_it_announces(peer: _Peer) -> None:
    answer = Answer(peer.connection([b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"], silent_after=True), "HEAD")

    assert answer.read() == b""
    assert (answer.header("content-length"), answer.is_reusable) == ("10", True)


def test_what_a_server_says_before_its_answer_is_passed_over(peer: _Peer) -> None:
    said = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"

    assert Answer(peer.connection([said]), "PUT").status == 204


@pytest.mark.parametrize(
    "said",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000,
        b"HTTP/1.1 200 OK\r\nContent-Len",
        b"",
    ],
)
def test_what_is_no_answer_is_an_error(peer: _Peer, said: bytes) -> None:
    with pytest.raises((BadAnswerError, TruncatedError)):
        Answer(peer.connection([said]), "GET")


@pytest.mark.parametrize(("extra", "surplus"), [(b"Connection: close\r\n", b""), (b"", b"HTTP/1.1 200 OK\r\n\r\n")])
def test_a_connection_is_used_again_only_where_nothing_is_left_of_it(peer: _Peer, extra: bytes, surplus: bytes) -> None:
    said = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n" + extra + b"\r\nok" + surplus
    answer = Answer(peer.connection([said]), "GET")

    assert answer.read() == b"ok"
    assert not answer.is_reusable


def test_a_server_that_falls_silent_is_told_apart_from_one_that_ends(peer: _Peer) -> None:
    connection = peer.connection(
        [b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n123"], silent_after=True, timeout_s=0.1
    )
    answer = Answer(connection, "GET")

    with pytest.raises(TimeoutError, match="silent"):
        answer.read()


@pytest.mark.parametrize("size", [0, 10, 1_000_000])
def test_a_request_arrives_with_its_headers_and_body(peer: _Peer, size: int) -> None:
    connection = peer.connection([b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"], silent_after=True)
    body = b"b" * size
    connection.send("PUT", "/a%20b", {"host": "h", "content-length": str(size)}, body)
    Answer(connection, "PUT").read()
    peer.close()

    assert bytes(peer.received) == f"PUT /a%20b HTTP/1.1\r\nhost: h\r\ncontent-length: {size}\r\n\r\n".encode() + body


def test_no_header_smuggles_in_another_line(peer: _Peer) -> None:
    connection = peer.connection([])

    with pytest.raises(ValueError, match="line break"):
        connection.send("GET", "/", {"if-match": '"x"\r\nx-amz-acl: public-read'}, None)
