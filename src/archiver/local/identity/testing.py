"""Run the identity provider simulator inside a test."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from archiver.local.identity.app import create_identity
from archiver.local.identity.config import IdentityConfig, facility_config
from archiver.local.identity.tokens import Clock

_START_SECONDS = 20.0
_STOP_SECONDS = 10.0
_POLL_SECONDS = 0.01


class MovableClock:
    """A clock for `run_identity` that a test moves: what expires later can be expired now, or long ago."""

    def __init__(self) -> None:
        self.offset_seconds = 0.0

    def __call__(self) -> float:
        """Give Unix seconds, moved by `offset_seconds`."""
        return time.time() + self.offset_seconds


@contextmanager
def run_identity(
    config: IdentityConfig | None = None,
    *,
    data: Path | None = None,
    issuer_url: str | None = None,
    clock: Clock = time.time,
) -> Iterator[str]:
    """Serve a realm (`facility` without a config) on a free loopback port and give its base URL.

    The other arguments are those of `create_identity`. Raises TimeoutError if it does not start or stop in
    time, RuntimeError if it ends while starting.
    """
    app = create_identity(config or facility_config(), data=data, issuer_url=issuer_url, clock=clock)
    server = uvicorn.Server(
        uvicorn.Config(app, log_config=None, proxy_headers=False, ws="none", timeout_graceful_shutdown=1)
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            _await_start(server, thread)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(_STOP_SECONDS)
    if thread.is_alive():
        msg = f"the identity provider simulator did not stop within {_STOP_SECONDS:.0f} s"
        raise TimeoutError(msg)


def _await_start(server: uvicorn.Server, thread: threading.Thread) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not server.started:
        thread.join(_POLL_SECONDS)
        if not thread.is_alive():
            raise RuntimeError("the identity provider simulator ended while starting; see the log above")
        if time.monotonic() > deadline:
            msg = f"the identity provider simulator did not start within {_START_SECONDS:.0f} s"
            raise TimeoutError(msg)
