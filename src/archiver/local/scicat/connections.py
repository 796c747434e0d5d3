"""The open TCP connections of the server, so that a fault can cut one without a reply."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

Address = tuple[str, int]


class Connections:
    """Transports by the client's address."""

    def __init__(self) -> None:
        self._open: dict[Address, asyncio.Transport] = {}

    def cut(self, client: Address | None) -> None:
        """Close this client's connection; raises ConnectionResetError if it is none of this server's."""
        transport = None if client is None else self._open.get((client[0], client[1]))
        if transport is None:
            raise ConnectionResetError("a connection can be dropped only when served by archiver.local.scicat")
        transport.close()

    def protocol(self) -> type[asyncio.Protocol]:
        """The protocol class a uvicorn server needs for its connections to be known here."""
        known = self._open

        class KnownConnection(H11Protocol):
            """uvicorn's HTTP protocol, entered in the table while its connection is open."""

            _peer: Address | None = None

            def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
                """Enter the connection."""
                peer = transport.get_extra_info("peername")
                if peer is not None:
                    self._peer = (str(peer[0]), int(peer[1]))
                    known[self._peer] = transport
                super().connection_made(transport)

            def connection_lost(self, exc: Exception | None) -> None:
                """Remove the connection."""
                if self._peer is not None:
                    known.pop(self._peer, None)
                super().connection_lost(exc)

        return KnownConnection
