"""The simulated catalogue as an ASGI application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from archiver.local.scicat import datablocks, datasets, jobs, lifecycle, origdatablocks, users
from archiver.local.scicat.config import ScicatConfig
from archiver.local.scicat.connections import Connections
from archiver.local.scicat.context import Catalogue
from archiver.local.scicat.control import control_routes
from archiver.local.scicat.faults import FaultInjection, Faults
from archiver.local.scicat.routing import RawPath, add_error_replies, add_routes

_ROUTES = [
    *users.ROUTES,
    *datasets.ROUTES,
    *lifecycle.ROUTES,
    *origdatablocks.ROUTES,
    *datablocks.ROUTES,
    *jobs.ROUTES,
]


def create_scicat(config: ScicatConfig) -> FastAPI:
    """A catalogue of its own under ``/api/v3`` and ``/api/v4``, with the simulator's controls under ``/_sim``.

    Serve it with ``server.make_server``; other servers cannot drop connections on demand. Its
    ``state.connections`` is what such a server needs.
    """
    catalogue = Catalogue(config)
    faults = Faults()
    connections = Connections()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await catalogue.close()

    app = FastAPI(
        title="SciCat simulator",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    app.state.catalogue = catalogue
    app.state.connections = connections
    words = add_routes(app, catalogue, _ROUTES)
    app.include_router(control_routes(catalogue, faults))
    add_error_replies(app)
    app.add_middleware(FaultInjection, faults=faults, connections=connections)
    app.add_middleware(RawPath, words=words)
    return app
