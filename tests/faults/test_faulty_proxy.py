"""The proxy that spoils calls: what a client sees of each trouble, and what the server does."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import httpx
import pytest

from support.faulty_proxy import FaultyProxy, Trouble, faulty_proxy


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    seen: list[tuple[str, str, str | None, bytes]]


class _Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert isinstance(self.server, _Server)
        self.server.seen.append((self.command, self.path, self.headers["Host"], body))
        self.send_response(200)
        self.send_header("ETag", "one")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[_Server]:
    with _Server(("127.0.0.1", 0), _Echo) as echo:
        echo.seen = []
        thread = Thread(target=echo.serve_forever)
        thread.start()
        yield echo
        echo.shutdown()
        thread.join()


@pytest.fixture
def proxy(server: _Server) -> Iterator[FaultyProxy]:
    with faulty_proxy(f"http://127.0.0.1:{server.server_port}") as found:
        yield found


def _put(proxy: FaultyProxy, content: bytes = b"content", timeout: float = 30) -> httpx.Response:
    return httpx.put(f"{proxy.url}/a%20b?x=1", content=content, timeout=timeout, trust_env=False)


def test_what_is_not_spoiled_passes_as_it_is(proxy: FaultyProxy, server: _Server) -> None:
    proxy.spoil(Trouble.REFUSED, lambda call: call.startswith("GET "))

    reply = _put(proxy)

    assert (reply.status_code, reply.headers["ETag"], reply.content) == (200, "one", b"content")
    assert server.seen == [("PUT", "/a%20b?x=1", proxy.url.removeprefix("http://"), b"content")]
    assert proxy.calls() == ["PUT /a%20b?x=1"]


def test_a_refused_call_is_answered_without_the_server(proxy: FaultyProxy, server: _Server) -> None:
    proxy.spoil(Trouble.REFUSED)

    assert _put(proxy).status_code == 503
    assert server.seen == []


@pytest.mark.parametrize(("trouble", "heard"), [(Trouble.RESET, 0), (Trouble.REPLY_LOST, 1)])
def test_a_connection_is_reset_before_or_after_the_server_heard(
    trouble: Trouble, heard: int, proxy: FaultyProxy, server: _Server
) -> None:
    proxy.spoil(trouble)

    with pytest.raises(httpx.NetworkError):
        _put(proxy)
    assert len(server.seen) == heard


def test_half_of_a_body_arrives(proxy: FaultyProxy) -> None:
    proxy.spoil(Trouble.TRUNCATED)

    with pytest.raises(httpx.RemoteProtocolError, match="received 3 bytes, expected 7"):
        _put(proxy)


def test_a_slow_body_arrives_whole(proxy: FaultyProxy) -> None:
    proxy.spoil(Trouble.SLOW)

    assert _put(proxy, bytes(5000)).content == bytes(5000)


def test_a_call_that_hangs_is_never_answered(proxy: FaultyProxy, server: _Server) -> None:
    proxy.spoil(Trouble.HANGS)

    with pytest.raises(httpx.ReadTimeout):
        _put(proxy, timeout=0.3)
    assert server.seen == []


def test_only_so_many_calls_are_spoiled_and_none_after_it_is_healed(proxy: FaultyProxy) -> None:
    proxy.spoil(Trouble.REFUSED, times=2)

    assert [_put(proxy).status_code for _ in range(3)] == [503, 503, 200]
    assert proxy.spoiled() == 2
    proxy.spoil(Trouble.REFUSED)
    proxy.heal()
    assert _put(proxy).status_code == 200
