"""Serving the simulated catalogue with uvicorn, in one process."""

from __future__ import annotations

import socket
import threading

import uvicorn

from archiver.local.scicat.app import create_scicat
from archiver.local.scicat.config import ScicatConfig


class Server(uvicorn.Server):
    """uvicorn's server; ``ready`` is set once it accepts connections."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to listen."""
        await super().startup(sockets)
        if self.started:
            self.ready.set()


def make_server(config: ScicatConfig, *, host: str = "127.0.0.1", port: int = 0) -> Server:
    """A server for a new catalogue with this configuration; ``run()`` it. It stops within a second or two."""
    app = create_scicat(config)
    return Server(
        uvicorn.Config(
            app,
            host=host,
            port=port,
            http=app.state.connections.protocol(),
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=1,
        )
    )
