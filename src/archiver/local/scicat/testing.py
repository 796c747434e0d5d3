"""A simulated catalogue for tests: served on a free loopback port by a thread of the test's process."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from archiver.local.scicat.config import ScicatConfig
from archiver.local.scicat.server import make_server

_DEADLINE_SECONDS = 20.0


@contextmanager
def run_scicat(config: ScicatConfig, data: Path | None = None) -> Iterator[str]:
    """Serve a catalogue while the block runs; gives its base URL (``http://127.0.0.1:<port>``, no ``/api``).

    ``data`` is the folder that keeps its documents (default: the configuration's, or memory). Raises TimeoutError
    if it does not start or end.
    """
    if data is not None:
        config = config.model_copy(update={"data_folder": data})
    server = make_server(config)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        thread = threading.Thread(
            target=server.run, kwargs={"sockets": [listening]}, name=f"scicat-{port}", daemon=True
        )
        thread.start()
        try:
            if not server.ready.wait(_DEADLINE_SECONDS):
                raise TimeoutError("the simulated catalogue did not start; its log says why")
            yield f"http://127.0.0.1:{port}"
        finally:
            server.should_exit = True
            thread.join(_DEADLINE_SECONDS)
        if thread.is_alive():
            raise TimeoutError("the simulated catalogue did not end")
